"""The formats of an export: which packages each needs, and how a file of it is written."""

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from inference.export.compact import store_in_16_bits
from inference.export.exportable import DIMENSIONS, Exportable
from serialization.safetensors_file import write_tensors
from util.errors import EnvironmentFault, OptionError

METADATA = "ganvas"  # the name under which a file holds the table about its generator, as JSON
Write = Callable[[Exportable, Path], None]


@dataclass(frozen=True)
class Format:
    """A format: the suffix of its files, the packages that write and verify them, and the function that writes one."""

    suffix: str
    packages: tuple[str, ...]
    write: Write


def write_onnx(item: Exportable, path: Path) -> None:
    """Write an ONNX file; inputs and free axes have names."""
    program = torch.onnx.export(
        _recorded(item), dynamo=True, input_names=item.names, output_names=["picture"], verbose=False
    )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(item.about)
    if not item.small:
        program.save(path, external_data=False)
        return
    model = program.model_proto
    store_in_16_bits(model)
    path.write_bytes(model.SerializeToString())


def write_torch_export(item: Exportable, path: Path) -> None:
    """Write a .pt2 file of torch.export."""
    torch.export.save(_recorded(item), path, extra_files={f"{METADATA}.json": json.dumps(item.about)})


def write_torchscript(item: Exportable, path: Path) -> None:
    """Write a TorchScript archive by tracing."""
    traced = torch.jit.trace(item.one_size(item.module()), item.example(), check_trace=False)
    torch.jit.save(traced, path, _extra_files={f"{METADATA}.json": json.dumps(item.about)})


def write_safetensors(item: Exportable, path: Path) -> None:
    """Write the generator's weights, which a program needs the architecture for."""
    network = item.generator.network
    assert network is not None
    state = {k: v for k, v in network.state_dict().items() if isinstance(v, torch.Tensor)}
    if item.half:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    with open(path, "wb") as file:
        write_tensors(state, file, item.about)


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx),
    "torchscript": Format(".pt", (), write_torchscript),
    "torch_export": Format(".pt2", (), write_torch_export),
    "safetensors": Format(".safetensors", ("safetensors",), write_safetensors),
}


def check_format(name: str, pixels: bool = False) -> None:
    """Raise an error if this Python cannot write and verify a format, or if it cannot hold operations on pixels."""
    missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
    if missing:
        which = f"is needed to write and verify --format {name}, and is not installed"
        raise EnvironmentFault("package", ", ".join(missing), which, f"pip install {' '.join(missing)}")
    if name == "torchscript" and (sys.version_info >= (3, 14) or not hasattr(torch.jit, "trace")):
        why = f"PyTorch has no TorchScript in Python {sys.version_info[0]}.{sys.version_info[1]}"
        raise EnvironmentFault("option", "--format torchscript", why, "use --format torch_export, or onnx")
    if name == "safetensors" and pixels:
        why = "safetensors hold weights alone, no operations on pixels"
        raise OptionError("option", "--pixels", why, "omit it, or use --format onnx")


def write(name: str, item: Exportable, path: Path) -> None:
    """Write a file, silently."""
    with _silent(), torch.no_grad():
        FORMATS[name].write(item, path)


def _recorded(item: Exportable) -> Any:
    least = 3 if "instances" in item.names else None  # edges between objects compare neighbours
    names = {letter: Dim(name, min=least if letter in "HW" else None) for letter, name in DIMENSIONS.items()}
    dynamic = [{axis: names[letter] for axis, letter in axes.items()} for axes in item.dynamic_shapes()]
    return torch.export.export(_Function(item.module()), item.example(), dynamic_shapes=(tuple(dynamic),), strict=False)


class _Function(torch.nn.Module):
    """Calls a module with any number of tensors; torch.export needs one signature for all modules."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.module(*inputs)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what torch's exporters print and warn of from the user; errors are raised."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(disabled)
