"""Average a phase's gradients and losses over the processes that share a batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from serialization import rank_exchange
from util import ranks

BUCKET_BYTES = 25e6  # of gradients that one all-reduce adds up, about


class Averaged(dict[str, Any]):
    """Loss terms over all processes; `own` are those of this one."""

    own: Mapping[str, Any]


class GradientAverage:
    """Adds up what each process has computed of a phase, once its backward pass is done.

    Each loss was weighted by its share of the samples, so that sums are what one process computes from the whole batch.
    The first all-reduce, of small numbers, tells which parameters have gradients and which terms there are in some
    process, and counts votes (`ranks.agree`); then follow gradients and terms, in buckets.
    In one process it does nothing.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}  # the terms of each phase

    def __call__(self, phase: Any, terms: dict[str, Any]) -> dict[str, Any]:
        """Add up gradients in place, and return the loss terms of the whole batch, {} if no process has any."""
        share = ranks.pulse.share
        if share is None:
            return terms
        trained = [p for net in phase.nets for p in net.parameters() if p.requires_grad]
        params = list(dict.fromkeys(trained))
        if phase.name not in self.names:
            self._learn_names(phase.name, terms)
        names = self.names[phase.name]
        with_grad, with_value, is_new = self._agree(params, names, terms)
        if is_new:
            self._learn_names(phase.name, terms)
            names = self.names[phase.name]
            with_grad, with_value, _ = self._agree(params, names, terms)
        reached = [p for p, has in zip(params, with_grad, strict=True) if has]
        for p in reached:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        values = _weighted_values([terms.get(name, 0.0) for name in names], share.count / share.total, params)
        _add_up([*(p.grad for p in reached if p.grad is not None), values])
        found = Averaged()
        found.own = terms
        for name, value, has in zip(names, values.unbind(), with_value) if names else ():
            if has:
                own = terms.get(name)
                found[name] = value.to(own.dtype) if isinstance(own, Tensor) else value
                minimised = own is None or (isinstance(own, Tensor) and own.requires_grad)
                found[name].requires_grad_(minimised)  # which tells them from terms that are only logged
        return found

    def _learn_names(self, phase: str, terms: dict[str, Any]) -> None:
        """Agree on the terms of a phase, because a process may lack some."""
        each = rank_exchange.gather(list(terms))
        known = self.names.get(phase, [])
        self.names[phase] = rank_exchange.from_first(lambda: list(dict.fromkeys(sum(each, known))))

    def _agree(self, params: list[Tensor], names: list[str], terms: dict[str, Any]) -> tuple[list[int], list[int], int]:
        """Return which parameters have a gradient, and which names a value, in some process; whether one is new."""
        votes = ranks.pulse.votes
        has_grad, has_value = [p.grad is not None for p in params], [name in terms for name in names]
        is_new = bool(terms.keys() - set(names))
        flags = torch.tensor([*has_grad, *has_value, is_new, *votes.values()], dtype=torch.int64)
        counts = [len(params), len(names), 1, len(votes)]
        grads, values, new, agreed = (part.tolist() for part in ranks.add(flags, largest=True).split(counts))
        ranks.pulse.agreed = dict(zip(votes, agreed, strict=True))
        return grads, values, new[0]


def _weighted_values(terms: list[Any], weight: float, params: list[Tensor]) -> Tensor:
    """Return the values of terms times a weight, in one tensor of the gradients' kind, but of at least 32 bits."""
    like = params[0] if params else torch.zeros(())
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.stack(
        [weight * torch.as_tensor(value, device=like.device).detach().to(dtype) for value in terms]
        or [torch.zeros((), dtype=dtype, device=like.device)]
    )


def _add_up(tensors: list[Tensor]) -> None:
    """Add up tensors over all processes in place, in buckets that are under way together."""
    works = []
    for bucket in _buckets(tensors):
        flat = torch.cat([x.reshape(-1) for x in bucket])
        works.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
    with ranks.waiting():
        for bucket, flat, work in works:
            work.wait()
            for x, part in zip(bucket, flat.split([x.numel() for x in bucket]), strict=True):
                x.copy_(part.view_as(x))


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in groups of one dtype and device, of about BUCKET_BYTES."""
    groups: dict[Any, list[Tensor]] = {}
    for x in tensors:
        groups.setdefault((x.dtype, x.device), []).append(x)
    for group in groups.values():
        bucket: list[Tensor] = []
        for x in group:
            bucket.append(x)
            if sum(each.nbytes for each in bucket) >= BUCKET_BYTES:
                yield bucket
                bucket = []
        if bucket:
            yield bucket
