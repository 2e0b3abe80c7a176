"""Compute something for the images of several sides at the same time."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def may_use_threads() -> bool:
    """Whether this process may compute on several cores: a loading worker may not, nor one with OMP_NUM_THREADS=1."""
    return torch.get_num_threads() > 1


def map_sides(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return what a function makes of each item, in order, computed in as many threads as there are items.

    The function must release Python's lock, as Pillow's operations do, and must draw no random numbers.
    """
    others = [_threads(os.getpid()).submit(function, item) for item in items[1:]]
    return [*map(function, items[:1]), *(each.result() for each in others)]


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process; one that was forked has none of its parent's."""
    return ThreadPoolExecutor(max(1, torch.get_num_threads() - 1), "sides")
