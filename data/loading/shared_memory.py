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

MAX_BATCHES_PER_MESSAGE = 8  # batches of a parcel
TARGET_MESSAGE_BYTES = 8e6  # bytes of a parcel, about; a batch that is larger has its own
# of a worker: two that wait (DataLoader's prefetch_factor), one that is taken out, and one to fill
MESSAGES_PER_WORKER = 4
ALIGNMENT_BYTES = 64  # bytes to which tensors are aligned


class SharedBatch(NamedTuple):
    """A batch on the shelf: where its tensors lie, by name, and what else belongs to it."""

    layout: dict[str, tuple[int, torch.dtype, torch.Size]]
    others: dict[str, Any]  # None in the place of each tensor


class SharedBatchBuffer:
    """Room for the batches of forked workers; what does not fit, or comes from others, goes torch's way.

    fast: whether batches are made so soon that several may wait for each other. The memory has no name: nothing is
    left of it, however its processes end.
    """

    def __init__(self, workers: int, batch: dict[str, Any], fast: bool = False):
        tensors = [value for value in batch.values() if isinstance(value, torch.Tensor)]
        self.slot_bytes = sum(_aligned_bytes(tensor) for tensor in tensors)
        self.written = 0  # batches that this process has laid
        forks = multiprocessing.get_start_method() == "fork"
        in_use = forks and workers > 0 and self.slot_bytes > 0
        fitting = int(TARGET_MESSAGE_BYTES // self.slot_bytes) if in_use and fast else 1
        self.batches_per_message = max(1, min(MAX_BATCHES_PER_MESSAGE, fitting))
        self.slots_per_worker = MESSAGES_PER_WORKER * self.batches_per_message
        self.memory = mmap.mmap(-1, workers * self.slots_per_worker * self.slot_bytes) if in_use else None

    def __reduce__(self):  # another process cannot have this memory
        return _empty_buffer, ()

    def write(self, batch: dict[str, Any]) -> "SharedBatch | dict[str, Any]":
        """Return what stands for a batch on its way from a worker; elsewhere, and if there is no room, the batch."""
        worker = get_worker_info()
        tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
        needed = sum(_aligned_bytes(tensor) for tensor in tensors.values())
        if worker is None or self.memory is None or needed > self.slot_bytes:
            return batch
        offset = (worker.id * self.slots_per_worker + self.written % self.slots_per_worker) * self.slot_bytes
        self.written += 1
        layout = {}
        for name, tensor in tensors.items():
            layout[name] = (offset, tensor.dtype, tensor.shape)
            if tensor.numel():
                self._view(*layout[name]).copy_(tensor)
            offset += _aligned_bytes(tensor)
        return SharedBatch(layout, {name: None if name in layout else value for name, value in batch.items()})

    def read(self, message: Any) -> Any:
        """Return a batch that was laid, copied; anything else as it is."""
        if not isinstance(message, SharedBatch):
            return message
        return message.others | {
            name: self._copy(offset, dtype, shape) for name, (offset, dtype, shape) in message.layout.items()
        }

    def _copy(self, offset: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        """Return what lies somewhere; not by torch, whose threads would take the cores that workers need."""
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        assert self.memory is not None
        data = np.frombuffer(self.memory, np.uint8, shape.numel() * dtype.itemsize, offset).copy()
        return torch.from_numpy(data).view(dtype).reshape(shape)

    def _view(self, offset: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        assert self.memory is not None
        return torch.frombuffer(self.memory, dtype=dtype, count=shape.numel(), offset=offset).reshape(shape)


class BatchGroupSampler(Sampler[list[Any]]):
    """The keys of several batches at a time: what a worker is asked for, makes and hands over at once.

    batches: what yields the keys of each batch. The first parcels hold one batch each, so that none waits for others,
    the next ones two, four and so on.
    """

    def __init__(self, batches: Iterable[list[Any]], workers: int):
        self.batches, self.workers = batches, max(1, workers)
        self.max_batches = 1  # batches of a parcel

    def __iter__(self) -> Iterator[list[Any]]:
        remaining, groups_sent, group_size = iter(self.batches), 0, 1
        while group := list(islice(remaining, group_size)):
            yield [key for keys in group for key in keys]
            groups_sent += 1
            if groups_sent % (2 * self.workers) == 0:
                group_size = min(2 * group_size, self.max_batches)


def _empty_buffer() -> SharedBatchBuffer:
    return SharedBatchBuffer(0, {})


def _aligned_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor takes on a shelf."""
    return -(-tensor.numel() * tensor.element_size() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
