"""Apply norms to one tile at a time with the statistics of the whole image."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class TileCore(NamedTuple):
    """A tile's core, the part assigned to this tile alone: (first, last, length of the tile) of rows and of columns."""

    rows: tuple[int, int, int]
    columns: tuple[int, int, int]

    def crop(self, x: Tensor) -> Tensor:
        """Return this part of a tile's activations at any scale; every activation belongs to exactly one core."""
        for dim, (first, last, whole) in ((2, self.rows), (3, self.columns)):
            side = x.shape[dim]
            x = x.narrow(dim, first * side // whole, last * side // whole - first * side // whole)
        return x


class TileNormStats:
    """Count, means and sums of squared deviations (N, C), in float64, of activations that arrive in parts."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squared_deviations = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Add the activations (N, C, h, w) of one part (Chan et al. 1979)."""
        if (n := x.shape[2] * x.shape[3]) == 0:
            return
        var, mean = (value.double() for value in torch.var_mean(x, (2, 3), correction=0))
        delta, fraction = mean - self.mean, n / (self.count + n)
        self.squared_deviations = self.squared_deviations + var * n + delta.square() * self.count * fraction
        self.mean = self.mean + delta * fraction
        self.count += n

    def mean_and_var(self, name: str, groups: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance (N, C), pooled as the norm does: per channel, channel group or over the batch."""
        mean, var = self.mean, self.squared_deviations / self.count
        shape = mean.shape
        if name == "batch_norm":
            mean, var = mean.T, var.T
        elif name == "group_norm":
            mean, var = (value.reshape(shape[0], groups, -1) for value in (mean, var))
        else:
            return mean, var
        pooled = mean.mean(-1, keepdim=True)
        var = (var + (mean - pooled).square()).mean(-1, keepdim=True).expand_as(mean)
        pooled = pooled.expand_as(mean)
        return (pooled.T, var.T) if name == "batch_norm" else (pooled.reshape(shape), var.reshape(shape))


class NormStatsPending(Exception):
    """Raised when a tile reaches the norm whose statistics are being gathered."""


class SharedNormMode(TorchFunctionMode):
    """A mode in which instance norm, group norm and batch norm in training use the statistics of the whole image.

    A norm is identified by its position in the order of calls. Its input is correct only when the statistics of all
    earlier norms are frozen, so norms are measured one at a time: run all tiles, each of which raises NormStatsPending
    at the first norm without frozen statistics; call `freeze_stats`; repeat until no tile raises it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frozen_stats: list[TileNormStats] = []
        self.pending_stats = TileNormStats()

    def begin_tile(self, core: TileCore) -> "SharedNormMode":
        """Prepare for the next tile: set its core and count its norms from 0."""
        self.core, self.norm_index = core, 0
        return self

    def freeze_stats(self) -> bool:
        """Freeze the statistics of the norm just measured; return False if there were none, because all are frozen."""
        gathered = self.pending_stats.count > 0
        if gathered:
            self.frozen_stats.append(self.pending_stats)
            self.pending_stats = TileNormStats()
        return gathered

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (F.instance_norm, F.batch_norm, F.group_norm):
            return func(*args, **kwargs)
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.apply_defaults()
        o = bound.arguments
        if o["input"].dim() != 4 or not o.get("use_input_stats", True) or not o.get("training", True):
            return func(*args, **kwargs)
        norm_index, self.norm_index = self.norm_index, self.norm_index + 1
        if norm_index == len(self.frozen_stats):
            self.pending_stats.add(self.core.crop(o["input"]))
            raise NormStatsPending
        mean, var = self.frozen_stats[norm_index].mean_and_var(func.__name__, o.get("num_groups", 1))
        return _normalize(o["input"], mean, var, o["weight"], o["bias"], o["eps"])


def _normalize(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(var + eps) * weight + bias, for x (N, C, H, W), mean and var (N, C)."""
    n = x.shape[0]
    weight, bias = (None if value is None else value.repeat(n) for value in (weight, bias))
    flat = x.reshape(1, -1, *x.shape[2:])
    mean, var = (value.flatten().to(x.dtype) for value in (mean, var))
    return F.batch_norm(flat, mean, var, weight, bias, training=False, eps=eps).view_as(x)
