"""Evaluate several metrics, found by name, on the same images."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metrics import better_direction
from metrics.base import FunctionMetric, Metric, PairedMetric, Result
from metrics.settings import Settings
from registry.lookup import entry
from util.errors import DataError, OptionError


class Evaluation:
    """Metrics by their registered names; raises UnknownName for a wrong one, and what a metric raises that is made.

    A metric is a function (fake, real) -> float, or a class: it is made with the settings if it takes an argument.
    """

    def __init__(self, names: Sequence[str], settings: Settings):
        self.settings = settings
        found = [entry("metric", name) for name in names]
        self.metrics: dict[str, Metric] = {e.name: make_metric(e.name, e.load(), settings) for e in found}
        self.values: dict[str, dict[str, float]] = {}

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Any = None, names: Sequence[str] = ()) -> None:
        """Add images, (N, C, H, W) in [-1, 1]; labels as in Metric.update; names: of the images, for per_image.

        Where no metric is paired, real or fake may be None, or of another number.
        """
        real, fake = (side if side is None else side.detach().float() for side in (real, fake))
        for name, metric in self.metrics.items():
            measure = getattr(metric, "measure", None) if metric.paired else None
            if metric.paired:
                check_pairs(name, real, fake)
            metric.update(real, fake, labels)
            if measure and names:
                kept = metric.rows.get("values") if isinstance(metric, PairedMetric) else None
                values = kept[-1] if kept else measure(real, fake)
                for image, value in zip(names, values.tolist(), strict=True):
                    self.values.setdefault(image, {})[name] = value

    def check_size(self, channels: int, height: int, width: int) -> None:
        """Raise what the metrics raise for images of this size, before there are any."""
        image = torch.zeros(1, channels, height, width)
        for metric in self.metrics.values():
            if metric.paired and hasattr(metric, "measure"):
                metric.measure(image, image)
            elif hasattr(metric, "features"):
                metric.features(image)

    def measure(self, real: Tensor, fake: Tensor) -> dict[str, list[float]]:
        """Return {metric: N values} of the paired metrics without adding the images."""
        found = {}
        for name, metric in self.metrics.items():
            if metric.paired and hasattr(metric, "measure"):
                check_pairs(name, real, fake)
                found[name] = metric.measure(real, fake).tolist()
        return found

    def per_image(self) -> dict[str, dict[str, float]]:
        """Return {image name: {metric: value}} of the paired metrics that have a value for each image."""
        return self.values

    def results(self) -> dict[str, Result]:
        """Return {metric: Result} of all images so far; raise DataError if they are too few for a metric."""
        return {name: checked_result(name, metric) for name, metric in self.metrics.items()}

    def notes(self) -> list[str]:
        """Return what a reader of the results needs to know: "METRIC: sentence" each."""
        return [f"{name}: {note}" for name, metric in self.metrics.items() for note in getattr(metric, "notes", list)()]

    def better(self, name: str) -> str:
        """Return which values of a metric are better: "lower", "higher", or "" if that is not declared."""
        return better_direction(name, self.metrics[name])

    @property
    def paired(self) -> list[str]:
        """The names of the metrics that compare each image with the real one of its input."""
        return [name for name, metric in self.metrics.items() if metric.paired]

    def unpaired_error(self, why: str) -> OptionError:
        """Return the error for images without pairs: why is such as "this data set has none"."""
        verb = "compare" if len(self.paired) > 1 else "compares"
        remedy = "choose metrics of sets, such as lite0_kid (--list shows what each compares and needs)"
        return OptionError("option", "--metrics", f"{', '.join(self.paired)} {verb} pairs, and {why}", remedy)

    def partial(self) -> dict[str, dict[str, Tensor]]:
        """Return what each metric has collected, for `merge` in another process."""
        return {name: metric.partial() for name, metric in self.metrics.items()}

    def merge(self, partials: Sequence[Mapping[str, Mapping[str, Tensor]]]) -> None:
        """Let each metric hold the union of these parts from now on."""
        for name, metric in self.metrics.items():
            metric.merge([part[name] for part in partials])


def make_metric(name: str, thing: Any, settings: Settings) -> Metric:
    """Return the metric of a table's entry: an object of a class, or the adapter of a function."""
    if not isinstance(thing, type) or not hasattr(thing, "update"):  # a class may be called like a function
        return FunctionMetric(thing, better_direction(name, thing), settings)
    metric = thing(settings) if takes_settings(thing) else thing()
    if isinstance(metric, Metric):
        metric.name = name
    return metric


def checked_result(name: str, metric: Metric) -> Result:
    """Return a metric's result as plain numbers; raise OptionError if a plug-in's is not (value, error, n)."""
    found = metric.result()
    try:
        value, error, n = found
        return Result(float(value), None if error is None else float(error), int(n))
    except (TypeError, ValueError) as problem:
        why = f"its result() returned {str(found)[:80]}, not (value, error, n)"
        raise OptionError("metric", name, why, "return three numbers; the error may be None") from problem


def takes_settings(cls: type) -> bool:
    """Return whether a class is made with an argument."""
    try:
        return bool(inspect.signature(cls).parameters)
    except (TypeError, ValueError):  # a class in C
        return False


def check_pairs(name: str, real: Tensor | None, fake: Tensor | None) -> None:
    """Raise DataError unless there are as many real images as generated ones, of the same size and channels."""
    if real is None or fake is None:
        raise DataError("metric", name, "compares pairs, and there are no pairs here", "choose a metric of sets")
    if real.shape != fake.shape:
        shapes = " and ".join("x".join(map(str, side.shape)) for side in (real, fake))
        raise DataError("metric", name, f"compares pairs of one size, not {shapes}", "give images of one size")
