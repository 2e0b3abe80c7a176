"""Figures that compare pictures with their true counterparts."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

from util.registry import Table

METRICS = Table("metric", {  # called as (fake, real): (C, H, W) in [-1, 1] each
    "L1": "util.metrics:l1",
    "PSNR": "util.metrics:psnr",
})  # fmt: skip
BETTER = {"L1": "lower", "PSNR": "higher"}


def l1(fake: "Tensor", real: "Tensor") -> float:
    """Return the mean absolute difference, in units of the [-1, 1] range (0 to 2)."""
    return (fake - real).abs().mean().item()


def psnr(fake: "Tensor", real: "Tensor") -> float:
    """Return the peak signal-to-noise ratio in dB, the peak being the whole range of 2; inf for equal pictures."""
    error = (fake - real).square().mean().item()
    return 10 * math.log10(4 / error) if error else math.inf


def better(name: str, measure: object) -> str:
    """Return which values of a metric are better, "lower" or "higher", or "" where nobody says so.

    A plug-in's metric says so by an attribute: measure.better = "higher".
    """
    said = BETTER.get(name) or getattr(measure, "better", "")
    return said if said in ("lower", "higher") else ""


def finite(figures: dict[str, float]) -> dict[str, float | None]:
    """Return figures with None for inf and NaN, which JSON has no numbers for."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
