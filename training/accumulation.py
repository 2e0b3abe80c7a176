"""How a step goes through its batch: at once, or in parts of which one at a time is in memory (--accumulate)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from networks.runtime.compiled import mark_step_begin
from registry.attribution import during
from util.snapshot import Moment

Batch = dict[str, Any]
Scaled = Callable[[Tensor], Tensor]  # a loss -> that times the gradient scaler's factor


def begin(model: Any, batch: Batch, parts: int) -> "Whole | Parts":
    """Return how a step goes through a batch, forward done."""
    mark_step_begin()
    with during("forward", model):
        return Parts(model, batch, parts) if parts > 1 else Whole(model, batch)


class Whole:
    """A batch at once: one forward pass for all phases. `out` is what it becomes."""

    def __init__(self, model: Any, batch: Batch):
        self.batch, self.out = batch, model(batch)

    def backward(self, phase: Any, scaled: Scaled) -> dict[str, Any]:
        """Add a phase's gradients to those of its networks; return its terms."""
        terms = phase.loss(self.batch, self.out)
        scaled(phase.weight * sum(terms.values())).backward()
        return terms


class Parts:
    """A batch in equal parts, one after another, whose gradients add up to those of the whole.

    Losses are taken for means over a batch. What the networks make of each part is computed before the first phase,
    without graph; each phase that trains networks which took part in it computes it again, with the same draws. So
    pools are asked once for each picture, and running statistics change once, by part. `out` is of the first part.
    """

    def __init__(self, model: Any, batch: Batch, number: int):
        self.model = model
        self.parts: list[tuple[Batch, float, Moment, Any]] = []
        samples = len(batch["A"])
        for part in divided(batch, number):
            moment = Moment(model)
            with torch.no_grad():
                self.parts.append((part, len(part["A"]) / samples, moment, model(part)))
        self.out = self.parts[0][-1]

    def backward(self, phase: Any, scaled: Scaled) -> dict[str, Any]:
        """Add a phase's gradients to those of its networks; return its terms, means over the parts."""
        means: dict[str, Any] = {}
        took_part = True
        for part, share, moment, out in self.parts:
            if took_part:
                with moment.again():
                    anew = self.model(part)
                took_part = any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(anew))
                out = anew if took_part else out
            terms = phase.loss(part, out)
            scaled(share * phase.weight * sum(terms.values())).backward()
            for name, value in terms.items():
                own = share * (value.detach() if isinstance(value, Tensor) else value)
                means[name] = means[name] + own if name in means else own
        return means


def divided(batch: Batch, number: int) -> list[Batch]:
    """Return a batch in `number` parts, at most one a sample: tensors and lists of one entry a sample are cut."""
    samples = len(batch["A"])
    ends = [samples * n // number for n in range(number + 1)]
    return [
        {key: value[start:end] if _of_samples(value, samples) else value for key, value in batch.items()}
        for start, end in pairwise(ends) if start < end
    ]  # fmt: skip


def _of_samples(value: Any, samples: int) -> bool:
    if isinstance(value, Tensor):
        return value.dim() > 0 and len(value) == samples
    return isinstance(value, list | tuple) and len(value) == samples
