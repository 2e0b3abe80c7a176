"""Learning-rate policies: the share of --lr that an epoch trains at, a pure function of the past."""

import math
from numbers import Real
from typing import Any

from registry.lookup import Table, find
from util.errors import OptionError

LR_POLICIES = Table("lr_policy", {  # called as (epoch, o, history): epoch from 1, history one figure per finished epoch
    "linear": "training.lr_schedule:linear",
    "step": "training.lr_schedule:step",
    "plateau": "training.lr_schedule:plateau",
    "cosine": "training.lr_schedule:cosine",
})  # fmt: skip


def lr_factor(epoch: int, o: Any, history: list[float]) -> float:
    """Return the factor on the learning rate for an epoch, constant within it."""
    factor = find("lr_policy", o.lr_policy)(epoch, o, history)
    if not isinstance(factor, Real) or not math.isfinite(factor) or factor < 0:
        why = f"policy '{o.lr_policy}' gives {factor!r} for epoch {epoch}"
        raise OptionError("option", "--lr_policy", why, "let it return a number of at least 0, the factor on --lr")
    return float(factor)


def linear(epoch: int, o: Any, history: list[float]) -> float:
    """1 for n_epochs, then down in a line that would reach 0 one epoch after the last."""
    return 1.0 - max(0, epoch - o.n_epochs) / (o.n_epochs_decay + 1)


def step(epoch: int, o: Any, history: list[float]) -> float:
    """A tenth after every lr_decay_iters epochs."""
    return 0.1 ** ((epoch - 1) // o.lr_decay_iters)


def cosine(epoch: int, o: Any, history: list[float]) -> float:
    """Half a cosine from 1 towards 0 over all epochs (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / (o.n_epochs + o.n_epochs_decay)))


def plateau(epoch: int, o: Any, history: list[float]) -> float:
    """A fifth whenever the figure has not fallen by 1 % for more than 5 epochs (the reference's constants)."""
    factor, best, waited = 1.0, math.inf, 0
    for figure in history[: epoch - 1]:
        if figure < best * 0.99:
            best, waited = figure, 0
        else:
            waited += 1
        if waited > 5:
            factor, waited = factor * 0.2, 0
    return factor
