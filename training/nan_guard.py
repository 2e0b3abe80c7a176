"""What follows when a loss or a weight is no finite number any more: stop, leave the batch out, or go back."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from util.device import fetched
from util.errors import Diverged, printable
from util.progress import Position

ROW = 20  # batches in a row that --on_nan skip leaves out before it gives up
RETURNS = 3  # times that --on_nan rollback goes back in a row, or to one state, before it gives up


class Guard:
    """Judges a phase's losses before its optimiser steps, and the weights before they are saved.

    last_good() returns the step of the newest saved state, None if there is none; go_back() loads it. later: losses
    are judged one step later, and before each save, when they have long been computed: a GPU is never waited for.
    What --on_nan skip leaves out has to be known at once.
    """

    def __init__(self, on_nan: str, last_good: Callable[[], int | None], go_back: Callable[[], None],
                 later: bool = False):  # fmt: skip
        self.on_nan, self.last_good, self.go_back = on_nan, last_good, go_back
        self.later = later and on_nan != "skip"
        self.waiting: list[_Judged] = []  # losses, oldest first
        self.in_row = 0  # bad steps in a row
        self.last_bad = -1  # the newest of them
        self.returns: list[int] = []  # the states gone back to

    def admits(self, terms: Mapping[str, Any], batch: Mapping[str, Any], at: Position) -> bool:
        """Whether an optimiser may step on these losses; if not, the step ends here. May raise Diverged."""
        values = {name: value.detach() if isinstance(value, Tensor) else value for name, value in terms.items()}
        images = [str(path) for key in ("path_A", "path_B") for path in batch.get(key, [])[:4]]
        self.waiting.append(_Judged(values, fetched(sum(values.values())), images, at.epoch, at.step))
        return self._judge(before=at.step if self.later else at.step + 1)

    def _judge(self, before: int) -> bool:
        """Judge the losses of steps before this one; the first bad one ends it."""
        while self.waiting and self.waiting[0].step < before:
            one = self.waiting.pop(0)
            if not math.isfinite(float(one.total)):
                self.waiting.clear()
                self._refuse(one)
                return False
        return True

    def _refuse(self, one: "_Judged") -> None:
        name = next((n for n, value in one.terms.items() if not math.isfinite(float(value))), " + ".join(one.terms))
        value = float(one.terms.get(name, one.total))
        images = f" (images {', '.join(one.images)})" if one.images else ""
        between = 2 if self.later else 1  # the step in which it is judged is left out unjudged
        self.in_row, self.last_bad = self.in_row + 1 if one.step <= self.last_bad + between else 1, one.step
        self._answer("loss", name, f"is {value} in epoch {one.epoch}, step {one.step + 1}{images}")

    def check_weights(self, state: Mapping[str, Any], at: Position) -> None:
        """Raise Diverged, or go back, if a loss that was not judged yet or a tensor that is to be saved is bad."""
        if not self._judge(before=at.step + 1):
            return
        for key, value in state.items():
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                self._answer("weights", key, f"hold NaN or Inf in epoch {at.epoch}, after step {at.step}", skips=False)
                return

    def _answer(self, thing: str, name: str, why: str, skips: bool = True) -> None:
        good = self.last_good()
        stands = f"the last good state is that of step {good}" if good is not None else "no state was saved before"
        remedy = "lower --lr, or look at these images"
        if self.on_nan == "skip" and skips and self.in_row <= ROW:
            print(printable(f"note: {thing} {name!r} {why}: batch left out ({self.in_row} in a row)"), flush=True)
        elif self.on_nan == "rollback" and good is not None and self._may_return(good):
            self.returns.append(good)
            self.go_back()
            again = f"weights and optimisers are those of step {good} again"
            print(printable(f"note: {thing} {name!r} {why}: {again}"), flush=True)
        else:
            raise Diverged(thing, name, f"{why}; {stands}", remedy)

    def _may_return(self, good: int) -> bool:
        return self.in_row <= RETURNS and self.returns.count(good) < RETURNS


@dataclass(frozen=True)
class _Judged:
    """The losses of a phase, with what will be said of them."""

    terms: dict[str, Any]
    total: Any
    images: list[str]
    epoch: int
    step: int
