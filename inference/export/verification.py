"""Write an export, load it in a fresh process, compare it with the run's network, and only then give it its name."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.export import fresh_process
from inference.export.exportable import FREE_SIZES, Exportable
from inference.export.formats import FORMATS, write
from util.atomic_write import sync_folder
from util.disk_space import write_error
from util.errors import EnvironmentFault, OptionError, first_line

MAX_DIFFERENCE = 1 / 255  # of the range of values: one of 256 grey levels
PROCESS_TIMEOUT_S = 1800.0


@dataclass
class Case:
    """A file to be verified with some samples, each the inputs of one call."""

    format: str
    item: Exportable
    file: Path
    samples: list[tuple[Tensor, ...]]
    plugins: tuple[str, ...] = ()


@dataclass
class Verdict:
    """The result of one file: the largest difference of each sample, a share of the range of values, or an error."""

    differences: list[float]
    error: str = ""

    @property
    def largest(self) -> float:
        """The largest difference of all samples."""
        return max(self.differences, default=float("inf"))

    @property
    def is_right(self) -> bool:
        """Whether every sample was computed, and none differs too much."""
        return not self.error and self.largest <= MAX_DIFFERENCE


def export_verified(
    name: str, item: Exportable, target: Path, pictures: Sequence[Tensor], plugins: tuple[str, ...] = (),
    is_one_size: bool = False,
) -> tuple[Exportable, Verdict, str]:  # fmt: skip
    """Write a generator to `target`, verified; return what was written, its verdict and why its size is fixed, or "".

    Height and width are free, unless is_one_size or the network does not allow it. Raises EnvironmentFault if the file
    is not right or cannot be written; there is no file then, and an older one stays.
    """
    weights_alone = name == "safetensors"
    reason = "" if is_one_size or weights_alone else item.why_not_free()
    levels = FREE_SIZES[1:] if is_one_size or reason or not item.takes_image else FREE_SIZES
    for level in levels:
        tried = replace(item, free=level, about=item.about | {"sizes": _sizes(item, level)})
        if "H" in level and len(set(two_sizes(tried))) == 1:
            reason = "the network accepts no other size"
            continue
        with _beside(target) as file:
            try:
                write(name, tried, file)
            except Exception as problem:  # of any library, in many forms
                if isinstance(problem, OSError) and problem.errno:
                    raise write_error(target, problem) from problem
                reason = reason or f"{type(problem).__name__}: {first_line(problem)}"[:200]
                if level == levels[-1]:
                    raise _failed(name, target, reason) from problem
                continue
            (verdict,) = verify([Case(name, tried, file, samples_of(tried, pictures), plugins)])
            if verdict.is_right:
                os.replace(file, target)
                sync_folder(target.parent)
                return tried, verdict, "" if is_one_size or "H" in level or not item.takes_image else reason
        first_is_right = bool(verdict.differences) and verdict.differences[0] <= MAX_DIFFERENCE
        if not first_is_right or level == levels[-1]:
            raise _wrong(name, target, verdict)
        reason = reason or verdict.error or f"another size differs by {verdict.largest:.3g} of the range of values"
    raise AssertionError("no size was tried")


def _sizes(item: Exportable, level: str) -> str:
    height, width = item.size
    return "any" if "H" in level and item.takes_image else f"{width}x{height}"


def samples_of(item: Exportable, pictures: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Return the inputs of two calls: of the recorded size, and of another one as far as sizes are free."""
    made = []
    for number, (height, width) in enumerate(two_sizes(item)):
        batch = 1 + number if "N" in item.free and not item.is_single else 1
        turned = [*pictures[number:], *pictures[:number]]  # another picture for each size
        made.append(item.inputs(batch, height, width, turned))
    return made


