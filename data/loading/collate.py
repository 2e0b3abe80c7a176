"""Join samples to batches and hand them from a worker process to the main process."""

from collections.abc import Callable
from typing import Any

from data.batches import Batch, join_samples
from data.loading.shared_memory import SharedBatchBuffer
from util.errors import UserError

SKIPPED_KEY = "skipped"  # in samples and batches: the errors of images that were replaced or skipped


def collate(samples: list[Any], join: Callable[[list[Any]], Batch] = join_samples) -> Batch | UserError:
    """Return samples as one batch, made by `join`; return an error if one of them is an error, or if `join` raises one.

    The errors of skipped images are joined under SKIPPED_KEY.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    bad = [problem for sample in samples for problem in sample.get(SKIPPED_KEY, ())]
    skipped = {SKIPPED_KEY: bad} if bad else {}
    samples = [rest for sample in samples if (rest := {k: v for k, v in sample.items() if k != SKIPPED_KEY})]
    try:
        return join(samples) | skipped if samples else skipped
    except UserError as problem:
        return problem.with_traceback(None)


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
