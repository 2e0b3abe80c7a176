"""Statistics over the whole batch of a training step, whose samples several processes may share."""

from typing import Any

import torch
from torch import Tensor

from util import ranks


class _Sum(torch.autograd.Function):
    """x -> its sum over all processes; its gradient is that of all their losses, and has gradients itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return ranks.add(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Sum.apply(grads[0].contiguous())


def own_weight() -> float:
    """Return 1, or 0 in a process that computes a stand-in because it has no sample of the batch."""
    share = ranks.pulse.share
    return 0.0 if share is not None and not share.count else 1.0


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; second derivatives exist.

    A stand-in adds nothing, and sends no gradient to the samples of other processes, though it takes part in their
    backward passes.
    """
    if not ranks.is_shared():
        return x
    weight = own_weight()
    total = _Sum.apply(weight * x)
    return total if weight else total.detach() + 0 * total


def mean(x: Tensor) -> Tensor:
    """Return the mean of all values of a batch."""
    if not ranks.is_shared():
        return x.mean()
    total, number = sum_over_ranks(torch.stack([x.sum(), x.new_tensor(float(x.numel()))])).unbind()
    return total / number


def std(x: Tensor) -> Tensor:
    """Return the standard deviation of all values of a batch, with Bessel's correction."""
    if not ranks.is_shared():
        return x.std()
    squares, number = sum_over_ranks(
        torch.stack([(x - mean(x)).square().sum(), x.new_tensor(float(x.numel()))])
    ).unbind()
    return (squares / (number - 1)).sqrt()


def all_samples(x: Tensor) -> tuple[int, Tensor]:
    """Return where this process's samples (N, ...) start among those of all processes, and all of them.

    No gradient flows. In one process this is 0 and x.
    """
    share = ranks.pulse.share
    if share is None:
        return 0, x
    rows = x.new_zeros(share.total, *x.shape[1:])
    start = min(share.start, share.total - len(x))  # of a stand-in: that of another process's sample
    if share.count:
        rows[start : start + len(x)] = x.detach()
    return start, ranks.add(rows)
