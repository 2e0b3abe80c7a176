"""How generators double the sides of their pictures: by transposed convolution, or by resizing and convolving."""

import torch
from torch import nn
from torch.nn import functional as F

from networks.cpu.winograd_conv import WinogradConv2d


class ResizeConv(WinogradConv2d):
    """(N, C, H, W) -> (N, out, 2H, 2W): each pixel doubled, then a 3x3 convolution (Odena et al. 2016).

    Every output pixel has as many inputs as its neighbours, so that nothing draws a checkerboard by itself. It stands
    in the place of a transposed convolution, under the same keys; that its weight is (out, in, 3, 3), and not
    (in, out, k, k), is all that tells their files apart.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))


def upsample_layer(
    in_channels: int, out_channels: int, kernel_size: int, bias: bool = True, resize: bool = False
) -> nn.Module:
    """Build (N, in_channels, H, W) -> (N, out_channels, 2H, 2W): ResizeConv, or transposed with a 3 or 4 wide one."""
    if resize:
        return ResizeConv(in_channels, out_channels, bias)
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel_size, stride=2, padding=1, output_padding=kernel_size % 2, bias=bias
    )
