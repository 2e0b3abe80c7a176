"""How a step goes through its batch: at once, or in parts of which one at a time is in memory (--accumulate)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from networks.runtime.compiled import mark_step_begin
from registry.attribution import error_context
from util.snapshot import Snapshot

Batch = dict[str, Any]
ScaleLoss = Callable[[Tensor], Tensor]  # a loss -> that times the gradient scaler's factor


def forward(model: Any, batch: Batch, micro_batches: int) -> "FullBatch | MicroBatches":
    """Return how a step goes through a batch, forward done."""
    mark_step_begin()
    with error_context("forward", model):
        return MicroBatches(model, batch, micro_batches) if micro_batches > 1 else FullBatch(model, batch)


class FullBatch:
    """A batch at once: one forward pass for all phases. `out` is what it becomes."""

    def __init__(self, model: Any, batch: Batch):
        self.batch, self.out = batch, model(batch)

    def backward(self, phase: Any, scale_loss: ScaleLoss) -> dict[str, Any]:
        """Add a phase's gradients to those of its networks; return its terms."""
        terms = phase.loss(self.batch, self.out)
        scale_loss(phase.weight * sum(terms.values())).backward()
        return terms


class MicroBatches:
    """A batch in equal parts, one after another, whose gradients add up to those of the whole.

    Losses are taken for means over a batch. What the networks make of each part is computed before the first phase,
    without graph; each phase that trains networks which took part in it computes it again, with the same draws. So
    pools are asked once for each picture, and running statistics change once, by part. `out` is of the first part.
    """

    def __init__(self, model: Any, batch: Batch, count: int):
        self.model = model
        self.micro_batches: list[tuple[Batch, float, Snapshot, Any]] = []
        samples = len(batch["A"])
        for micro_batch in split_batch(batch, count):
            weight, snapshot = len(micro_batch["A"]) / samples, Snapshot(model)
            with torch.no_grad():
                self.micro_batches.append((micro_batch, weight, snapshot, model(micro_batch)))
        self.out = self.micro_batches[0][-1]

    def backward(self, phase: Any, scale_loss: ScaleLoss) -> dict[str, Any]:
        """Add a phase's gradients to those of its networks; return its terms, means over the parts."""
        means: dict[str, Any] = {}
        has_grad = True
        for micro_batch, weight, snapshot, out in self.micro_batches:
            if has_grad:
                with snapshot.restored():
                    recomputed = self.model(micro_batch)
                has_grad = any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(recomputed))
                out = recomputed if has_grad else out
            terms = phase.loss(micro_batch, out)
            scale_loss(weight * phase.weight * sum(terms.values())).backward()
            for name, value in terms.items():
                own = weight * (value.detach() if isinstance(value, Tensor) else value)
                means[name] = means[name] + own if name in means else own
        return means


def split_batch(batch: Batch, count: int) -> list[Batch]:
    """Return a batch in `count` parts, at most one a sample: tensors and lists of one entry a sample are cut."""
    samples = len(batch["A"])
    ends = [samples * n // count for n in range(count + 1)]
    return [
        {key: value[start:end] if _is_per_sample(value, samples) else value for key, value in batch.items()}
        for start, end in pairwise(ends) if start < end
    ]  # fmt: skip


def _is_per_sample(value: Any, samples: int) -> bool:
    if isinstance(value, Tensor):
        return value.dim() > 0 and len(value) == samples
    return isinstance(value, list | tuple) and len(value) == samples
