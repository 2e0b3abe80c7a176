"""Tell a plug-in's methods when they are called: those that declare a parameter `now` are given one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary


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
    plain = getattr(function, "__func__", function)  # that of a method
    if not isinstance(plain, FunctionType):  # another object may change what it calls
        return _has_now(function)
    known = _known.get(plain)
    if known is None:
        known = _known[plain] = _has_now(function)
    return known


_known: WeakKeyDictionary[FunctionType, bool] = WeakKeyDictionary()  # weak: does not keep a function that was replaced


def _has_now(function: Callable) -> bool:
    try:
        return "now" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function in C has no signature
        return False
