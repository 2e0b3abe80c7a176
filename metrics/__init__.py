"""Metrics of generated images, by name: of pairs with their ground truth, and of sets."""

import math

from registry.lookup import Table

METRICS = Table(
    "metric",
    {  # a function (fake, real) -> float, (C, H, W) in [-1, 1] each, or a class as metrics/base.py's Metric
        "L1": "metrics.pixelwise:l1",
        "PSNR": "metrics.pixelwise:psnr",
        "ssim": "metrics.ssim:Ssim",
        "ms_ssim": "metrics.ssim:MultiScaleSsim",
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
