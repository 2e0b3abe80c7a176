"""Join samples to batches, and cut, join and compare batches, whose values may be nested.

In a batch, dictionaries, dataclasses and Parts hold batches; a list or tuple with an entry for each sample holds values
of samples, such as texts or tensors of different lengths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch.utils._pytree import register_pytree_node
from torch.utils.data import default_collate

from util.device import map_leaves, with_fields
from util.errors import DataError, OptionError, first_line

Batch = dict[str, Any]
REMEDY = "return tensors of one shape, numbers or texts, or give the data set a method collate(samples)"
CONSTANTS = (bool, int, float, complex, str, bytes, type(None))


class Parts(tuple):
    """The entries of a list or tuple that each sample has: one batch for each entry."""

    __slots__ = ()


register_pytree_node(Parts, lambda parts: (list(parts), None), lambda parts, _: Parts(parts))


def join_samples(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Return samples as a batch: tensors are stacked, numbers become (N,), texts a list of N; so do nested ones.

    Raises DataError, naming the file of a sample, if their keys or shapes differ.
    """
    return {name: _join(name, [sample.get(name) for sample in samples], samples, {name}) for name in samples[0]}


def _join(name: str, values: list[Any], samples: Sequence[Mapping[str, Any]], keys: Any = ()) -> Any:
    """Return the samples' values under a name, such as "objects.boxes", as one of a batch."""
    for sample in samples if keys else ():
        if name not in sample:
            why = f"has no '{name}', which other samples have"
            raise DataError("sample", sample.get("path_A", "?"), why, "return the same keys from every __getitem__")
    first = values[0]
    if isinstance(first, torch.Tensor):
        for sample, value in zip(samples, values, strict=True):
            if not isinstance(value, torch.Tensor) or value.shape != first.shape:
                raise _shape_error(name, first, value, sample)
        return first[None] if len(values) == 1 else torch.stack(values)  # a single image may be huge: no copy
    if (parts := _parts(first)) is None:
        try:
            return default_collate(values)
        except (TypeError, RuntimeError, KeyError) as problem:
            why = f"its '{name}' cannot be batched ({first_line(problem)[:200]})"
            raise DataError("sample", samples[0].get("path_A", "?"), why, REMEDY) from problem
    each = [_parts(value) for value in values]
    for sample, other in zip(samples, each, strict=True):
        if other is None or other.keys() != parts.keys():
            why = f"its '{name}' cannot be batched (that of another sample has other entries)"
            raise DataError("sample", sample.get("path_A", "?"), why, REMEDY)
    joined = {key: _join(f"{name}.{key}", [e[key] for e in each if e is not None], samples) for key in parts}
    if isinstance(first, Mapping):
        return joined
    if is_dataclass(first):
        return with_fields(first, joined.__getitem__)
    return type(first)(*joined.values()) if hasattr(first, "_fields") else Parts(joined.values())


def _parts(value: Any) -> dict[Any, Any] | None:
    """Return the entries of a container by key; None for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return dict(enumerate(value)) if isinstance(value, list | tuple) else None


def _shape_error(name: str, first: Any, other: Any, sample: Mapping[str, Any]) -> DataError:
    one, two = (tuple(getattr(value, "shape", ())) for value in (first, other))
    if len(one) == len(two) == 3 and name in ("A", "B"):
        sizes = " and ".join("x".join(map(str, shape[:0:-1])) for shape in (one, two))
        why = f"cannot be batched: images of {sizes}"
        return DataError(
            "image", sample.get(f"path_{name}", name), why, "use --batch_size 1, or a --preprocess that crops"
        )
    why = f"its '{name}' has the shape {two}, that of another sample {one}: they cannot be batched"
    remedy = "return one shape for all samples, give the data set a method collate(samples), or use --batch_size 1"
    return DataError("sample", sample.get("path_A", "?"), why, remedy)


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into `count` parts, at most one per sample; cut tensors and lists with one entry per sample.

    Raises OptionError for an object that cannot be cut.
    """
    samples = len(batch["A"])
    ends = [samples * n // count for n in range(count + 1)]

    def is_leaf(value: Any) -> bool:
        return _is_per_sample(value, samples)

    def cut(value: Any, start: int, end: int) -> Any:
        if not (isinstance(value, CONSTANTS) or torch.is_tensor(value) or is_leaf(value)):
            why = f"cannot cut a {type(value).__name__} of a batch into parts"
            raise OptionError("option", "--accumulate", why, "let collate(samples) return tensors or lists, or omit it")
        return value[start:end] if is_leaf(value) else value

    return [
        map_leaves(partial(cut, start=start, end=end), batch, is_leaf=is_leaf)
        for start, end in pairwise(ends)
        if start < end
    ]


def _is_per_sample(value: Any, samples: int) -> bool:
    if isinstance(value, torch.Tensor):
        return value.dim() > 0 and len(value) == samples
    return type(value) in (list, tuple) and len(value) == samples


def concat_batches(group: list[Batch]) -> Batch:
    """Return the concatenated batches, of equal `batch_signature`; a single batch is returned without a copy."""
    if len(group) == 1:
        return group[0]
    samples = len(group[0]["A"])

    def concat(first: Any, *others: Any) -> Any:
        if torch.is_tensor(first):
            return torch.cat([first, *others])
        return [entry for entries in (first, *others) for entry in entries]

    return map_leaves(concat, *group, is_leaf=lambda value: _is_per_sample(value, samples))


def batch_signature(batch: Batch) -> Any:
    """Return a value that is equal for two batches exactly if they can be concatenated."""
    samples = len(batch["A"])

    def sign(value: Any) -> Any:
        if not _is_per_sample(value, samples):
            return object()  # an object equals only itself
        return (value.shape[1:], value.dtype) if torch.is_tensor(value) else type(value)

    return map_leaves(sign, batch, is_leaf=lambda value: _is_per_sample(value, samples)), samples
