"""Ids as planes of floats that augmentations can move, with marks that tell ids from what fills the space outside."""

import numpy as np
import torch

MARKS = (1.0, 2.0)  # of pixels that hold an id; a fill is the same number in all planes
MAX_EXACT_FLOAT32 = 1 << 24  # float32 holds every integer up to this one


def to_planes(ids: np.ndarray) -> tuple[torch.Tensor, np.ndarray | int]:
    """Return ids (H, W) as float32 planes (3, H, W), numbered from 0, and the ids of the numbers or the first one."""
    lowest = int(ids.min())
    table: np.ndarray | int = lowest
    if int(ids.max()) - lowest < MAX_EXACT_FLOAT32:
        numbers = ids - lowest
    else:
        table, numbers = np.unique(ids, return_inverse=True)
    marks = (np.full(ids.shape, mark) for mark in MARKS)
    return torch.from_numpy(np.stack([numbers.reshape(ids.shape), *marks]).astype(np.float32)), table


def from_planes(planes: torch.Tensor, table: np.ndarray | int, fill: int) -> np.ndarray:
    """Return the ids of planes as int64 (H, W); `fill` where no pixel of the label map has come to lie."""
    numbers, *marks = planes.numpy()
    inside = (marks[0] == MARKS[0]) & (marks[1] == MARKS[1])
    numbers = np.where(inside, numbers, 0).astype(np.int64)
    return np.where(inside, numbers + table if isinstance(table, int) else table[numbers], fill)


def keeps_ids(planes: torch.Tensor) -> bool:
    """Whether planes still hold whole numbers with their marks, or a fill."""
    numbers, one, two = planes
    marked = (one == MARKS[0]) & (two == MARKS[1]) & (numbers == numbers.round())
    return bool((marked | (one == two)).all())