def two_sizes(item: Exportable) -> list[tuple[int, int]]:
    """Return (height, width) of two images: the recorded size, and one that the network accepts, odd if possible."""
    height, width = item.size
    if "H" not in item.free or not item.takes_image:
        return [item.size] * 2
    odd = (3 * height // 4 | 1, 5 * width // 4 | 1)
    even = (max(16, 3 * height // 64 * 16), max(16, 5 * width // 64 * 16))
    for size in (odd, even, (height, 2 * width)):
        try:
            with torch.no_grad():
                item.generator.net(*item.plain_inputs(1, *size, ()))
            return [item.size, size]
        except Exception:  # a network that does not accept this size
            continue
    return [item.size] * 2


def verify(cases: Sequence[Case]) -> list[Verdict]:
    """Load files in one fresh process and compare what they compute with the runs' networks."""
    with tempfile.TemporaryDirectory(prefix="ganvas_export_") as name:
        folder, table = Path(name), []
        for number, case in enumerate(cases):
            arrays = [f"in_{number}_{k}.npz" for k in range(len(case.samples))]
            for file, inputs in zip(arrays, case.samples, strict=True):
                np.savez(folder / file, *[value.numpy() for value in inputs])
            table.append({"format": case.format, "file": str(case.file.absolute()), "inputs": case.item.names,
                          "arrays": arrays, "plugins": list(case.plugins)})  # fmt: skip
        (folder / "cases.json").write_text(json.dumps(table), encoding="utf-8")
        ended = _run_fresh(folder)
        errors = json.loads((folder / "errors.json").read_text()) if (folder / "errors.json").is_file() else None
        return [_verdict(folder, number, case, errors, ended) for number, case in enumerate(cases)]


def _run_fresh(folder: Path) -> str:
    """Run fresh_process on a folder; return the last line that it prints on stderr."""
    path = os.pathsep.join(dict.fromkeys(str(Path(word).absolute()) for word in sys.path if word))
    argv = [sys.executable, "-P", "-m", fresh_process.__name__, str(folder)]
    environment = os.environ | {"PYTHONPATH": path}
    try:
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=PROCESS_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return first_line(problem)
    return (ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"])[-1]


def _verdict(folder: Path, number: int, case: Case, errors: dict[str, str] | None, ended: str) -> Verdict:
    if errors is None:
        return Verdict([], f"the process that loads it failed: {ended}"[:300])
    error = next((text for key, text in errors.items() if key.partition("_")[0] == str(number)), "")
    differences = []
    for sample, inputs in enumerate(case.samples):
        file = folder / f"{number}_{sample}.npy"
        if not file.is_file():
            break
        made, wanted = np.load(file), case.item.expected(inputs).numpy()
        if made.shape != wanted.shape:
            error = error or f"its result is {_shape(made)}, the network's is {_shape(wanted)}"
            break
        span = 255 if case.item.pixels else 2
        apart = np.abs(made.astype(np.float64) - wanted.astype(np.float64)).max() / span
        differences.append(float(apart) if np.isfinite(apart) else float("inf"))
    return Verdict(differences, error)


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield the name of a file beside the target, which is removed at the end unless it was renamed."""
    file = target.with_name(f"{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def _failed(name: str, target: Path, why: str) -> EnvironmentFault:
    others = " or ".join(other for other in FORMATS if other not in (name, "safetensors"))
    return EnvironmentFault("export", target, f"the network cannot be written as {name} ({why})", f"try {others}")


def _wrong(name: str, target: Path, verdict: Verdict) -> EnvironmentFault:
    why = f"the {name} file differs from the network by {verdict.largest:.3g} of the range of values, more than 1/255"
    why = f"the {name} file fails in a fresh process: {verdict.error}" if verdict.error else why
    return EnvironmentFault("export", target, why, "try another format, or omit --half; no file is left")


def check_target(target: Path, name: str) -> None:
    """Make the target's folder; raise OptionError for a name with another suffix than the format's."""
    if target.suffix != FORMATS[name].suffix:
        why = f"{target} does not end with {FORMATS[name].suffix}, as files of --format {name} do"
        raise OptionError("option", "--output", why, f"name it {target.stem}{FORMATS[name].suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise write_error(target, problem) from problem
