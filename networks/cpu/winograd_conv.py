"""Winograd convolution for many channels on a CPU, with half the multiplications: up to 1.6 times as fast.

Along the height, a kernel of three (four) rows computes four (three) output rows from six products instead of twelve,
as a one-row convolution in six groups: y = A'((G w) * (B'x)) (Winograd; Lavin and Gray 2016, arXiv:1509.09308). The
rounding error in float32 is twice that of a plain convolution.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.cpu import eligible, torch_private

# Winograd is faster from here on: input and output channels each; pixels x kernel rows; that x input x output channels
MIN_CHANNELS, MIN_ROW_PIXELS, MIN_MULTIPLICATIONS = 64, 3_000, 120_000_000

# Rows of the input and of the kernel are polynomials; their product is computed by its values at these points and at
# infinity.
Matrix = Sequence[Sequence[float]]
POINTS, SCALES = (0, 1, -1, 2, -2), (4, -6, -6, 24, 24)  # scale: the product of the distances to the other points
PRODUCTS = len(POINTS) + 1
BT: Matrix = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)


def fits(conv: nn.Conv2d) -> bool:
    """Return whether Winograd is faster for a layer and large images: 3x3 or 4x4, beyond 64 channels to 64."""
    rows, columns = conv.kernel_size
    return _is_possible(conv) and rows == columns and conv.in_channels * conv.out_channels > MIN_CHANNELS**2


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution that `conv` computes of x, (N, C, H, W), with these weights."""
    if uses_winograd(conv, x):
        return _WinogradFunction.apply(x, weight, bias, *conv.padding)
    return nn.Conv2d._conv_forward(conv, x, weight, bias)


