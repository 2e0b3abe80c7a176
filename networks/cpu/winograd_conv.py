"""Convolutions of many channels on a CPU with half the multiplications."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.cpu import eligible

# From which on it pays: channels on either side; pixels times rows of the kernel; that times both sides' channels
CHANNELS, ROWS, WORK = 64, 3_000, 120_000_000
PLAIN = (1, 1), (1, 1), 1, "zeros"  # stride, dilation, groups, mode of padding

# Rows and taps are taken as polynomials, which are multiplied value by value at these points and at infinity.
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


class WinogradConv2d(nn.Conv2d):
    """Conv2d, under its keys, that multiplies half as often where that pays: up to 1.6 times as fast on a CPU.

    Down a picture a kernel of three (four) rows makes four (three) rows of six products instead of twelve, with a
    convolution of six groups and one row: y = A'((G w) * (B'x)) (Winograd; Lavin and Gray 2016, arXiv:1509.09308).
    Rounding in 32 bits is twice that of a plain convolution.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.pays(input):
            return _Convolution.apply(input, self.weight, self.bias, *self.padding)
        return super().forward(input)

    def pays(self, x: Tensor) -> bool:
        """Return whether this layer has the shape and the channels for it, and pictures (N, C, H, W) the pixels."""
        rows, before, after = self.kernel_size[0], self.in_channels, self.out_channels
        plain = (self.stride, self.dilation, self.groups, self.padding_mode) == PLAIN
        if not plain or rows not in (3, 4) or isinstance(self.padding, str) or min(before, after) < CHANNELS:
            return False
        mapped = torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
        if mapped or torch.compiler.is_compiling() or not eligible.allowed(self, x):  # the first two know plain ones
            return False
        in_all = x.numel() // before * rows
        return in_all >= ROWS and in_all * before * after >= WORK and x.is_contiguous()


class _Convolution(torch.autograd.Function):
    """(N, C, H, W), weight (O, C, taps, w), bias (O,) or None, two widths of zeros around -> (N, O, h, w)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, high: int, wide: int) -> Tensor:
        taps, step = weight.shape[2], _step(weight)
        rows = x.shape[2] + 2 * high - taps + 1
        shift = None if bias is None else F.pad(bias, (len(bias), 4 * len(bias)))  # the product at 1 is in every row
        made = F.conv2d(_given(x, high, rows, step), _weights(weight), shift, padding=(0, wide), groups=PRODUCTS)
        return _join(_turned(_values(step)), made, step)[:, :, :rows].contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, weight, _, *ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Any:
        (x, weight), (high, wide) = ctx.saved_tensors, ctx.padding
        wanted, (after, before, taps, width) = ctx.needs_input_grad[:3], weight.shape
        many = torch._C._functorch.is_legacy_batchedtensor(slopes)  # several at a time, as for Jacobians
        if torch.is_grad_enabled() or many:  # what is found here is differentiated in its turn
            return *_slopes(slopes, x, weight, (high, wide), 1, wanted), None, None
        step, rows = _step(weight), slopes.shape[2]
        of = _split(_values(step), _padded(slopes, 0, -rows % step), step)
        given = _given(x, high, rows, step)
        with torch.autocast("cpu", enabled=False):  # as forward had it
            dx, dw, db = _slopes(of, given, _weights(weight), (0, wide), PRODUCTS, wanted)
            if wanted[0]:
                dx = _join(_turned(BT), dx, step)[:, :, high : high + x.shape[2]]
            if wanted[1]:
                G = dw.new_tensor(_values(taps, SCALES))
                dw = (G.T @ dw.view(PRODUCTS, -1)).view(taps, after, before, width).permute(1, 2, 0, 3)
            if wanted[2]:
                db = db[after : 2 * after]
        return dx, dw, db, None, None


def _slopes(of: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int], groups: int, wanted: Any) -> Any:
    """Return a convolution's gradients of x, weight and bias."""
    return torch.ops.aten.convolution_backward(
        of, x, weight, [len(weight)], (1, 1), padding, (1, 1), False, (0, 0), groups, wanted
    )


def _step(weight: Tensor) -> int:
    return PRODUCTS + 1 - weight.shape[2]


def _values(number: int, scales: Sequence[int] = (1,) * len(POINTS)) -> Matrix:
    """Return the matrix (6, number) that makes values of coefficients; at infinity the last one alone counts."""
    return [[p**i / s for i in range(number)] for p, s in zip(POINTS, scales)] + [[0] * (number - 1) + [1]]


def _turned(matrix: Matrix) -> Matrix:
    return list(zip(*matrix))


def _padded(x: Tensor, above: int, below: int) -> Tensor:
    return F.pad(x, (0, 0, above, below)) if above or below else x


def _given(x: Tensor, high: int, rows: int, step: int) -> Tensor:
    """(N, C, H, W) -> (N, 6 C, tiles, W): what is multiplied for so many rows."""
    return _split(BT, _padded(x, high, high + -rows % step), step)


def _weights(weight: Tensor) -> Tensor:
    """(O, C, taps, w) -> (6 O, C, 1, w): what it is multiplied by."""
    _, before, taps, wide = weight.shape
    G = weight.new_tensor(_values(taps, SCALES))
    return (G @ weight.permute(2, 0, 1, 3).reshape(taps, -1)).view(-1, before, 1, wide)


def _split(matrix: Matrix, x: Tensor, step: int) -> Tensor:
    """(N, C, H, W) -> (N, 6 C, tiles, W): tiles begin `step` rows apart; a matrix is multiplied by the rows of each."""
    tiles = x.unfold(2, len(matrix[0]), step).unbind(-1)
    made = x.new_empty(len(x), PRODUCTS, *tiles[0].shape[1:])
    for factors, to in zip(matrix, made.unbind(1)):
        _sum(factors, tiles, to)
    return made.flatten(1, 2)


def _join(matrix: Matrix, x: Tensor, step: int) -> Tensor:
    """(N, 6 C, tiles, W) -> (N, C, H, W): the transpose of `_split` with the transposed matrix."""
    products, height = x.unflatten(1, (PRODUCTS, -1)).unbind(1), step * x.shape[2]
    n, c, _, w = products[0].shape
    made = x.new_empty(n, c, height + len(matrix) - step, w)
    made[:, :, height:] = 0
    for i, factors in enumerate(matrix):
        _sum(factors, products, made[:, :, i : i + height : step], add=i >= step)  # to rows of the next tile
    return made


def _sum(factors: Sequence[float], given: Sequence[Tensor], to: Tensor, add: bool = False) -> None:
    """Write a weighted sum of tensors, or add it."""
    terms = [(factor, x) for factor, x in zip(factors, given) if factor]
    if not add:
        factor, x = terms.pop(next((i for i, (factor, _) in enumerate(terms) if factor == 1), 0))
        if factor == 1 and terms:
            factor, other = terms.pop()
            torch.add(x, other, alpha=factor, out=to)
        else:
            torch.mul(x, factor, out=to)
    for factor, x in terms:
        to.add_(x, alpha=factor)
