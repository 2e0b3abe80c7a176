"""Loss curves over epochs: any number of rows, averaged down to a bounded number of points."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from displays.loss_history import epoch_rows, step_rows

MAX_POINTS = 1000  # maximum number of points per line


class Curves:
    """Named lines over a common x. At MAX_POINTS points, each pair of neighbours is replaced by its mean.

    x: epochs, fractional; lines: {name: values}, None where a value is missing or not finite.
    """

    def __init__(self) -> None:
        self.x: list[float] = []
        self.lines: dict[str, list[float | None]] = {}
        self.stride = 1  # rows averaged in each point
        self.pending: list[tuple[float, Mapping[str, float | None]]] = []  # rows of the next point

    def add(self, x: float, values: Mapping[str, float | None]) -> None:
        """Add one row; a new line starts with a gap."""
        self.pending.append((x, values))
        if len(self.pending) == self.stride:
            self._add_point()
            if len(self.x) >= MAX_POINTS:
                self._halve()

    def _add_point(self) -> None:
        """Append the mean of the pending rows to all lines."""
        for name in (name for _, values in self.pending for name in values):
            self.lines.setdefault(name, [None] * len(self.x))
        self.x.append(_mean([x for x, _ in self.pending]) or 0.0)
        for name, line in self.lines.items():
            line.append(_mean([values.get(name) for _, values in self.pending]))
        self.pending = []

    def _halve(self) -> None:
        self.stride *= 2
        self.x = [_mean(self.x[i : i + 2]) or 0.0 for i in range(0, len(self.x), 2)]
        for name, line in self.lines.items():
            self.lines[name] = [_mean(line[i : i + 2]) for i in range(0, len(line), 2)]

    def points(self) -> tuple[list[float], dict[str, list[float | None]]]:
        """Return copies of x and the lines, including the unfinished last point."""
        whole = Curves()
        whole.x, whole.lines = list(self.x), {name: list(line) for name, line in self.lines.items()}
        if self.pending:
            whole.pending = self.pending
            whole._add_point()
        return whole.x, whole.lines

    def to_json(self) -> dict[str, Any]:
        """Return {"x", "lines"} of all points; values have six significant digits."""
        x, lines = self.points()
        short = {name: [None if v is None else float(f"{v:.6g}") for v in line] for name, line in lines.items()}
        return {"x": [round(v, 4) for v in x], "lines": short}


def read_curves(log: Path) -> dict[str, Any]:
    """Return the curves of a losses.jsonl: of logged steps, or of epoch means if fewer than two steps are logged."""
    steps, epochs = Curves(), Curves()
    for x, values in step_rows(log):
        steps.add(x, values)
    for row in epoch_rows(log):
        epochs.add(float(row["epoch"]), row["mean"])
    return (steps if len(steps.x) + len(steps.pending) > 1 else epochs).to_json()


def _mean(values: list[float] | list[float | None]) -> float | None:
    known = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return sum(known) / len(known) if known else None
