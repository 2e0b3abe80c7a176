"""How batches come from workers: laid into memory shared before they were forked.

torch's own way opens, hands over and maps a piece of shared memory for every tensor, which takes longer than to make a
small batch. Here every worker has a few places of a batch's size in turn, and only says which ones are filled. To ask
and to answer wakes four threads, which takes as long as to make a batch from a cache: of those a parcel holds several.
"""

import mmap
import multiprocessing
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler, get_worker_info

MOST = 8  # batches of a parcel
WEIGHT = 8e6  # bytes of a parcel, about; a batch that is larger has its own
PARCELS = 4  # of a worker: two that wait (DataLoader's prefetch_factor), one that is taken out, and one to fill
LINE = 64  # bytes to which tensors are aligned


class Laid(NamedTuple):
    """A batch on the shelf: where its tensors lie, by name, and what else belongs to it."""

    where: dict[str, tuple[int, torch.dtype, torch.Size]]
    rest: dict[str, Any]  # None in the place of each tensor


class Shelf:
    """Room for the batches of forked workers; what does not fit, or comes from others, goes torch's way.

    quick: whether batches are made so soon that several may wait for each other. The memory has no name: nothing is
    left of it, however its processes end.
    """

    def __init__(self, workers: int, batch: dict[str, Any], quick: bool = False):
        tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
        self.size = sum(_room(tensor) for tensor in tensors)
        self.filled = 0  # batches that this process has laid
        forks = multiprocessing.get_start_method() == "fork"
        here = forks and workers > 0 and self.size > 0
        self.together = max(1, min(MOST, int(WEIGHT // self.size))) if here and quick else 1  # batches of a parcel
        self.places = PARCELS * self.together  # of a worker
        self.room = mmap.mmap(-1, workers * self.places * self.size) if here else None

    def __reduce__(self):  # another process cannot have this memory
        return _without_room, ()

    def lay(self, batch: dict[str, Any]) -> "Laid | dict[str, Any]":
        """Return what stands for a batch on its way from a worker; elsewhere, and if there is no room, the batch."""
        worker = get_worker_info()
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        needed = sum(_room(tensor) for tensor in tensors.values())
        if worker is None or self.room is None or needed > self.size:
            return batch
        at = (worker.id * self.places + self.filled % self.places) * self.size
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


class Parcels(Sampler[list[Any]]):
    """The keys of several batches at a time: what a worker is asked for, makes and hands over at once.

    batches: what yields the keys of each batch. The first parcels hold one batch each, so that none waits for others,
    the next ones two, four and so on.
    """

    def __init__(self, batches: Iterable[list[Any]], workers: int):
        self.batches, self.workers = batches, max(1, workers)
        self.most = 1  # batches of a parcel

    def __iter__(self) -> Iterator[list[Any]]:
        rest, asked, number = iter(self.batches), 0, 1
        while parcel := list(islice(rest, number)):
            yield [key for keys in parcel for key in keys]
            asked += 1
            if asked % (2 * self.workers) == 0:
                number = min(2 * number, self.most)


def _without_room() -> Shelf:
    return Shelf(0, {})


def _room(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor takes on a shelf."""
    return -(-tensor.numel() * tensor.element_size() // LINE) * LINE
