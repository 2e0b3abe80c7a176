"""Metrics that compare generated images with their ground truth, by name."""

import math

from registry.lookup import Table

METRICS = Table(
    "metric",
    {  # called as (fake, real): (C, H, W) in [-1, 1] each
        "L1": "metrics.pixelwise:l1",
        "PSNR": "metrics.pixelwise:psnr",
    },
)
BETTER = {"L1": "lower", "PSNR": "higher"}


def better_direction(name: str, metric: object) -> str:
    """Return which values of a metric are better, "lower" or "higher", or "" if that is not declared.

    A plug-in's metric declares it by an attribute: metric.better = "higher".
    """
    direction = BETTER.get(name) or getattr(metric, "better", "")
    return direction if direction in ("lower", "higher") else ""


def finite_or_none(figures: dict[str, float]) -> dict[str, float | None]:
    """Return the values of metrics with None for inf and NaN, because JSON cannot represent them."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
