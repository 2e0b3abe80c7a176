"""Write a run's metrics.json and metrics.csv: every evaluation, the best ones, and the newest values of each image."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from metrics import finite, finite_or_none
from metrics.history import MetricHistory, Report
from util.atomic_write import replace_text
from util.errors import EnvironmentFault

JSON_FILE, CSV_FILE = "metrics.json", "metrics.csv"


def write(folder: Path, history: MetricHistory, report: Report) -> None:
    """Replace both files; EnvironmentFault if the disk refuses."""
    table = {
        "measured": report.about,
        "better": report.better,
        "best": {name: {"epoch": epoch, "value": finite(value)} for name, (epoch, value) in report.best.items()},
        "evaluations": [_row(row) for row in history.state_dict()],
        "training_images": finite_or_none(report.training),
        "images": {name: finite_or_none(values) for name, values in report.images.items()},
    }
    try:
        replace_text(folder / JSON_FILE, json.dumps(table, indent=1) + "\n", errors="surrogateescape")
        replace_text(folder / CSV_FILE, _csv(history))
    except OSError as problem:
        remedy = "free space on that disk or choose another --checkpoints_dir"
        raise EnvironmentFault("folder", folder, problem.strerror or str(problem), remedy) from problem


def _row(row: dict[str, Any]) -> dict[str, Any]:
    values = {
        name: {"value": finite(value), "error": finite(error), "n": n}
        for name, (value, error, n) in row["values"].items()
    }
    return row | {"values": values}


def _csv(history: MetricHistory) -> str:
    """Return a line for each evaluation: epoch, step, and value, standard error and number of images of each metric."""
    names = list(dict.fromkeys(name for row in history.rows for name in row.values))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["epoch", "step", *(f"{name}{part}" for name in names for part in ("", "_error", "_n"))])
    for row in history.rows:
        cells = [row.values.get(name, ("", "", "")) for name in names]
        lines.writerow([row.epoch, row.step, *("" if cell is None else cell for each in cells for cell in each)])
    return text.getvalue()
