"""Layers that double the sides of an image: transposed convolution, or nearest-neighbour resize and convolution."""

import torch
from torch import nn
from torch.nn import functional as F

from networks.cpu.kernels import mark_former_kernel


class ResizeConv(nn.Conv2d):
    """(N, C, H, W) -> (N, out, 2H, 2W): nearest-neighbour resize, then a 3x3 convolution (Odena et al. 2016).

    Every output pixel has as many inputs as its neighbours, so the layer does not cause checkerboard patterns. It
    replaces a transposed convolution under the same keys. Only the shape of its weight distinguishes the two in a
    file: (out, in, 3, 3) instead of (in, out, k, k).
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)
        mark_former_kernel(self, "winograd")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))


def upsample_layer(
    in_channels: int, out_channels: int, kernel_size: int, bias: bool = True, resize: bool = False
) -> nn.Module:
    """Build a layer (N, in_channels, H, W) -> (N, out_channels, 2H, 2W): ResizeConv if `resize`, else a transposed
    convolution, whose kernel_size is 3 or 4."""
    if resize:
        return ResizeConv(in_channels, out_channels, bias)
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel_size, stride=2, padding=1, output_padding=kernel_size % 2, bias=bias
    )
