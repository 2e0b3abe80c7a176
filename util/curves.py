"""Losses over epochs for a picture of them: any number of rows, thinned to a bounded number of points."""

import math

LIMIT = 1000  # points kept of a line, at most


class Curves:
    """Points of named lines over one x. Beyond LIMIT points, each two neighbours become their mean.

    x: epochs as fractions; lines: {name: values}, None where there was no finite number.
    """

    def __init__(self) -> None:
        self.x: list[float] = []
        self.lines: dict[str, list[float | None]] = {}
        self.stride = 1  # rows behind each point
        self.waiting: list[tuple[float, dict[str, float | None]]] = []  # rows of the point to come

    def add(self, x: float, values: dict[str, float | None]) -> None:
        """Add one row; a line that is new has a gap before it."""
        self.waiting.append((x, values))
        if len(self.waiting) < self.stride:
            return
        point = self._mean(self.waiting)
        self.waiting = []
        for name in point[1]:  # in the order they come
            self.lines.setdefault(name, [None] * len(self.x))
        self.x.append(point[0])
        for name, line in self.lines.items():
            line.append(point[1].get(name))
        if len(self.x) >= LIMIT:
            self._halve()

    def _halve(self) -> None:
        self.stride *= 2
        self.x = [_mean(self.x[i : i + 2]) or 0.0 for i in range(0, len(self.x), 2)]
        for name, line in self.lines.items():
            self.lines[name] = [_mean(line[i : i + 2]) for i in range(0, len(line), 2)]

    def _mean(self, rows: list[tuple[float, dict[str, float | None]]]) -> tuple[float, dict[str, float | None]]:
        names = list(dict.fromkeys(name for _, values in rows for name in values))
        means = {name: _mean([values.get(name) for _, values in rows]) for name in names}
        return _mean([x for x, _ in rows]) or 0.0, means

    def plain(self) -> dict[str, object]:
        """Return {"x", "lines"} of all points so far, the unfinished last one too; numbers of 6 digits."""
        x, lines = self.x, self.lines
        if self.waiting:
            at, values = self._mean(self.waiting)
            x = [*x, at]
            lines = {name: [*lines.get(name, [None] * len(self.x)), values.get(name)] for name in {**lines, **values}}
        short = {name: [None if v is None else float(f"{v:.6g}") for v in line] for name, line in lines.items()}
        return {"x": [round(v, 4) for v in x], "lines": short}


def _mean(values: list[float] | list[float | None]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None
