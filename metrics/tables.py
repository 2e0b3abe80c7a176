"""Write metrics.json and metrics.csv: every evaluation, and the best one of each metric."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metrics import finite
from metrics.base import Result
from util.atomic_write import replace_text
from util.disk_space import write_error

JSON_FILE, CSV_FILE = "metrics.json", "metrics.csv"
Place = Mapping[str, Any]  # what an evaluation is of: {"epoch": 3, "step": 120}, or nothing for two folders


def write_tables(
    folder: Path,
    evaluations: Sequence[tuple[Place, Mapping[str, Result]]],
    best: Mapping[str, tuple[int | str, float]],
    about: Mapping[str, Any],
) -> None:
    """Replace both files; raise EnvironmentFault if the disk refuses.

    best: (epoch, value) of the best evaluation of each metric. about: what metrics.json says besides, as JSON has it.
    """
    content = {
        "best": {name: {"epoch": epoch, "value": finite(value)} for name, (epoch, value) in best.items()},
        "evaluations": [
            {**place, "values": {name: result_table(result) for name, result in values.items()}}
            for place, values in evaluations
        ],
        **about,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / JSON_FILE, json.dumps(content, indent=1) + "\n", errors="surrogateescape")
        replace_text(folder / CSV_FILE, _csv(evaluations))
    except OSError as problem:
        raise write_error(folder / JSON_FILE, problem) from problem


def result_table(result: Result) -> dict[str, float | int | None]:
    """Return a Result as JSON holds it."""
    return {"value": finite(result.value), "error": finite(result.error), "n": result.n}


def _csv(evaluations: Sequence[tuple[Place, Mapping[str, Result]]]) -> str:
    """Return a line for each evaluation: its place, and value, standard error and number of images of each metric."""
    places = list(dict.fromkeys(word for place, _ in evaluations for word in place))
    names = list(dict.fromkeys(name for _, values in evaluations for name in values))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*places, *(f"{name}{part}" for name in names for part in ("", "_error", "_n"))])
    for place, values in evaluations:
        cells = [cell for name in names for cell in values.get(name, ("", "", ""))]
        lines.writerow([*(place.get(word, "") for word in places), *("" if cell is None else cell for cell in cells)])
    return text.getvalue()
