"""Normalisation layers, and whether a convolution before a norm has a bias."""

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from networks import whole_batch
from networks.frozen import frozen_parts
from registry.lookup import find
from util import ranks

Norm = Callable[[int], nn.Module]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation (Ulyanov et al. 2016), computed as a group norm with one channel per group.

    Mean and variance are the same. torch's instance norm uses batch norm's kernel, which takes twice the time on a
    CPU and returns a view that an in-place ReLU after it has to copy back in the backward pass. 16-bit channels_last
    input on a CPU is a batch norm of each sample, because the group norm's backward pass is slow there. 16-bit input
    on CUDA uses torch's instance norm, because autocast widens the input of a group norm to float32. Other devices use
    it too, because the group norm was never tested there.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.track_running_stats or not is_grouped(input):
            return super().forward(input)
        if has_slow_group_norm(input):
            return _instance_norm_by_sample(input, self.weight, self.bias, self.eps)
        return F.group_norm(input, input.shape[1], self.weight, self.bias, self.eps)


def is_grouped(input: torch.Tensor) -> bool:
    """Whether the instance norm of these feature maps is computed as a group norm."""
    supported = input.is_cpu or (input.is_cuda and input.element_size() > 2)
    return supported and input.dim() == 4 and input.shape[2:].numel() >= 2


def has_slow_group_norm(input: torch.Tensor) -> bool:
    """Whether the group norm of these maps has a slow backward pass: 16 bits, channels_last, on a CPU (20 times)."""
    is_last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
    return input.is_cpu and input.element_size() == 2 and is_last


def _instance_norm_by_sample(
    input: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """Return the instance norm of (N, C, H, W) as a batch norm of each sample, whose statistics are in 32 bits.

    The layout stays. A batch norm computes in 32 bits if its scale has them; so there is always one.
    """
    scale = torch.ones(input.shape[1]) if weight is None else weight.float()
    shift = torch.zeros(input.shape[1]) if bias is None else bias.float()
    found = [F.batch_norm(x, None, None, scale, shift, training=True, eps=eps) for x in input.split(1)]
    return found[0] if len(found) == 1 else torch.cat(found)


class InstanceNormOfImage(nn.InstanceNorm2d):
    """Instance norm with a scale, by the statistics of the image itself in training and in evaluation.

    It has the keys of StarGAN's norms. Its authors' code never uses their running statistics; here they keep their
    initial values.
    """

    def __init__(self, channels: int):
        super().__init__(channels, affine=True, track_running_stats=True)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if has_slow_group_norm(input) and is_grouped(input):
            return _instance_norm_by_sample(input, self.weight, self.bias, self.eps)
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


class _Synchronised(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015) with statistics over the batches of all processes that train.

    Has the keys of torch's BatchNorm and, in one process, its values. torch's own SyncBatchNorm raises an error on a
    CPU. Sums are exchanged by a differentiable all-reduce, so gloo and second derivatives work.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        uses_batch = self.training or self.running_mean is None
        if not (uses_batch and ranks.is_shared()):
            return super().forward(input)
        self._check_input_dim(input)
        shape = (1, -1, *[1] * (input.dim() - 2))
        others = [d for d in range(input.dim()) if d != 1]
        wide = input.float() if input.element_size() < 4 else input  # sums of 16 bits would overflow
        number = wide.new_full((1,), input.numel() / input.shape[1])
        total, n = whole_batch.sum_over_ranks(torch.cat([wide.sum(others), number])).split([input.shape[1], 1])
        mean = total / n
        centred = wide - mean.view(shape)
        var = whole_batch.sum_over_ranks(centred.square().sum(others)) / n
        self._track(mean, var * n / (n - 1).clamp(min=1))
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.weight is not None:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        """Update the running statistics, in training."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(var.to(self.running_var.dtype), factor)


class SyncBatchNorm(_Synchronised, nn.BatchNorm2d):
    """Synchronised nn.BatchNorm2d."""


class _SyncBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """Synchronised nn.BatchNorm1d."""


class _SyncBatchNorm3d(_Synchronised, nn.BatchNorm3d):
    """Synchronised nn.BatchNorm3d."""


SYNCHRONISED: dict[type, type] = {
    nn.BatchNorm1d: _SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm, nn.BatchNorm3d: _SyncBatchNorm3d
}  # fmt: skip


def synchronise(model: nn.Module, wanted: bool = True) -> int:
    """Let all batch norms of a model use the samples of all processes, or not; return how many changed.

    Keys, parameters and hooks stay. Subclasses of torch's layers, and norms inside Frozen networks, stay as they are.
    """
    kinds = SYNCHRONISED if wanted else {sync: plain for plain, sync in SYNCHRONISED.items()}
    frozen = set(frozen_parts(model))
    found = [part for part in model.modules() if type(part) in kinds and part not in frozen]
    for part in found:
        part.__class__ = kinds[type(part)]  # type: ignore[assignment]
    return len(found)


def norm_layer(name: str) -> tuple[Norm, bool]:
    """Return the norm called `name` and whether convolutions before it have a bias.

    They have one before instance norm only (not with `none`). This is the reference's rule; it keeps the keys of
    published weights.
    """
    layer = find("norm", name)
    return layer, layer in (instance, instance_affine)
