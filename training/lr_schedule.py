"""Learning-rate policies: the factor on --lr for each epoch, a pure function of the epoch and the loss history."""

import math
from collections.abc import Iterable, Mapping
from copy import copy
from numbers import Real
from typing import Any

from registry.lookup import Table, find
from util.errors import OptionError

LR_POLICIES = Table("lr_policy", {  # called as (epoch, o, history): epoch counts from 1; one loss per finished epoch
    "linear": "training.lr_schedule:linear",
    "step": "training.lr_schedule:step",
    "plateau": "training.lr_schedule:plateau",
    "cosine": "training.lr_schedule:cosine",
})  # fmt: skip
FLAGS = ("n_epochs", "n_epochs_decay", "lr_policy", "lr_decay_iters")  # what the policies read


def lr_factor(epoch: int, o: Any, history: list[float], improvements: list[bool] | None = None) -> float:
    """Return the factor on --lr for an epoch; raise OptionError if it is not a finite number of at least 0.

    improvements: for each evaluation so far whether the metric improved; --lr_policy plateau then judges by these.
    """
    policy = find("lr_policy", o.lr_policy)
    by_metric = improvements if policy is plateau else None
    factor = policy(epoch, o, history) if by_metric is None else plateau_factor(by_metric)
    if not isinstance(factor, Real) or not math.isfinite(factor) or factor < 0:
        why = f"policy '{o.lr_policy}' gives {factor!r} for epoch {epoch}"
        raise OptionError("option", "--lr_policy", why, "return a finite number of at least 0, the factor on --lr")
    return float(factor)


def begins_alike(
    o: Any, before: Mapping[str, Any], epochs: int, history: list[float], improvements: list[bool] | None = None
) -> bool:
    """Whether the first epochs have the same factors with the options `before` as with those of `o`."""
    then = copy(o)
    vars(then).update({name: before[name] for name in FLAGS if name in before})
    return all(
        lr_factor(epoch, o, history[: epoch - 1], improvements)
        == lr_factor(epoch, then, history[: epoch - 1], improvements)
        for epoch in range(1, epochs + 1)
    )


def linear(epoch: int, o: Any, history: list[float]) -> float:
    """Return 1 for n_epochs, then decay linearly; it would reach 0 one epoch after the last."""
    return 1.0 - max(0, epoch - o.n_epochs) / (o.n_epochs_decay + 1)


def step(epoch: int, o: Any, history: list[float]) -> float:
    """Multiply by 0.1 after every lr_decay_iters epochs."""
    return 0.1 ** ((epoch - 1) // o.lr_decay_iters)


def cosine(epoch: int, o: Any, history: list[float]) -> float:
    """Return half a cosine from 1 towards 0 over all epochs (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / (o.n_epochs + o.n_epochs_decay)))


def plateau(epoch: int, o: Any, history: list[float]) -> float:
    """Multiply by 0.2 when the loss has not fallen by 1 % for more than 5 epochs (the reference's constants)."""
    best, improvements = math.inf, []
    for figure in history[: epoch - 1]:
        improvements.append(figure < best * 0.99)
        best = figure if improvements[-1] else best
    return plateau_factor(improvements)


def plateau_factor(improvements: Iterable[bool]) -> float:
    """Return the factor after these epochs or evaluations: times 0.2 after each more than 5 without improvement."""
    factor, waited = 1.0, 0
    for improved in improvements:
        waited = 0 if improved else waited + 1
        if waited > 5:
            factor, waited = factor * 0.2, 0
    return factor
