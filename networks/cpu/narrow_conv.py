"""Convolutions to few channels, such as a generator's last layer, at the full vector width of a CPU.

By rows: each row of the kernel becomes output channels of a one-row convolution, whose results are added along the
diagonal; 7x7 to 3 channels becomes 1x7 to 21. By columns, if input and output channels are few: several columns of
the result become output channels of a convolution with that stride; 7x7 to 3 channels becomes 7x11 to 15. The result
differs only by the order of summation. It is 1.4 to 2.7 times as fast on a CPU. Gradients belong to the weights of the
forward pass, even if these are changed in place before the backward pass.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.cpu import eligible

VECTOR_CHANNELS = 16  # output channels that a CPU's kernels compute at a time, even if there are fewer
MIN_ROWS = 7  # of a kernel, from which convolving by rows is faster for images of any size
MAX_COLUMN_CHANNELS = 8  # input and output channels up to which convolving by columns is faster


def fits(conv: nn.Conv2d) -> bool:
    """Return whether a layer is faster by rows for images of any size: 7x7 or larger, because sums take time too."""
    rows, columns = conv.kernel_size
    by_rows = _by_rows(conv) and not _by_columns(conv)
    return eligible.is_default_conv(conv) and rows == columns and rows >= MIN_ROWS and by_rows


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution that `conv` computes of x, (N, C, H, W), with these weights."""
    narrow = (_by_columns(conv) or _by_rows(conv)) and eligible.is_default_conv(conv)
    if not narrow or not eligible.can_use_cpu_kernel(conv, x):
        return nn.Conv2d._conv_forward(conv, x, weight, bias)
    return (_convolve_by_columns if _by_columns(conv) else _convolve_by_rows)(x, weight, bias, *conv.padding)


def _by_columns(conv: nn.Conv2d) -> bool:
    return max(conv.in_channels, conv.out_channels) <= MAX_COLUMN_CHANNELS


def _by_rows(conv: nn.Conv2d) -> bool:
    rows, vectors = conv.kernel_size[0], -(-conv.out_channels // VECTOR_CHANNELS)
    return 2 * -(-rows * conv.out_channels // VECTOR_CHANNELS) <= rows * vectors


def _convolve_by_rows(x: Tensor, weight: Tensor, bias: Tensor | None, pad_height: int, pad_width: int) -> Tensor:
    channels, in_channels, rows, _ = weight.shape
    row_weight = weight.permute(2, 0, 1, 3).reshape(rows * channels, in_channels, 1, -1)
    out = F.conv2d(x, row_weight, padding=(pad_height, pad_width)).contiguous()
    n, _, height, width = out.shape
    sample_stride, channel_stride, row_stride, column_stride = out.stride()
    shape = n, rows, channels, height - rows + 1, width
    tap_stride = channels * channel_stride + row_stride  # next kernel row, one row down: the diagonal
    strides = sample_stride, tap_stride, channel_stride, row_stride, column_stride
    out = out.as_strided(shape, strides).sum(1)
    return out if bias is None else out + bias[:, None, None]


def _convolve_by_columns(x: Tensor, weight: Tensor, bias: Tensor | None, pad_height: int, pad_width: int) -> Tensor:
    channels, columns = len(weight), VECTOR_CHANNELS // len(weight)
    width = x.shape[3] + 2 * pad_width - weight.shape[3] + 1
    shifted = [F.pad(weight, (i, columns - 1 - i)) for i in range(columns)]
    column_weight = torch.stack(shifted, 1).flatten(0, 1)
    bias = None if bias is None else bias.repeat_interleave(columns)
    x = F.pad(x, (pad_width, pad_width + -width % columns))
    out = F.conv2d(x, column_weight, bias, stride=(1, columns), padding=(pad_height, 0))
    interleaved = out.unflatten(1, (channels, columns)).permute(0, 1, 3, 4, 2).flatten(3)
    return interleaved[..., :width].contiguous()


class NarrowConv2d(nn.Conv2d):
    """A convolution that always has this kernel, for plug-ins written before `networks/cpu/kernels.py`."""

    _conv_forward = convolve  # type: ignore[assignment]

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
