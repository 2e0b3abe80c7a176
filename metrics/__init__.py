"""Figures that compare pictures with their true counterparts."""

import math

from registry.lookup import Table

METRICS = Table("metric", {  # called as (fake, real): (C, H, W) in [-1, 1] each
    "L1": "metrics.pixelwise:l1",
    "PSNR": "metrics.pixelwise:psnr",
})  # fmt: skip
BETTER = {"L1": "lower", "PSNR": "higher"}


def better_direction(name: str, metric: object) -> str:
    """Return which values of a metric are better, "lower" or "higher", or "" where nobody says so.

    A plug-in's metric says so by an attribute: metric.better = "higher".
    """
    direction = BETTER.get(name) or getattr(metric, "better", "")
    return direction if direction in ("lower", "higher") else ""


def finite_or_none(figures: dict[str, float]) -> dict[str, float | None]:
    """Return figures with None for inf and NaN, which JSON has no numbers for."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
