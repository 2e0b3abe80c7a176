"""Learning-rate policies: the factor on --lr for each epoch, a pure function of the epoch and the loss history."""

import math
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


def lr_factor(epoch: int, o: Any, history: list[float]) -> float:
    """Return the factor on --lr for an epoch; raise OptionError if it is not a finite number of at least 0."""
    factor = find("lr_policy", o.lr_policy)(epoch, o, history)
    if not isinstance(factor, Real) or not math.isfinite(factor) or factor < 0:
        why = f"policy '{o.lr_policy}' gives {factor!r} for epoch {epoch}"
        raise OptionError("option", "--lr_policy", why, "return a finite number of at least 0, the factor on --lr")
    return float(factor)


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
    factor, best, waited = 1.0, math.inf, 0
    for figure in history[: epoch - 1]:
        if figure < best * 0.99:
            best, waited = figure, 0
        else:
            waited += 1
        if waited > 5:
            factor, waited = factor * 0.2, 0
    return factor
