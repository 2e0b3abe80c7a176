"""Rules that detect from a run's metrics that it trains too long, learns by heart, or copies training images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics import best_of
from options.best import best_prefix

MAX_EVALUATIONS = 200  # the newest ones, which are looked at
LONG_AGO = 10  # evaluations since the best one
CLEAR_ERRORS = 2.0  # standard errors by which a value is clearly worse than the best
WORSE, BETTER = 0.05, 0.05  # shares of the best value, and of the training value then, that count as clear
COPIED, USUAL = 0.5, 0.1  # shares of copies: among generated images, at least; among real ones, at most


@dataclass(frozen=True)
class Note:
    """A detected problem: its name, the evidence, and one sentence of advice."""

    name: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"health: {self.name}: {self.evidence}; {self.advice}"


def metric_notes(rows: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Return the problems that the evaluations show; rows of losses.jsonl, oldest first."""
    found = [*_overfitting(rows), *_copies(rows)] if rows else []
    return found or _best_passed(rows)  # overfitting says more


def _best_passed(rows: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Check for metrics whose best value is long ago, all of them, and whose newest value is clearly worse."""
    passed = [each for each in _since_best(rows) if len(each.later) >= LONG_AGO and each.is_clearly_worse()]
    known = [name for name in (rows[-1]["better"] if rows else ()) if name in rows[-1]["metrics"]]
    if not passed or len(passed) < len(known):
        return []
    first = passed[0]
    evidence = f"{first.name} was best in epoch {first.best['epoch']} ({first.value(first.best):.4g}) and is "
    evidence += f"{first.value(rows[-1]):.4g} in epoch {rows[-1]['epoch']}, {len(first.later)} evaluations later"
    return [Note("best passed", evidence, f"test with --epoch {best_prefix(first.name)}, and stop with --early_stop")]


def _overfitting(rows: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Check for a metric that has got clearly better on training images and clearly worse on others since its best."""
    for each in _since_best(rows):
        then, now = (row.get("training", {}).get(each.name) for row in (each.best, rows[-1]))
        if len(each.later) < LONG_AGO // 2 or then is None or now is None or not each.is_clearly_worse():
            continue
        if each.sign * (then - now) > BETTER * abs(then):
            evidence = (
                f"since epoch {each.best['epoch']} {each.name} has gone from {then:.4g} to {now:.4g} on training "
            )
            evidence += f"images, and from {each.value(each.best):.4g} to {each.value(rows[-1]):.4g} on those measured"
            advice = "add images, --augment or dropout, make the networks smaller, or stop earlier with --early_stop"
            return [Note("overfitting", evidence, advice)]
    return []


def _copies(rows: Sequence[Mapping[str, Any]]) -> list[Note]:
    """Check for generated images that are mostly near copies of training images, in the last two evaluations."""
    newest = [row.get("copies") or (0.0, 0.0) for row in rows[-2:]]
    if len(newest) < 2 or not all(fakes >= COPIED and reals <= USUAL for fakes, reals in newest):
        return []
    fakes, reals = newest[-1]
    evidence = f"{fakes:.0%} of the generated images are near copies of a training image (of real ones {reals:.0%})"
    advice = "train on more images, with --augment, or stop earlier"
    return [Note("copies of training images", evidence.replace("%", " %"), advice)]


@dataclass(frozen=True)
class _SinceBest:
    """A metric's best evaluation and the later ones; sign: 1 if lower values are better, else -1."""

    name: str
    sign: float
    best: Mapping[str, Any]
    later: list[Mapping[str, Any]]

    def value(self, row: Mapping[str, Any]) -> float:
        """Return the metric's value in an evaluation; NaN if it is not finite."""
        return _value(row, self.name)

    def is_clearly_worse(self) -> bool:
        """Whether the newest half of the later values are all worse than the best by more than chance."""
        best, error = self.value(self.best), self.best["metrics"][self.name][1] or 0.0
        margin = max(WORSE * abs(best), CLEAR_ERRORS * error)
        newest = self.later[-max(1, len(self.later) // 2) :]
        return all(self.sign * (self.value(row) - best) > margin for row in newest)


def _since_best(rows: Sequence[Mapping[str, Any]]) -> Iterator[_SinceBest]:
    for name, direction in (rows[-1]["better"] if rows else {}).items():
        known = [row for row in rows if not math.isnan(_value(row, name))]
        best = best_of({number: _value(row, name) for number, row in enumerate(known)}, direction)
        if best is not None and known[-1] is rows[-1]:
            yield _SinceBest(name, -1.0 if direction == "higher" else 1.0, known[best], known[best + 1 :])


def _value(row: Mapping[str, Any], name: str) -> float:
    value = row["metrics"].get(name, [None])[0]
    return math.nan if value is None else float(value)
