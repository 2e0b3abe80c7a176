"""Hand batches from DataLoader workers to the main process in shared memory allocated before fork.

torch opens, sends and maps a new block of shared memory for every tensor, which takes longer than making a small batch.
Here every worker writes to a few slots of a batch's size in turn, and sends only the layout. One request and its answer
wake four threads, which takes as long as making a cached batch, so cached batches are sent several per message.
"""

import mmap
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler, get_worker_info

from data.batches import Batch
from util.device import map_leaves
from util.errors import UserError

MAX_BATCHES_PER_MESSAGE = 8
TARGET_MESSAGE_BYTES = 8e6  # about; a larger batch is sent alone
# two that wait (DataLoader's prefetch_factor), one being read and one being written
MESSAGES_PER_WORKER = 4
ALIGNMENT_BYTES = 64  # of each tensor


class SharedTensor(NamedTuple):
    """The place of a tensor in shared memory; offset in bytes."""

    offset: int
    dtype: torch.dtype
    shape: torch.Size


class SharedBatch(NamedTuple):
    """A batch whose tensors, nested ones too, are in shared memory: each is a SharedTensor."""

    batch: Any


class SharedBatchBuffer:
    """Shared memory for the batches of forked workers; batches that do not fit, or from others, are sent by torch.

    fast: whether batches are made so quickly that several can share a message. The memory is anonymous, so nothing
    remains of it however the processes end.
    """

    def __init__(self, workers: int, batch: dict[str, Any], fast: bool = False):
        self.slot_bytes = sum(_aligned_bytes(tensor) for tensor in _tensors(batch))
        self.written = 0  # batches written by this process
        in_use = multiprocessing.get_start_method() == "fork" and workers > 0 and self.slot_bytes > 0
        fitting = int(TARGET_MESSAGE_BYTES // self.slot_bytes) if in_use and fast else 1
        self.batches_per_message = max(1, min(MAX_BATCHES_PER_MESSAGE, fitting))
        self.slots_per_worker = MESSAGES_PER_WORKER * self.batches_per_message
        self.memory: Any = mmap.mmap(-1, workers * self.slots_per_worker * self.slot_bytes) if in_use else None

    def __reduce__(self):  # a spawned process cannot share this memory
        return SharedBatchBuffer, (0, {})

    def write(self, batch: dict[str, Any]) -> "SharedBatch | dict[str, Any]":
        """Write a worker's batch and return its SharedBatch; return the batch itself if it does not fit.

        Its tensors are then in torch's shared memory. Outside workers a batch is returned as it is.
        """
        worker = get_worker_info()
        if worker is None:
            return batch
        tensors = _tensors(batch)
        needed = sum(_aligned_bytes(tensor) for tensor in tensors)
        if self.memory is None or needed > self.slot_bytes:
            for tensor in tensors:  # a failure here is reported; in the thread that sends it, it would be lost
                tensor.share_memory_()
            return batch
        offset = (worker.id * self.slots_per_worker + self.written % self.slots_per_worker) * self.slot_bytes
        self.written += 1

        def write(value: Any) -> Any:
            nonlocal offset
            if not isinstance(value, torch.Tensor):
                return value
            place = SharedTensor(offset, value.dtype, value.shape)
            if value.numel():
                self._view(*place).copy_(value)
            offset += _aligned_bytes(value)
            return place

        return SharedBatch(map_leaves(write, batch))

    def read(self, message: Any) -> Any:
        """Return a copy of the batch of a SharedBatch; return anything else unchanged."""
        if not isinstance(message, SharedBatch):
            return message
        return map_leaves(
            lambda value: self._copy(*value) if isinstance(value, SharedTensor) else value,
            message.batch,
            is_leaf=lambda value: isinstance(value, SharedTensor),
        )

    def _copy(self, offset: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        """Return a copy of one tensor, made by NumPy because torch's threads would take cores that the workers need."""
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        data = np.frombuffer(self.memory, np.uint8, shape.numel() * dtype.itemsize, offset).copy()
        return torch.from_numpy(data).view(dtype).reshape(shape)

    def _view(self, offset: int, dtype: torch.dtype, shape: torch.Size) -> torch.Tensor:
        return torch.frombuffer(self.memory, dtype=dtype, count=shape.numel(), offset=offset).reshape(shape)


class BatchGroupSampler(Sampler[list[Any]]):
    """Yields the keys of the batches of one message, which a worker makes and sends together.

    batches: yields the keys of each batch. The first messages hold one batch each, so that the first batches arrive
    soon; the next ones hold two, four and so on, up to `max_batches`.
    """

    def __init__(self, batches: Iterable[list[Any]], workers: int):
        self.batches, self.workers = batches, max(1, workers)
        self.max_batches = 1  # per message

    def __iter__(self) -> Iterator[list[Any]]:
        remaining, groups_sent, group_size = iter(self.batches), 0, 1
        while group := list(islice(remaining, group_size)):
            yield [key for keys in group for key in keys]
            groups_sent += 1
            if groups_sent % (2 * self.workers) == 0:
                group_size = min(2 * group_size, self.max_batches)


def _aligned_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes that a tensor takes in a slot."""
    return -(-tensor.numel() * tensor.element_size() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _tensors(batch: Any) -> list[torch.Tensor]:
    """Return all tensors of a batch, in the order of `map_leaves`."""
    found: list[torch.Tensor] = []
    map_leaves(lambda value: found.append(value) if isinstance(value, torch.Tensor) else None, batch)
    return found


class BatchCollator:
    """Makes batches of samples; workers hand them over in shared memory as soon as the batch size in bytes is known.

    join: returns (key, sample) pairs as a batch, or an error.
    """

    def __init__(self, join: Callable[[list[Any]], Batch | UserError], batch_size: int):
        self.join, self.batch_size, self.buffer = join, batch_size, SharedBatchBuffer(0, {})

    def __call__(self, pairs: list[Any]) -> list[Any]:
        """Return the batches of one message, each a SharedBatch in a worker, or an error."""
        starts = range(0, len(pairs), self.batch_size)
        batches = [self.join(pairs[start : start + self.batch_size]) for start in starts]
        return [each if isinstance(each, UserError) else self.buffer.write(each) for each in batches]
