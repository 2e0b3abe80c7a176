"""Normalisation layers, and whether a convolution before a norm has a bias."""

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from registry.lookup import find

Norm = Callable[[int], nn.Module]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016), computed as a group norm with one channel per group.

    Mean and variance are the same. torch's instance norm uses batch norm's kernel, which takes twice the time on a
    CPU and returns a view that an in-place ReLU after it has to copy back in the backward pass. 16-bit input on CUDA
    uses torch's instance norm, because autocast widens the input of a group norm to float32. Other devices use it too,
    because the group norm was never tested there.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.track_running_stats or not is_grouped(input):
            return super().forward(input)
        return F.group_norm(input, input.shape[1], self.weight, self.bias, self.eps)


def is_grouped(input: torch.Tensor) -> bool:
    """Whether the instance norm of these feature maps is computed as a group norm."""
    supported = input.is_cpu or (input.is_cuda and input.element_size() > 2)
    return supported and input.dim() == 4 and input.shape[2:].numel() >= 2


class InstanceNormOfImage(nn.InstanceNorm2d):
    """Instance norm with a scale, by the statistics of the image itself in training and in evaluation.

    It has the keys of StarGAN's norms. Its authors' code never uses their running statistics; here they keep their
    initial values.
    """

    def __init__(self, channels: int):
        super().__init__(channels, affine=True, track_running_stats=True)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if is_grouped(input):
            return F.group_norm(input, input.shape[1], self.weight, self.bias, self.eps)
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


instance = partial(InstanceNorm, affine=False, track_running_stats=False)
instance_affine = partial(InstanceNorm, affine=True, track_running_stats=False)
batch = nn.BatchNorm2d


def layer(channels: int) -> nn.Module:
    """Return layer normalisation (Ba et al. 2016): of all channels and positions of an image, then a scale of each."""
    return nn.GroupNorm(1, channels)


def with_norm(o: Any, norm: str) -> Any:
    """Return the options with another --norm, unless it is empty."""
    changed = copy(o)
    changed.norm = norm or o.norm
    return changed


def none(channels: int) -> nn.Module:
    """Return an Identity, which keeps a norm's place in a Sequential so that the keys of later layers do not change."""
    return nn.Identity()


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) with statistics over the batches of all processes.

    Has the keys of BatchNorm2d and, in one process, its values. torch's own SyncBatchNorm raises an error on a CPU.
    Sums are exchanged by a differentiable all-reduce, so gloo and second derivatives work.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce  # missing in some builds of torch

        sums = torch.cat([input.sum((0, 2, 3)), input.new_full((1,), input.numel() / input.shape[1])])
        total, n = all_reduce(sums).split([input.shape[1], 1])
        mean = total / n
        var = all_reduce((input - mean[:, None, None]).square().sum((0, 2, 3))) / n
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return (input - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


def norm_layer(name: str) -> tuple[Norm, bool]:
    """Return the norm called `name` and whether convolutions before it have a bias.

    They have one before instance norm only (not with `none`). This is the reference's rule; it keeps the keys of
    published weights.
    """
    layer = find("norm", name)
    return layer, layer in (instance, instance_affine)
