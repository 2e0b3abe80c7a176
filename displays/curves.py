"""Losses over epochs for a picture of them: any number of rows, thinned to a bounded number of points."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from displays.loss_history import epoch_rows, step_rows

MAX_POINTS = 1000  # points kept of a line, at most


class Curves:
    """Points of named lines over one x. Beyond MAX_POINTS points, each two neighbours become their mean.

    x: epochs as fractions; lines: {name: values}, None where there was no finite number.
    """

    def __init__(self) -> None:
        self.x: list[float] = []
        self.lines: dict[str, list[float | None]] = {}
        self.stride = 1  # rows behind each point
        self.pending: list[tuple[float, Mapping[str, float | None]]] = []  # rows of the point to come

    def add(self, x: float, values: Mapping[str, float | None]) -> None:
        """Add one row; a line that is new has a gap before it."""
        self.pending.append((x, values))
        if len(self.pending) < self.stride:
            return
        point = self._mean(self.pending)
        self.pending = []
        for name in point[1]:  # in the order they come
            self.lines.setdefault(name, [None] * len(self.x))
        self.x.append(point[0])
        for name, line in self.lines.items():
            line.append(point[1].get(name))
        if len(self.x) >= MAX_POINTS:
            self._halve()

    def _halve(self) -> None:
        self.stride *= 2
        self.x = [_mean(self.x[i : i + 2]) or 0.0 for i in range(0, len(self.x), 2)]
        for name, line in self.lines.items():
            self.lines[name] = [_mean(line[i : i + 2]) for i in range(0, len(line), 2)]

    def _mean(self, rows: list[tuple[float, Mapping[str, float | None]]]) -> tuple[float, dict[str, float | None]]:
        names = list(dict.fromkeys(name for _, values in rows for name in values))
        means = {name: _mean([values.get(name) for _, values in rows]) for name in names}
        return _mean([x for x, _ in rows]) or 0.0, means

    def points(self) -> tuple[list[float], dict[str, list[float | None]]]:
        """Return x and the lines of all points so far, the unfinished last one too; lists of the caller's own."""
        x, lines = list(self.x), {name: list(line) for name, line in self.lines.items()}
        if self.pending:
            mean_x, values = self._mean(self.pending)
            for name in values:
                lines.setdefault(name, [None] * len(x))
            x.append(mean_x)
            for name, line in lines.items():
                line.append(values.get(name))
        return x, lines

    def to_json(self) -> dict[str, Any]:
        """Return {"x", "lines"} of all points so far, in numbers of six digits."""
        x, lines = self.points()
        short = {name: [None if v is None else float(f"{v:.6g}") for v in line] for name, line in lines.items()}
        return {"x": [round(v, 4) for v in x], "lines": short}


def read_curves(log: Path) -> dict[str, Any]:
    """Return the curves that a losses.jsonl holds: of its logged steps, or of whole epochs where there are fewer."""
    steps, epochs = Curves(), Curves()
    for x, values in step_rows(log):
        steps.add(x, values)
    for row in epoch_rows(log):
        epochs.add(float(row["epoch"]), row["mean"])
    return (steps if len(steps.x) + len(steps.pending) > 1 else epochs).to_json()


def _mean(values: list[float] | list[float | None]) -> float | None:
    known = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return sum(known) / len(known) if known else None
