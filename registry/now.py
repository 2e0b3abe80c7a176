"""Tell a plug-in's methods when they are called: those that declare a parameter `now` are given one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Now:
    """Where training stands when a method is called. After training (test.py) it is AFTER_TRAINING.

    step: training steps done before this one. epoch: the current epoch, from 1. share: share of training done, in
    [0, 1]. due: names of the phases that run at this step; none in evaluation.
    """

    step: int
    epoch: int
    share: float
    due: frozenset[str] = frozenset()


AFTER_TRAINING = Now(step=0, epoch=0, share=1.0)


def call_with_now(function: Callable, *args: Any, now: Now = AFTER_TRAINING) -> Any:
    """Call a model (its forward counts) or one of its methods with args, and with now=now if it declares `now`."""
    return function(*args, now=now) if declares_now(getattr(function, "forward", function)) else function(*args)


def declares_now(function: Callable) -> bool:
    """Return whether a function has a parameter named `now`."""
    try:
        return "now" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function in C has no signature
        return False
