"""The values of a run's metrics at each evaluation: which is the best, and how long ago it was."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metrics import best_of
from metrics.base import Result

MIN_IMPROVEMENT = 0.01  # share of the best value, as --lr_policy plateau has it for losses


@dataclass(frozen=True)
class Row:
    """One evaluation: the epoch at whose end it was made, the training steps done, and each metric's value."""

    epoch: int
    step: int
    values: dict[str, Result]


@dataclass(frozen=True)
class Report:
    """What displays are told of an evaluation.

    better: "lower" or "higher" for each metric. best: (epoch, value) of each metric's best evaluation so far.
    images: {image: {metric: value}} of metrics that compare pairs. training: the same metrics of a few training images.
    copies: the shares of generated and of real images that are near copies of a training image; None if unknown.
    about: the images measured, in words. seconds: time that the evaluation took. stopped: why training ends now, or "".
    """

    row: Row
    better: dict[str, str]
    best: dict[str, tuple[int, float]]
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    copies: tuple[float, float] | None = None
    about: str = ""
    seconds: float = 0.0
    stopped: str = ""


class MetricHistory:
    """The evaluations of a run in order. better: "lower" or "higher" for each metric."""

    def __init__(self, better: Mapping[str, str] | None = None):
        self.better, self.rows = dict(better or {}), list[Row]()

    def best(self, name: str) -> Row | None:
        """Return the evaluation with the best value of a metric, the first of equal ones; NaN is never the best."""
        values = {number: row.values[name].value for number, row in enumerate(self.rows) if name in row.values}
        number = best_of(values, self.better[name])
        return None if number is None else self.rows[number]

    def bests(self) -> dict[str, tuple[int, float]]:
        """Return (epoch, value) of the best evaluation of each metric that has one."""
        found = {name: self.best(name) for name in self.better}
        return {name: (row.epoch, row.values[name].value) for name, row in found.items() if row}

    def waited(self, name: str) -> int:
        """Return the number of evaluations since the best one."""
        best, known = self.best(name), [row for row in self.rows if name in row.values]
        return len(known) - 1 - known.index(best) if best else len(known)

    def improvements(self, name: str) -> list[bool]:
        """Return for each evaluation whether it was better than the best before it by more than MIN_IMPROVEMENT."""
        sign, best, found = -1.0 if self.better[name] == "higher" else 1.0, math.inf, []
        for value in (sign * row.values[name].value for row in self.rows if name in row.values):
            bar = best if math.isinf(best) else best - MIN_IMPROVEMENT * abs(best)
            found.append(value < bar)
            best = value if found[-1] else best
        return found

    def state_dict(self) -> list[dict[str, Any]]:
        """Return all rows as plain numbers, for the state file and metrics.json."""
        return [
            {"epoch": row.epoch, "step": row.step, "values": {name: list(v) for name, v in row.values.items()}}
            for row in self.rows
        ]

    def load_state_dict(self, rows: list[dict[str, Any]]) -> None:
        """Restore what state_dict returned; raise KeyError, TypeError or ValueError if it is damaged."""
        self.rows = [
            Row(row["epoch"], row["step"], {str(name): _checked(v) for name, v in row["values"].items()})
            for row in rows
        ]
        if not all(type(number) is int for row in self.rows for number in (row.epoch, row.step)):
            raise ValueError("its metrics do not name their epochs")


def _checked(numbers: Any) -> Result:
    value, error, n = numbers
    if type(value) is not float or not (error is None or type(error) is float) or type(n) is not int:
        raise ValueError("its metrics are not numbers")
    return Result(value, error, n)
