"""Join samples to batches and hand them from a worker process to the main process."""

from typing import Any

import torch
from torch.utils.data import default_collate

from data.loading.shared_memory import SharedBatchBuffer
from util.errors import DataError, UserError

SKIPPED_KEY = "skipped"  # in samples and batches: the errors of images that were replaced or skipped


def collate(samples: list[Any]) -> dict[str, Any] | UserError:
    """Return samples as one batch; return an error if one of them is an error, or if their sizes differ."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    bad = [problem for sample in samples for problem in sample.get(SKIPPED_KEY, ())]
    skipped = {SKIPPED_KEY: bad} if bad else {}
    samples = [rest for sample in samples if (rest := {k: v for k, v in sample.items() if k != SKIPPED_KEY})]
    if not samples:
        return skipped
    for name, first in samples[0].items():
        if isinstance(first, torch.Tensor):
            for sample in samples:
                if sample[name].shape != first.shape:
                    path = sample.get(f"path_{name}", name)
                    sizes = " and ".join("x".join(map(str, s[name].shape[:0:-1])) for s in (samples[0], sample))
                    why = f"cannot be batched: images of {sizes}"
                    return DataError("image", path, why, "use --batch_size 1, or a --preprocess that crops")
    return {name: _join_values([sample[name] for sample in samples]) for name in samples[0]} | skipped


def _join_values(values: list[Any]) -> Any:
    if not isinstance(values[0], torch.Tensor):
        return default_collate(values)
    return values[0][None] if len(values) == 1 else torch.stack(values)  # a single image may be huge: no copy


class BatchCollator:
    """Makes batches of samples; workers hand them over in shared memory as soon as the batch size in bytes is known."""

    def __init__(self, batch_size: int):
        self.batch_size, self.buffer = batch_size, SharedBatchBuffer(0, {})

    def __call__(self, samples: list[Any]) -> list[Any]:
        """Return the batches of one message, each made by `make_batch`."""
        starts = range(0, len(samples), self.batch_size)
        return [self.make_batch(samples[start : start + self.batch_size]) for start in starts]

    def make_batch(self, samples: list[Any]) -> Any:
        """Return a batch, its SharedBatch in a worker, or the error of `collate`."""
        batch = collate(samples)
        return batch if isinstance(batch, UserError) else self.buffer.write(batch)
