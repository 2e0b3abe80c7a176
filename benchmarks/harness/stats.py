"""Compute medians and exponents, describe the machine, and write tables into a document between two marks."""

import datetime
import math
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness.process import ROOT, Turn
from util.errors import DataError, first_line

MAX_ERROR_CHARS = 70  # of an error in a table
# flags of a CPU and the units that they stand for, the widest first
UNITS = {"amx_tile": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}


def power_law_exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return p of the power law y = c x^p, fitted by least squares of the logarithms."""
    return statistics.linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys]).slope


def round_medians(timings: dict[str, list[Turn]]) -> dict[str, list[float]]:
    """Return the median seconds of each round by name. timings: from process.time_interleaved."""
    return {name: [statistics.median(seconds) for seconds, _ in turns] for name, turns in timings.items()}


def median_ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """Return how many times as fast as `base` the `other` is: the median of the ratios base / other of the rounds."""
    return statistics.median(one / two for one, two in zip(base, other))


def machine_info() -> dict[str, Any]:
    """Return the date, the hardware and the versions, without host names."""
    rows = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
    model, flags = facts.get("model name", platform.machine()), facts.get("flags", "").split()
    model = model.replace("(R)", "").replace("(TM)", "")
    units = next((f" with {text}" for flag, text in UNITS.items() if flag in flags), "")
    package = (ROOT / "ganvas" / "__init__.py").read_text(encoding="utf-8")
    return {
        "date": datetime.date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model + units,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "torch": version("torch"),
        "GANvas": package.partition('__version__ = "')[2].partition('"')[0],
    }


def headline(info: dict[str, Any]) -> str:
    """Return the line above a table that names date, hardware and versions."""
    gpu_text = f"a GPU ({info['gpu']}) beside " if "gpu" in info else ""
    return (
        f"Measured {info['date']} on {gpu_text}{info['cores']} cores ({info['cpu']}, {info['memory_gb']} GB), "
        f"Python {info['python']}, torch {info['torch']}, GANvas {info['GANvas']}."
    )


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns; missing cells at the end of a row are empty."""
    rows = [[*row, *[""] * (len(heads) - len(row))] for row in rows]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths)) + " |" for line in lines)


def failure_text(problem: Exception) -> str:
    """Return the first line of an error, shortened for a table cell."""
    message = first_line(problem)
    return f"fails: {message if len(message) <= MAX_ERROR_CHARS else message[: MAX_ERROR_CHARS - 1] + '…'}"


def format_seconds(seconds: float) -> str:
    """Return a duration in s, or in ms below 1 s."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def write_between(path: Path, mark: str, text: str) -> None:
    """Replace the text between <!-- mark --> and <!-- /mark --> in a document; raise DataError if they are missing."""
    start_mark, end_mark = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, has_start, tail = path.read_text(encoding="utf-8").partition(start_mark)
    _, has_end, after = tail.partition(end_mark)
    if not (has_start and has_end):
        why = f"has no marks {start_mark} and {end_mark}"
        raise DataError("document", path, why, "put them where the table belongs")
    path.write_text(f"{before}{start_mark}\n{text}\n{end_mark}{after}", encoding="utf-8")
