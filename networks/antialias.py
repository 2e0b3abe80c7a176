"""Layers that halve or double the sides of feature maps with a blur, so that no frequency is aliased (Zhang 2019)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BlurPool(nn.Module):
    """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)): blur with [1, 2, 1], then keep every second pixel.

    Edges are reflected. The filter is a buffer, `filt`, of shape (C, 1, 3, 3), as in published weights.
    """

    filt: Tensor
    kernel_size, stride = (3, 3), (2, 2)  # as a convolution's, for receptive fields

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("filt", _binomial_filter(channels, (1.0, 2.0, 1.0)))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


class BlurUpsample(nn.Module):
    """(N, C, H, W) -> (N, C, 2H, 2W): insert zeros, then blur with [1, 3, 3, 1] / 4; edges are replicated.

    This is bilinear interpolation, which torch computes faster. So the buffer `filt`, (C, 1, 4, 4), is only kept for
    published weights; other values are refused when weights are loaded.
    """

    filt: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("filt", 4 * _binomial_filter(channels, (1.0, 3.0, 3.0, 1.0)))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        other: Any = state.get(prefix + "filt")
        own = self.filt
        comparable = isinstance(other, Tensor) and other.shape == own.shape and not own.is_meta
        if comparable and not torch.allclose(other.to(own), own):
            args[-1].append(f"{prefix}filt is another filter than [1, 3, 3, 1], with which this network upsamples")
        super()._load_from_state_dict(state, prefix, *args)


def _binomial_filter(channels: int, row: tuple[float, ...]) -> Tensor:
    """Return row^T row, whose sum is 1, for each channel: (channels, 1, k, k)."""
    one = torch.tensor(row) / sum(row)
    return torch.outer(one, one).repeat(channels, 1, 1, 1)
