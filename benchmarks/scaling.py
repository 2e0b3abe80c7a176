"""Measure how time and memory grow with batch size, image size, network width, files, epochs and workers."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import many_files
from benchmarks.harness import stats
from benchmarks.harness.process import CaseProcess
from util.errors import OptionError

STEP_FLAGS = "--model cycle_gan --netG resnet_6blocks --dataroot demo".split()
CaseFactory = Callable[[float, Path], tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Curve:
    """A measured range of one quantity. make_case(x, folder) returns the class to time at x, and its settings."""

    title: str
    points: tuple[int, ...]
    make_case: CaseFactory
    per_item: bool = False  # whether time is given per item


def step_case(flags: Callable[[int], list[str]]) -> CaseFactory:
    """Return a function that describes a training step with these flags."""
    return lambda x, folder: ("our_cases:TrainingStep", {"argv": [*STEP_FLAGS, *flags(int(x))], "shared": str(folder)})


def make_curves(quick: bool) -> dict[str, Curve]:
    """Return all curves by name; quick: two small points each."""

    def some(*points: int) -> tuple[int, ...]:
        return points[:2] if quick else points

    def size_flags(side: int, width: int) -> list[str]:
        return f"--load_size {side} --crop_size {side} --ngf {width} --ndf {width}".split()

    side, width, pairs = (32, 2, 4) if quick else (128, 16, 100)
    return {
        "batch": Curve("pictures a batch", some(1, 2, 4, 8),
                       step_case(lambda n: [*size_flags(side, width), "--batch_size", str(n)])),
        "size": Curve("side of a picture", some(64, 128, 256, 512), step_case(lambda n: size_flags(n, width // 2))),
        "ngf": Curve("ngf and ndf", some(8, 16, 32, 64), step_case(lambda n: size_flags(side, n))),
        "files": Curve("files, listed and looked at first", some(100, 1000, 10_000, 100_000, 1_000_000), listing_case),
        "epochs": Curve("epochs on the training page, an update", some(10, 30, 100, 300, 1000),
                        lambda n, _: ("our_cases:TrainingPage", {"epochs": int(n)}), per_item=True),
        "workers": Curve("workers, a pair", some(1, 2, 4), lambda n, folder: (
            "our_cases:LoadPairs", {"shared": str(folder), "pairs": pairs, "workers": int(n)}), per_item=True),
    }  # fmt: skip


def listing_case(number: float, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write `number` tiny images; return the class that makes a dataset over them, and its settings."""
    many_files.write_files(folder / "files", int(number))
    time.sleep(2.5)  # because an index of a folder that has just changed is not cached
    return "scaling:DatasetListing", {"folder": str(folder / "files" / "train")}


class DatasetListing:
    """Making a dataset over a folder for the first time: listing files and reading headers."""

    def __init__(self, home: str, folder: str):
        self.folder, self.facts = folder, {"items": 1}
        self.once()  # because imports are not timed

    def once(self) -> None:
        """List the folder with an empty cache and read the first headers."""
        from options.parse import parse
        from registry.lookup import find

        with tempfile.TemporaryDirectory() as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            flags = "--model cycle_gan --load_size 8 --crop_size 8 --gpu_ids -1".split()
            find("dataset", "unaligned")(parse([*flags, "--dataroot", self.folder], "train")).spec()


def measure_point(curve: Curve, x: int, rounds: int) -> dict[str, float]:
    """Return median seconds and peak MB at one point, measured in a new process."""
    memory_disk = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # so that the disk is not measured
    with tempfile.TemporaryDirectory(dir=memory_disk) as folder:
        maker, settings = curve.make_case(x, Path(folder))
        with CaseProcess(maker, settings) as process:
            process.time_runs(1)
            start = time.monotonic()
            seconds: list[float] = []
            while len(seconds) < rounds and (len(seconds) < 2 or time.monotonic() - start < 20):
                seconds += process.time_runs(1)[0]
            items = process.facts["items"] if curve.per_item else 1
            return {"x": x, "seconds": statistics.median(seconds) / items, "peak_mb": process.peak_mb()}


def measure_scaling(names: list[str], quick: bool, rounds: int) -> tuple[dict[str, Any], str]:
    """Return the points and exponents of the named curves, or of all, and their table."""
    curves = make_curves(quick)
    for name in names:
        if name not in curves:
            raise OptionError("option", f"--cases {name}", "is not a curve", f"choose from {', '.join(curves)}")
    fits, rows = {}, []
    bare = bare_memory_mb()
    for name in names or curves:
        curve = curves[name]
        points = [measure_point(curve, x, rounds) for x in curve.points]
        fits[name] = {"points": points, **fit_exponents(points, bare)}
        print(name, fits[name], flush=True)
        rows.append(table_row(curve.title, fits[name]))
    heads = ["grows with", "measured at", "time", "exponent", "last step", "peak MB", "exponent"]
    return fits, stats.markdown_table(heads, rows)


def bare_memory_mb() -> float:
    """Return the MB of a process that has only imported torch; fits subtract them from the peak memory."""
    with CaseProcess("scaling:ImportsOnly", {}) as process:
        return process.peak_mb()


class ImportsOnly:
    """A process that has imported the training code and computes nothing."""

    def __init__(self, home: str):
        import train
        from training.run import Run

        self.imported = train.train_step, Run
        self.facts: dict[str, Any] = {}


def fit_exponents(points: list[dict[str, float]], bare: float) -> dict[str, float]:
    """Return the exponents of time, of time between the last two points, and of memory minus `bare` (in MB)."""
    xs = [p["x"] for p in points]
    times, memory = [p["seconds"] for p in points], [max(1.0, p["peak_mb"] - bare) for p in points]
    return {"time": stats.power_law_exponent(xs, times), "time_last": stats.power_law_exponent(xs[-2:], times[-2:]),
            "memory": stats.power_law_exponent(xs, memory), "bare_mb": bare}  # fmt: skip


def table_row(title: str, fit: dict[str, Any]) -> list[str]:
    """Return a curve's row of the table."""
    points = fit["points"]
    return [title, ", ".join(f"{p['x']:,}" for p in points),
            ", ".join(stats.format_seconds(p["seconds"]) for p in points),
            f"{fit['time']:.2f}", f"{fit['time_last']:.2f}",
            ", ".join(f"{p['peak_mb']:.0f}" for p in points), f"{fit['memory']:.2f}"]  # fmt: skip
