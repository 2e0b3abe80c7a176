"""What a metric is: it takes images in parts, adds up the parts of several processes, and gives one value."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.settings import Settings
from util.errors import DataError


class Result(NamedTuple):
    """A metric's value, its standard error or None where the method has none, and the number of images."""

    value: float
    error: float | None
    n: int


class Metric:
    """A metric of real and generated images; its plug-ins may extend this class, or only have its attributes.

    It collects rows of tensors with `keep`, and its value is the same in any order of updates and parts. better: which
    values are better, "lower" or "higher". paired: whether it compares each generated image with the real one of its
    input; if not, the two sides are sets: either of them may be None in a call of `update`, or hold another number.
    """

    better = "lower"
    paired = False
    name = ""  # under which it was found

    def __init__(self, settings: Settings):
        self.settings = settings
        self.rows: dict[str, list[Tensor]] = {}

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Add images, (N, C, H, W) in [-1, 1]; labels: of both sides, (N,) class numbers or (N, H, W) label maps."""
        raise NotImplementedError

    def result(self) -> Result:
        """Return the value of all images so far; raise DataError if there are too few of them."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """Return what a reader of the result needs to know, one sentence each, without "note: "."""
        return []

    def refusal(self, why: str, remedy: str) -> DataError:
        """Return the error for images that the metric cannot measure."""
        return DataError("metric", self.name or type(self).__name__, why, remedy)

    def keep(self, **rows: Tensor) -> None:
        """Add rows, (N, ...), under names."""
        for name, tensor in rows.items():
            self.rows.setdefault(name, []).append(tensor.detach().cpu())

    def kept(self, name: str) -> Tensor | None:
        """Return all rows of this name in an order that does not depend on how they came; None if there are none."""
        parts = self.rows.get(name)
        return in_order(torch.cat(parts)) if parts else None

    def partial(self) -> dict[str, Tensor]:
        """Return what has been collected, for `merge` in another process."""
        return {name: torch.cat(parts) for name, parts in self.rows.items()}

    def merge(self, partials: Sequence[Mapping[str, Tensor]]) -> None:
        """Hold the union of these parts from now on, instead of what has been collected here."""
        self.rows = {}
        for part in partials:
            self.keep(**part)


def given_sides(real: Tensor | None, fake: Tensor | None) -> dict[str, Tensor]:
    """Return the sides of an update that have images, by the names "real" and "fake"."""
    return {name: side for name, side in (("real", real), ("fake", fake)) if side is not None and len(side)}


class PairedMetric(Metric):
    """A metric whose value is the mean over pairs of images; a subclass defines `measure`."""

    paired = True

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the value of each of N pairs, (N,), for two tensors (N, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Add the values of these pairs."""
        assert real is not None and fake is not None  # Evaluation has checked it
        self.keep(values=self.measure(real, fake).cpu().double())

    def result(self) -> Result:
        """Return the mean of the finite values: equal images have a PSNR of inf. NaN if any value is NaN."""
        kept = self.kept("values")
        return mean_result(kept.tolist() if kept is not None else [])


class FunctionMetric(PairedMetric):
    """The mean of a function (fake, real) -> float of one pair, (C, H, W) each."""

    def __init__(self, function: Callable[[Tensor, Tensor], float], better: str, settings: Settings):
        super().__init__(settings)
        self.function, self.better = function, better

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the function's value of each pair, (N,)."""
        return torch.tensor([float(self.function(f, r)) for r, f in zip(real, fake)], dtype=torch.float64)


def mean_result(values: Sequence[float]) -> Result:
    """Return the mean of the finite values with its standard error; NaN if any is NaN, inf if none is finite."""
    finite = [value for value in values if math.isfinite(value)]
    if any(math.isnan(value) for value in values):
        return Result(math.nan, None, len(values))
    if not finite:
        return Result(math.inf, None, len(values))
    mean, n = math.fsum(finite) / len(finite), len(finite)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / (n - 1)) if n > 1 else None
    return Result(mean, None if spread is None else spread / math.sqrt(n), len(values))


def in_order(rows: Tensor) -> Tensor:
    """Return rows sorted by their values, so that equal sets of rows become equal tensors.

    The values are rounded first: those of a network differ in the last bits if an image came with others.
    """
    flat = rows.reshape(len(rows), -1)
    rounded = flat.round(decimals=2) if flat.is_floating_point() else flat
    both = np.ascontiguousarray(torch.cat([rounded, flat], 1).numpy())
    keys = both.view(np.dtype((np.void, both.dtype.itemsize * both.shape[1])))[:, 0]
    return rows[torch.from_numpy(keys.argsort(kind="stable"))]
