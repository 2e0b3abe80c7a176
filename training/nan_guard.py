"""React to a NaN or Inf loss or weight: stop, skip the rest of the batch, or roll back (--on_nan)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from serialization.rank_exchange import first_found
from util import ranks
from util.device import copy_to_cpu
from util.errors import Diverged, print_line
from util.progress import Progress

MAX_SKIPS_IN_ROW = 20  # consecutive batches that --on_nan skip skips before it stops the run
MAX_ROLLBACKS = 3  # consecutive rollbacks, or rollbacks to the same state, before --on_nan rollback stops the run


@dataclass
class NanGuard:
    """Checks a phase's losses before its optimiser steps, and the weights before they are saved.

    last_saved_step() returns the step of the newest saved state, or None; roll_back() loads that state.
    deferred: check losses one step later and before each save, because the GPU has computed them by then and the CPU
    need not wait for it. --on_nan skip ignores this, because it must know at once which batch to skip.
    """

    on_nan: str
    last_saved_step: Callable[[], int | None]
    roll_back: Callable[[], None]
    deferred: bool = False
    pending: list["_StepLosses"] = field(default_factory=list)  # losses not checked yet, oldest first
    bad_in_row: int = 0  # consecutive bad steps
    last_bad_step: int = -1
    rollbacks: list[int] = field(default_factory=list)  # the steps of the states that were restored

    def __post_init__(self) -> None:
        self.deferred &= self.on_nan != "skip"

    def check_losses(self, terms: Mapping[str, Any], batch: Mapping[str, Any], progress: Progress) -> bool:
        """Return whether the optimiser may step on these losses; if not, the step ends. May raise Diverged."""
        values = {name: value.detach() if isinstance(value, Tensor) else value for name, value in terms.items()}
        total = copy_to_cpu(sum(values.values()))
        if not self.deferred and not self.pending and math.isfinite(float(total)):
            return True
        images = [str(path) for key in ("path_A", "path_B") for path in batch.get(key, [])[:4]]
        own = getattr(terms, "own", terms)  # of several processes
        self.pending.append(_StepLosses(values, total, images, progress.epoch, progress.step, own))
        return self._check_pending(before=progress.step if self.deferred else progress.step + 1)

    def _check_pending(self, before: int) -> bool:
        """Check the pending losses of steps before `before`; react to the first bad one and drop the others."""
        while self.pending and self.pending[0].step < before:
            losses = self.pending.pop(0)
            if not math.isfinite(float(losses.total)):
                self.pending.clear()
                self._handle_bad_loss(losses)
                return False
        return True

    def _handle_bad_loss(self, losses: "_StepLosses") -> None:
        terms = losses.terms
        name = next((n for n, value in terms.items() if not math.isfinite(float(value))), " + ".join(terms))
        value = float(terms.get(name, losses.total))
        images = losses.images_text()
        between = 2 if self.deferred else 1  # the step that finds a deferred bad loss ends unchecked
        self.bad_in_row = self.bad_in_row + 1 if losses.step <= self.last_bad_step + between else 1
        self.last_bad_step = losses.step
        self._react("loss", name, f"is {value} in epoch {losses.epoch}, step {losses.step + 1}{images}")

    def check_weights(self, state: Mapping[str, Any], progress: Progress) -> None:
        """Raise Diverged, or roll back, if a pending loss or a tensor to be saved is not finite."""
        if not self._check_pending(before=progress.step + 1):
            return
        bad = (key for key, value in state.items() if not _is_finite(value))
        if key := first_found(next(bad, "")):
            why = f"hold NaN or Inf in epoch {progress.epoch}, after step {progress.step}"
            self._react("weights", key, why, can_skip=False)

    def _react(self, thing: str, name: str, why: str, can_skip: bool = True) -> None:
        step = self.last_saved_step()
        may_roll_back = self.bad_in_row <= MAX_ROLLBACKS and self.rollbacks.count(step or 0) < MAX_ROLLBACKS
        saved_text = f"the last good state is from step {step}" if step is not None else "no state was saved before"
        remedy = "lower --lr, or look at these images"
        if self.on_nan == "skip" and can_skip and self.bad_in_row <= MAX_SKIPS_IN_ROW:
            print_line(f"note: {thing} {name!r} {why}: batch skipped ({self.bad_in_row} in a row)")
        elif self.on_nan == "rollback" and step is not None and may_roll_back:
            self.rollbacks.append(step)
            self.roll_back()
            again = f"weights and optimisers are restored from step {step}"
            print_line(f"note: {thing} {name!r} {why}: {again}")
        else:
            raise Diverged(thing, name, f"{why}; {saved_text}", remedy)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(torch.isfinite(value).all())


@dataclass(frozen=True)
class _StepLosses:
    """The losses of a phase, and the details for a message about them."""

    terms: dict[str, Any]
    total: Any
    images: list[str]
    epoch: int
    step: int
    own: Mapping[str, Any]

    def images_text(self) -> str:
        """Return the images, of several processes those of the first one whose losses are not finite, and its rank."""
        text = f"images {', '.join(self.images)}" if self.images else ""
        if ranks.world_size() == 1:
            return text and f" ({text})"
        bad = not all(bool(torch.isfinite(torch.as_tensor(value).detach()).all()) for value in self.own.values())
        who = f"rank {ranks.rank()} of {ranks.world_size()}"
        return first_found(f" ({', '.join(filter(None, (who, text)))})" if bad else "")
