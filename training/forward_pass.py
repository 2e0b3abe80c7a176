"""Run a model forward on a batch and compute the gradients of its phases' losses: the work of a training step."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from data.batches import Batch, split_batch
from networks.runtime.compiled import mark_step_begin
from networks.runtime.snapshot import Snapshot
from registry import contract
from registry.attribution import RemedyNote, error_context
from registry.training_position import Now, call_with_now
from training import missing_detach
from util import ranks

ScaleLoss = Callable[[Tensor], Tensor]  # multiplies a loss by the gradient scaler's factor


def run_forward(state: Any, batch: Batch, now: Now) -> Any:
    """Run the model forward on a batch; return the outputs and what computes each phase's gradients: a FullBatch.

    With --accumulate they are MicroBatches, with --cuda_graphs the replay of a graph, which have the same methods.
    """
    if state.graphs.are_on:
        return state.graphs.run_forward(state, batch, now)
    return run_plain_forward(state.model, batch, state.micro_batches, now)


def run_plain_forward(model: Any, batch: Batch, micro_batches: int, now: Now) -> "FullBatch | MicroBatches":
    """Run forward without a graph of CUDA."""
    mark_step_begin()
    if share := ranks.pulse.share:  # as many parts in each process, because they may wait for each other in each part
        micro_batches = max(1, min(micro_batches, *share.counts))
    with error_context("forward", model):
        return MicroBatches(model, batch, micro_batches, now) if micro_batches > 1 else FullBatch(model, batch, now)


class FullBatch:
    """A whole batch: one forward pass that all phases share. `out` is what the model's forward returned."""

    def __init__(self, model: Any, batch: Batch, now: Now):
        self.model, self.batch, self.now, self.out = model, batch, now, call_with_now(model, batch, now=now)
        self.phases: list[Any] = []  # those that have gone backward

    def compute_gradients(self, phase: Any, scale_loss: ScaleLoss) -> dict[str, Any]:
        """Add the gradients of a phase's loss to its networks; return the loss terms, {} for nothing to do."""
        terms = call_with_now(phase.loss, self.batch, self.out, now=self.now)
        if terms != {}:
            total = scale_loss(_own_share() * phase.weight * sum_of_terms(terms, phase, self.model))
            self.phases.append(phase)
            try:
                total.backward()
            except RuntimeError as problem:
                freed = "backward through the graph a second time" in str(problem)
                if freed and (advice := missing_detach.advice(self.phases, self.batch, self.out, self.now)):
                    problem.add_note(RemedyNote(advice))
                raise
        return terms


class MicroBatches:
    """A batch split into equal micro-batches, processed in turn; their gradients add up to those of the whole batch.

    Losses are assumed to be means over the batch. The forward pass of each micro-batch runs once before the first
    phase, without a graph. A phase that trains networks used in that pass runs it again with the same random draws.
    So image pools are queried once per image, and running statistics are updated once per micro-batch.
    `out` is the output for the first micro-batch.
    """

    def __init__(self, model: Any, batch: Batch, count: int, now: Now):
        self.model, self.now = model, now
        self.micro_batches: list[tuple[Batch, float, Snapshot, Any]] = []
        samples, share, self.weight = len(batch["A"]), ranks.pulse.share, _own_share()
        self.shares = [share and share.part(number, count) for number in range(count)]
        for micro_batch, part in zip(split_batch(batch, count), self.shares):
            weight, snapshot = len(micro_batch["A"]) / samples, Snapshot(model)
            with torch.no_grad(), ranks.sharing(part):
                self.micro_batches.append((micro_batch, weight, snapshot, call_with_now(model, micro_batch, now=now)))
        self.out = self.micro_batches[0][-1]

    def compute_gradients(self, phase: Any, scale_loss: ScaleLoss) -> dict[str, Any]:
        """Add the gradients of a phase's loss to its networks; return the loss terms, averaged over the batch."""
        means: dict[str, Any] = {}
        minimised: set[str] = set()
        has_grad = True
        for micro_batch, weight, snapshot, out in self._each():
            # Run forward again with a graph, unless an earlier micro-batch showed that this phase needs none.
            if has_grad:
                with snapshot.restored():
                    recomputed = call_with_now(self.model, micro_batch, now=self.now)
                has_grad = any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(recomputed))
                out = recomputed if has_grad else out
            # Accumulate gradients and the mean of each term.
            terms = call_with_now(phase.loss, micro_batch, out, now=self.now)
            if terms == {}:
                continue
            scale_loss(self.weight * weight * phase.weight * sum_of_terms(terms, phase, self.model)).backward()
            for name, value in terms.items():
                own = weight * (value.detach() if isinstance(value, Tensor) else value)
                means[name] = means[name] + own if name in means else own
                minimised |= {name} if isinstance(value, Tensor) and value.requires_grad else set()
        for name in minimised:
            means[name].requires_grad_()  # which tells them from terms that are only logged, as in a whole batch
        return means

    def _each(self) -> Iterator[tuple[Batch, float, Snapshot, Any]]:
        for share, micro_batch in zip(self.shares, self.micro_batches):
            with ranks.sharing(share):
                yield micro_batch


def _own_share() -> float:
    """Return the part of the batch that is this process's, the weight of its loss in that of all; 1 in one process."""
    share = ranks.pulse.share
    return share.count / share.total if share else 1.0


def sum_of_terms(terms: Any, phase: Any, model: Any) -> Tensor:
    """Return the sum of a loss's terms; raise OptionError if it is not a scalar tensor."""
    total = sum(terms.values()) if isinstance(terms, Mapping) else None
    if not isinstance(total, Tensor) or total.dim():
        contract.check_terms(terms, phase.name, contract.plugin_name(model))
    assert isinstance(total, Tensor)
    return total
