"""Join samples to batches and hand them from a worker process to the main process."""

from typing import Any

import torch
from torch.utils.data import default_collate

from data.loading.shared_memory import SharedBatchBuffer
from util.errors import DataError, UserError, first_line

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
    batch: dict[str, Any] = {}
    for name in samples[0]:
        joined = _join_values(name, samples)
        if isinstance(joined, UserError):
            return joined
        batch[name] = joined
    return batch | skipped


def _join_values(name: str, samples: list[Any]) -> Any:
    """Return the samples' values of one key as those of a batch, or the error of a sample that does not fit."""
    lacking = [sample for sample in samples if name not in sample]
    if lacking:
        why = f"has no '{name}', which other samples have"
        return DataError("sample", lacking[0].get("path_A", "?"), why, "return the same keys from every __getitem__")
    values = [sample[name] for sample in samples]
    if not isinstance(values[0], torch.Tensor):
        try:
            return default_collate(values)
        except (TypeError, RuntimeError, KeyError) as problem:
            why = f"its '{name}' cannot be batched ({first_line(problem)[:200]})"
            remedy = "return tensors of one shape, numbers or texts"
            return DataError("sample", samples[0].get("path_A", "?"), why, remedy)
    for sample, value in zip(samples, values):
        if not isinstance(value, torch.Tensor) or value.shape != values[0].shape:
            return _shape_error(name, samples[0], sample)
    return values[0][None] if len(values) == 1 else torch.stack(values)  # a single image may be huge: no copy


def _shape_error(name: str, first: Any, other: Any) -> DataError:
    one, two = (getattr(sample[name], "shape", ()) for sample in (first, other))
    if len(one) == len(two) == 3:
        sizes = " and ".join("x".join(map(str, shape[:0:-1])) for shape in (one, two))
        why = f"cannot be batched: images of {sizes}"
        return DataError(
            "image", other.get(f"path_{name}", name), why, "use --batch_size 1, or a --preprocess that crops"
        )
    why = f"its '{name}' has the shape {tuple(two)}, that of another sample {tuple(one)}: they cannot be batched"
    return DataError("sample", other.get("path_A", "?"), why, "return one shape for all samples, or use --batch_size 1")


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