def uses_winograd(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether Winograd is possible and faster for a layer's kernel and channels and x, (N, C, H, W)."""
    if not _is_possible(conv) or torch.compiler.is_compiling() or not eligible.can_use_cpu_kernel(conv, x):
        return False
    if torch_private.has_transform():  # it supports only plain convolutions
        return False
    row_pixels = x.numel() // conv.in_channels * conv.kernel_size[0]
    multiplications = row_pixels * conv.in_channels * conv.out_channels
    return row_pixels >= MIN_ROW_PIXELS and multiplications >= MIN_MULTIPLICATIONS and x.is_contiguous()


def _is_possible(conv: nn.Conv2d) -> bool:
    few = min(conv.in_channels, conv.out_channels) < MIN_CHANNELS
    return not few and conv.kernel_size[0] in (3, 4) and eligible.is_default_conv(conv)


class WinogradConv2d(nn.Conv2d):
    """A convolution that always has this kernel, for plug-ins written before `networks/cpu/kernels.py`."""

    _conv_forward = convolve  # type: ignore[assignment]


class _WinogradFunction(torch.autograd.Function):
    """x (N, C, H, W), weight (O, C, taps, w), bias (O,) or None, zero padding of height and width -> (N, O, h, w)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, pad_height: int, pad_width: int) -> Tensor:
        taps, step = weight.shape[2], _rows_per_tile(weight)
        rows = x.shape[2] + 2 * pad_height - taps + 1
        # the bias goes to the product at point 1 alone, because every row adds that product once
        shift = None if bias is None else F.pad(bias, (len(bias), 4 * len(bias)))
        tiles = _transform_input(x, pad_height, rows, step)
        out = F.conv2d(tiles, _transform_weight(weight), shift, padding=(0, pad_width), groups=PRODUCTS)
        return _join_tiles(_transpose(_evaluation_matrix(step)), out, step)[:, :, :rows].contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, weight, _, *ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (x, weight), (pad_height, pad_width) = ctx.saved_tensors, ctx.padding
        grad_mask, (out_channels, in_channels, taps, width) = ctx.needs_input_grad[:3], weight.shape
        batched = torch_private.is_batched(grad_output)  # vmap over gradients, as for Jacobians
        if torch.is_grad_enabled() or batched:  # second derivatives need differentiable operations
            return *_convolution_gradients(grad_output, x, weight, (pad_height, pad_width), 1, grad_mask), None, None
        step, rows = _rows_per_tile(weight), grad_output.shape[2]
        grad_tiles = _split_tiles(_evaluation_matrix(step), _pad_rows(grad_output, 0, -rows % step), step)
        input_tiles = _transform_input(x, pad_height, rows, step)
        with torch.autocast("cpu", enabled=False):  # eligible.py excludes autocast in forward
            dx, dw, db = _convolution_gradients(
                grad_tiles, input_tiles, _transform_weight(weight), (0, pad_width), PRODUCTS, grad_mask
            )
            if grad_mask[0]:
                dx = _join_tiles(_transpose(BT), dx, step)[:, :, pad_height : pad_height + x.shape[2]]
            if grad_mask[1]:
                G = dw.new_tensor(_evaluation_matrix(taps, SCALES))
                dw = (G.T @ dw.view(PRODUCTS, -1)).view(taps, out_channels, in_channels, width).permute(1, 2, 0, 3)
            if grad_mask[2]:
                db = db[out_channels : 2 * out_channels]
        return dx, dw, db, None, None


def _convolution_gradients(
    grad_output: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int], groups: int, grad_mask: Any
) -> Any:
    """Return a convolution's gradients of x, weight and bias."""
    return torch.ops.aten.convolution_backward(
        grad_output, x, weight, [len(weight)], (1, 1), padding, (1, 1), False, (0, 0), groups, grad_mask
    )


def _rows_per_tile(weight: Tensor) -> int:
    return PRODUCTS + 1 - weight.shape[2]


def _evaluation_matrix(number: int, scales: Sequence[int] = (1,) * len(POINTS)) -> Matrix:
    """Return the matrix (6, number) from coefficients to values; at infinity only the last coefficient counts."""
    return [[p**i / s for i in range(number)] for p, s in zip(POINTS, scales)] + [[0] * (number - 1) + [1]]


def _transpose(matrix: Matrix) -> Matrix:
    return list(zip(*matrix))


def _pad_rows(x: Tensor, above: int, below: int) -> Tensor:
    return F.pad(x, (0, 0, above, below)) if above or below else x


def _transform_input(x: Tensor, pad_height: int, rows: int, step: int) -> Tensor:
    """(N, C, H, W) -> (N, 6 C, tiles, W): the input's factor B'x of the products for `rows` output rows."""
    return _split_tiles(BT, _pad_rows(x, pad_height, pad_height + -rows % step), step)


def _transform_weight(weight: Tensor) -> Tensor:
    """(O, C, taps, w) -> (6 O, C, 1, w): the kernel's factor G w of the products."""
    _, in_channels, taps, width = weight.shape
    G = weight.new_tensor(_evaluation_matrix(taps, SCALES))
    return (G @ weight.permute(2, 0, 1, 3).reshape(taps, -1)).view(-1, in_channels, 1, width)


def _split_tiles(matrix: Matrix, x: Tensor, step: int) -> Tensor:
    """(N, C, H, W) -> (N, 6 C, tiles, W): tiles begin `step` rows apart; the matrix multiplies each tile's rows."""
    tiles = x.unfold(2, len(matrix[0]), step).unbind(-1)
    out = x.new_empty(len(x), PRODUCTS, *tiles[0].shape[1:])
    for factors, product in zip(matrix, out.unbind(1)):
        _weighted_sum(factors, tiles, product)
    return out.flatten(1, 2)


def _join_tiles(matrix: Matrix, x: Tensor, step: int) -> Tensor:
    """(N, 6 C, tiles, W) -> (N, C, H, W): the transpose of `_split_tiles` with the transposed matrix."""
    products, height = x.unflatten(1, (PRODUCTS, -1)).unbind(1), step * x.shape[2]
    n, c, _, w = products[0].shape
    out = x.new_empty(n, c, height + len(matrix) - step, w)
    out[:, :, height:] = 0
    for i, factors in enumerate(matrix):
        _weighted_sum(factors, products, out[:, :, i : i + height : step], add=i >= step)  # shared with the next tile
    return out


def _weighted_sum(factors: Sequence[float], tensors: Sequence[Tensor], out: Tensor, add: bool = False) -> None:
    """Write the weighted sum of tensors to `out`, or add it if `add`."""
    terms = [(factor, x) for factor, x in zip(factors, tensors) if factor]
    if not add:
        factor, x = terms.pop(next((i for i, (factor, _) in enumerate(terms) if factor == 1), 0))
        if factor == 1 and terms:
            factor, other = terms.pop()
            torch.add(x, other, alpha=factor, out=out)
        else:
            torch.mul(x, factor, out=out)
    for factor, x in terms:
        out.add_(x, alpha=factor)
