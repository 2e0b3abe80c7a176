"""Load exported files in a process of its own and run them: python -P -m inference.export.fresh_process FOLDER.

FOLDER holds cases.json, a list of {"format", "file", "inputs": [names, ...], "arrays": [file.npz, ...]}. The outputs go
to FOLDER/NUMBER_SAMPLE.npy, and what failed to FOLDER/errors.json. Only the packages of a format are imported.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[np.ndarray]


def load_onnx(case: dict[str, Any]) -> Callable[[Arrays], np.ndarray]:
    """Return an ONNX file as a function of arrays."""
    import onnxruntime  # an extra; the other formats do without it

    session = onnxruntime.InferenceSession(case["file"], providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    missing = set(names) - set(case["inputs"])
    assert not missing, f"it asks for {', '.join(sorted(missing))}"
    given = [case["inputs"].index(name) for name in names]
    return lambda arrays: session.run(None, {n: arrays[i] for n, i in zip(names, given, strict=True)})[0]


def load_torchscript(case: dict[str, Any]) -> Callable[[Arrays], np.ndarray]:
    """Return a TorchScript file as a function of arrays."""
    import torch  # an ONNX file must work without it

    return _of_tensors(torch.jit.load(case["file"]))


def load_torch_export(case: dict[str, Any]) -> Callable[[Arrays], np.ndarray]:
    """Return a file of torch.export as a function of arrays."""
    import torch  # as above

    return _of_tensors(torch.export.load(case["file"]).module())


def load_safetensors(case: dict[str, Any]) -> Callable[[Arrays], np.ndarray]:
    """Return the network that a file's weights and metadata describe as a function of arrays."""
    from inference.export.run_loading import network_from_file  # needs torch, as above

    return _of_tensors(network_from_file(Path(case["file"]), case.get("plugins", ())))


LOADERS = {"onnx": load_onnx, "torchscript": load_torchscript, "torch_export": load_torch_export,
           "safetensors": load_safetensors}  # fmt: skip


def _of_tensors(net: Callable[..., Any]) -> Callable[[Arrays], np.ndarray]:
    import torch  # as above

    def call(arrays: Arrays) -> np.ndarray:
        with torch.no_grad():
            return net(*map(torch.from_numpy, arrays)).numpy()

    return call


def main(folder: Path) -> None:
    """Run all cases of a folder."""
    errors: dict[str, str] = {}
    for number, case in enumerate(json.loads((folder / "cases.json").read_text(encoding="utf-8"))):
        key = f"{number}"
        try:
            function = LOADERS[case["format"]](case)
            for sample, file in enumerate(case["arrays"]):
                key = f"{number}_{sample}"
                with np.load(folder / file) as arrays:
                    out = function([arrays[f"arr_{i}"] for i in range(len(arrays.files))])
                np.save(folder / f"{key}.npy", out)
        except Exception as problem:  # of any library: the parent process reports it
            errors[key] = f"{type(problem).__name__}: {problem}".strip().splitlines()[0][:300]
    (folder / "errors.json").write_text(json.dumps(errors), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
