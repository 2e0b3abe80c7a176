"""How batches come from workers: laid into memory that was shared before they were forked.

torch's own way opens, hands over and maps a piece of shared memory for every tensor, which takes longer than to make a
small batch. Here every worker has a few places of a batch's size in turn, and only says which one is filled.
"""

import mmap
import multiprocessing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

PLACES = 4  # of a worker: two batches that wait (DataLoader's prefetch_factor), one that is taken out, and one to fill
LINE = 64  # bytes to which tensors are aligned


class Laid(NamedTuple):
    """A batch on the shelf: where its tensors lie, by name, and what else belongs to it."""

    where: dict[str, tuple[int, torch.dtype, torch.Size]]
    rest: dict[str, Any]  # None in the place of each tensor


class Shelf:
    """Room for the batches of forked workers; what does not fit, or comes from others, goes torch's way.

    The memory has no name: nothing is left of it, however its processes end.
    """

    def __init__(self, workers: int, batch: dict[str, Any]):
        tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
        self.size = sum(_room(tensor) for tensor in tensors)
        self.filled = 0  # batches that this process has laid
        forks = multiprocessing.get_start_method() == "fork"
        self.room = mmap.mmap(-1, workers * PLACES * self.size) if forks and workers and self.size else None

    def __reduce__(self):  # another process cannot have this memory
        return _without_room, ()

    def lay(self, batch: dict[str, Any]) -> "Laid | dict[str, Any]":
        """Return what stands for a batch on its way from a worker; elsewhere, and if there is no room, the batch."""
        worker = get_worker_info()
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        needed = sum(_room(tensor) for tensor in tensors.values())
        if worker is None or self.room is None or needed > self.size:
            return batch
        at = (worker.id * PLACES + self.filled % PLACES) * self.size
        self.filled += 1
        where = {}
        for name, tensor in tensors.items():
            where[name] = (at, tensor.dtype, tensor.shape)
            if tensor.numel():
                self._view(*where[name]).copy_(tensor)
            at += _room(tensor)
        return Laid(where, {name: None if name in where else value for name, value in batch.items()})

    def take(self, sent: Any) -> Any:
        """Return a batch that was laid, copied; anything else as it is."""
        if not isinstance(sent, Laid):
            return sent
        return sent.rest | {name: self._copy(at, dtype, shape) for name, (at, dtype, shape) in sent.where.items()}

    def _copy(self, at: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        """Return what lies somewhere; not by torch, whose threads would take the cores that workers need."""
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        assert self.room is not None
        data = np.frombuffer(self.room, np.uint8, shape.numel() * dtype.itemsize, at).copy()
        return torch.from_numpy(data).view(dtype).reshape(shape)

    def _view(self, at: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        assert self.room is not None
        return torch.frombuffer(self.room, dtype=dtype, count=shape.numel(), offset=at).reshape(shape)


def _without_room() -> Shelf:
    return Shelf(0, {})


def _room(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor takes on a shelf."""
    return -(-tensor.numel() * tensor.element_size() // LINE) * LINE
