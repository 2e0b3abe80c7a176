"""Norms that use the statistics of a whole picture while they see one tile of it at a time."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Core(NamedTuple):
    """The rows and columns of a tile that are its own, as parts of its height and width: (first, last, of)."""

    rows: tuple[int, int, int]
    columns: tuple[int, int, int]

    def of(self, x: Tensor) -> Tensor:
        """Return this part of a tile's activations, at whatever scale they are: each belongs to one core only."""
        for dim, (first, last, whole) in ((2, self.rows), (3, self.columns)):
            side = x.shape[dim]
            x = x.narrow(dim, first * side // whole, last * side // whole - first * side // whole)
        return x


class Moments:
    """Number, means and sums of squared deviations of values (N, C, ., .) met in parts, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Add a part's values (Chan et al. 1979)."""
        if (n := x.shape[2] * x.shape[3]) == 0:
            return
        var, mean = (value.double() for value in torch.var_mean(x, (2, 3), correction=0))
        off, share = mean - self.mean, n / (self.count + n)
        self.squares = self.squares + var * n + off.square() * self.count * share
        self.mean = self.mean + off * share
        self.count += n

    def over(self, name: str, groups: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance (N, C) as a norm pools them: of channels, of groups of them, of the batch."""
        mean, var = self.mean, self.squares / self.count
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


class Unknown(Exception):
    """A tile has come to the norm whose statistics are being gathered."""


class SharedNorms(TorchFunctionMode):
    """Inside it instance and group norm, and batch norm in training mode, take a whole picture's statistics.

    Norms are told apart by their place in the order of calls. What a norm sees is right only once all norms before it
    are known, so they become known one by one: send all tiles, each ends with Unknown at the first norm that is not
    known; call `learn`; send them again, until none does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Moments] = []
        self.next = Moments()

    def enter(self, core: Core) -> "SharedNorms":
        """Begin with the next tile."""
        self.core, self.number = core, 0
        return self

    def learn(self) -> bool:
        """Take what was gathered for known; False if nothing was, because every norm is."""
        found = self.next.count > 0
        if found:
            self.known.append(self.next)
            self.next = Moments()
        return found

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (F.instance_norm, F.batch_norm, F.group_norm):
            return func(*args, **kwargs)
        given = inspect.signature(func).bind(*args, **kwargs)
        given.apply_defaults()
        o = given.arguments
        if o["input"].dim() != 4 or not o.get("use_input_stats", True) or not o.get("training", True):
            return func(*args, **kwargs)
        number, self.number = self.number, self.number + 1
        if number == len(self.known):
            self.next.add(self.core.of(o["input"]))
            raise Unknown
        mean, var = self.known[number].over(func.__name__, o.get("num_groups", 1))
        return _normalised(o["input"], mean, var, o["weight"], o["bias"], o["eps"])


def _normalised(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(var + eps) * weight + bias, for x (N, C, H, W), mean and var (N, C)."""
    n = x.shape[0]
    weight, bias = (None if value is None else value.repeat(n) for value in (weight, bias))
    flat = x.reshape(1, -1, *x.shape[2:])
    mean, var = (value.flatten().to(x.dtype) for value in (mean, var))
    return F.batch_norm(flat, mean, var, weight, bias, training=False, eps=eps).view_as(x)
