"""Show a discriminator how much the samples of a batch differ (--minibatch_std)."""

from typing import Any

import torch
from torch import Tensor, nn

GROUP = 4  # samples that are compared with each other (Karras et al. 2018, appendix A.1)


def deviation(x: Tensor) -> Tensor:
    """Return (N, 1, ...) of features (N, C, ...): for each group of samples the mean of their standard deviations.

    A group has at most 4 samples, as many as divide N; sample i belongs to group i modulo the number of groups. The
    standard deviation of each value is taken over the group, and averaged (Karras et al. 2018, section 3).
    """
    group = next(n for n in range(min(GROUP, len(x)), 0, -1) if len(x) % n == 0)
    gaps = x.unflatten(0, (group, -1))
    gaps = gaps - gaps.mean(0)
    means = (gaps.square().mean(0) + 1e-8).sqrt().flatten(1).mean(1)
    shape = len(means), *[1] * (x.dim() - 1)
    return means.view(shape).repeat(group, *[1] * (x.dim() - 1)).expand(-1, -1, *x.shape[2:])


def add_minibatch_std(net: nn.Module, in_one_batch: bool = False) -> int:
    """Give each layer that makes predictions, one channel, a further input: the deviation of its batch; count them.

    in_one_batch: whether the model shows generated and real images as the halves of one batch; each has its deviation.
    Its weights for the new input start at 0, so that no random numbers are drawn. Layers whose weight is parametrised,
    as by a spectral norm, are left out.
    """
    found = [part for part in net.modules() if _is_last(part)]
    append = _append_for_halves if in_one_batch else _append
    for layer in (part for part in found if append not in part._forward_pre_hooks.values()):
        weight: Any = layer.weight
        layer.weight = nn.Parameter(torch.cat([weight.detach(), torch.zeros_like(weight[:, :1])], 1))
        inputs = "in_channels" if isinstance(layer, nn.Conv2d) else "in_features"
        setattr(layer, inputs, getattr(layer, inputs) + 1)
        layer.register_forward_pre_hook(append)
    return len(found)


def _is_last(part: nn.Module) -> bool:
    plain = isinstance(part, nn.Conv2d | nn.Linear) and "weight" in part._parameters
    return plain and getattr(part, "out_channels", getattr(part, "out_features", 0)) == 1


def _append(layer: nn.Module, args: tuple) -> Tensor:
    (x,) = args
    return torch.cat([x, deviation(x)], 1)


def _append_for_halves(layer: nn.Module, args: tuple) -> Tensor:
    (x,) = args
    return torch.cat([x, torch.cat([deviation(half) for half in x.chunk(2)])], 1)
