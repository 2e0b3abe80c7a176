"""Average a phase's gradients and losses over the processes that share a batch."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from serialization import exchange
from util import ranks

BUCKET_BYTES = 25e6  # of gradients that one all-reduce adds up, about


class Averaged(dict[str, Any]):
    """Loss terms over all processes; `own` are those of this one."""

    own: Mapping[str, Any]


class GradientAverage:
    """Adds up what each process has computed of a phase, once its backward pass is done.

    Each loss was weighted by its share of the samples, so that sums are what one process computes from the whole batch.
    The first all-reduce, of small numbers, tells which parameters have gradients and which terms there are in some
    process, and counts votes (`ranks.agree`); then follow gradients, in buckets, and terms.
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
        _add_gradients([p for p, has in zip(params, with_grad, strict=True) if has])
        device = params[0].device if params else torch.device("cpu")
        weight = share.count / share.total
        given = [torch.as_tensor(terms.get(name, 0.0), device=device).detach() for name in names]
        values = ranks.add(torch.stack([weight * value.to(torch.float64) for value in given])) if given else ()
        found = Averaged()
        found.own = terms
        for name, value, has in zip(names, values, with_value, strict=True):
            if has:
                own = terms.get(name)
                found[name] = value.to(own.dtype) if isinstance(own, Tensor) else value
                minimised = own is None or (isinstance(own, Tensor) and own.requires_grad)
                found[name].requires_grad_(minimised)  # which tells them from terms that are only logged
        return found

    def _learn_names(self, phase: str, terms: dict[str, Any]) -> None:
        """Agree on the terms of a phase, because a process may lack some."""
        each = exchange.gather(list(terms))
        known = self.names.get(phase, [])
        self.names[phase] = exchange.from_first(lambda: list(dict.fromkeys(sum(each, known))))

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


def _add_gradients(params: list[Any]) -> None:
    """Add up the gradients of these parameters over all processes; the buckets are under way together."""
    for p in params:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    works = []
    for bucket in _buckets(params):
        flat = torch.cat([p.grad.reshape(-1) for p in bucket])
        works.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
    with ranks.waiting():
        for bucket, flat, work in works:
            work.wait()
            for p, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad.copy_(part.view_as(p))


def _buckets(params: list[Any]) -> Iterator[list[Any]]:
    """Yield the parameters in groups of one dtype and device, of about BUCKET_BYTES."""
    groups: dict[Any, list[Any]] = {}
    for p in params:
        groups.setdefault((p.dtype, p.device), []).append(p)
    for group in groups.values():
        bucket: list[Any] = []
        for p in group:
            bucket.append(p)
            if sum(each.nbytes for each in bucket) >= BUCKET_BYTES:
                yield bucket
                bucket = []
        if bucket:
            yield bucket
