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

    def __init__(self, before: int, after: int, bias: bool = True):
        super().__init__(before, after, 3, padding=1, bias=bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))


def doubling(before: int, after: int, kernel: int, bias: bool = True, resize: bool = False) -> nn.Module:
    """Build what takes (N, before, H, W) to (N, after, 2H, 2W): ResizeConv, or transposed with a 3 or 4 wide kernel."""
    if resize:
        return ResizeConv(before, after, bias)
    return nn.ConvTranspose2d(before, after, kernel, stride=2, padding=1, output_padding=kernel % 2, bias=bias)
