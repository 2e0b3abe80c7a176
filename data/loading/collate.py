"""Join samples to batches and hand them from a worker process to the main process."""

from typing import Any

import torch
from torch.utils.data import default_collate, get_worker_info

from data.loading.shared_memory import SharedBatch, SharedBatchBuffer
from util.errors import DataError, UserError

SKIPPED_KEY = "skipped"  # in a sample and a batch: the errors of pictures that others stand in for


def collate(samples: list[Any]) -> dict[str, Any] | UserError:
    """Return samples as one batch, or the first error among them, or an error if their sizes differ."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    skipped = (
        {SKIPPED_KEY: bad}
        if (bad := [problem for sample in samples for problem in sample.get(SKIPPED_KEY, ())])
        else {}
    )
    samples = [rest for sample in samples if (rest := {k: v for k, v in sample.items() if k != SKIPPED_KEY})]
    if not samples:
        return skipped
    for name, first in samples[0].items():
        if isinstance(first, torch.Tensor):
            for sample in samples:
                if sample[name].shape != first.shape:
                    path = sample.get(f"path_{name}", name)
                    sizes = " and ".join("x".join(map(str, s[name].shape[:0:-1])) for s in (samples[0], sample))
                    return DataError("image", path, f"cannot be batched: pictures of {sizes}",
                                     "use --batch_size 1, or a --preprocess that crops")  # fmt: skip
    return {name: _join_values([sample[name] for sample in samples]) for name in samples[0]} | skipped


def _join_values(values: list[Any]) -> Any:
    if not isinstance(values[0], torch.Tensor):
        return default_collate(values)
    return values[0][None] if len(values) == 1 else torch.stack(values)  # no copy of one picture, which may be huge


class BatchCollator:
    """Makes batches of samples; workers hand theirs over by a shelf as soon as it is known how large they are."""

    def __init__(self, workers: int, batch_size: int):
        self.workers, self.batch_size, self.buffer = workers, batch_size, SharedBatchBuffer(0, {})

    def allocate(self, batch: dict[str, Any], fast: bool) -> int:
        """Set up the shelf for batches of this size, before workers are forked; return how many make a parcel."""
        self.buffer = SharedBatchBuffer(self.workers, batch, fast)
        return self.buffer.batches_per_message

    def __call__(self, samples: list[Any]) -> list[Any]:
        """Return a parcel of batches, each as `make_batch` makes it."""
        return [
            self.make_batch(samples[start : start + self.batch_size])
            for start in range(0, len(samples), self.batch_size)
        ]

    def make_batch(self, samples: list[Any]) -> Any:
        """Return a batch, what stands for it on its way from a worker, or the first error among the samples."""
        batch = collate(samples)
        if isinstance(batch, UserError):
            return batch
        message = self.buffer.write(batch)
        if get_worker_info() and not isinstance(message, SharedBatch):
            for value in batch.values():
                if isinstance(value, torch.Tensor):
                    value.share_memory_()  # here, where its failure is heard: in the thread that sends it would be lost
        return message
