"""Measure one comparison of real and generated images: metrics of pairs, and metrics of sets."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from inference.batch_translator import MAX_BATCH_IMAGES, MAX_BATCH_PIXELS
from metrics.base import Result
from metrics.evaluation import Evaluation
from metrics.settings import Settings
from training.evaluation.images import Compared

Part = Mapping[str, Mapping[str, Tensor]]  # what metrics have collected, by their names


class Comparison:
    """The metrics of one comparison in one evaluation.

    real_part: what the metrics of sets collected of the real images in an earlier evaluation; these are then not
    measured again. `own_part` is what they have collected now, or None if another evaluation may have other images.
    """

    def __init__(self, names: list[str], paired: list[str], settings: Settings, real_part: Part | None = None):
        self.names, self.device = names, settings.device
        sets = [name for name in names if name not in paired]
        self.pairs, self.sets = (Evaluation(each, settings) for each in (paired, sets))
        self.reals, self.real_part, self.is_fixed = Evaluation(sets, settings), real_part, True

    def update(self, found: Compared) -> None:
        """Add images."""
        real, fake, classes = (part.to(self.device) if isinstance(part, Tensor) else part for part in found[1:4])
        if self.pairs.metrics:
            self.pairs.update(real, fake, classes, found.names)
        if real is not None and self.real_part is None:
            self.reals.update(real, None, classes)
            self.is_fixed &= found.is_fixed
        if fake is not None:
            self.sets.update(None, fake, classes)

    def results(self) -> dict[str, Result]:
        """Return each metric's value; raise DataError if there are too few images for one."""
        self.sets.merge([self.real_part or self.reals.partial(), self.sets.partial()])
        found = self.pairs.results() | self.sets.results()
        return {name: found[name] for name in self.names}

    def notes(self) -> list[str]:
        """Return what a reader of the values needs to know: "METRIC: sentence" each."""
        return [*self.pairs.notes(), *self.sets.notes()]

    @property
    def own_part(self) -> Part | None:
        """See the class."""
        return (self.real_part or self.reals.partial()) if self.is_fixed and self.sets.metrics else None


def combine(results: dict[str, dict[str, Result]]) -> dict[str, Result]:
    """Return the values of a model's only comparison; of several, their mean, and each as "METRIC LABEL" beside it."""
    if len(results) == 1:
        return next(iter(results.values()))
    found: dict[str, Result] = {}
    for name in next(iter(results.values()), {}):
        each = {label: one[name] for label, one in results.items() if name in one}
        found[name] = Result(sum(r.value for r in each.values()) / len(each), None, sum(r.n for r in each.values()))
        found |= {f"{name} {label}": result for label, result in each.items()}
    return found


def batched(found: Iterable[Compared]) -> Iterator[Compared]:
    """Join images of one comparison and size to batches, because networks of metrics take them faster."""
    waiting: dict[str, list[Compared]] = {}
    for each in found:
        group = waiting.setdefault(each.label, [])
        image = each.real if each.fake is None else each.fake
        assert image is not None
        number = min(MAX_BATCH_IMAGES, max(1, MAX_BATCH_PIXELS // max(1, image[0, 0].numel())))
        if group and (len(group) >= number or _shape(group[0]) != _shape(each)):
            yield _joined(group)
            group.clear()
        group.append(each)
    for group in waiting.values():
        if group:
            yield _joined(group)


def _shape(found: Compared) -> list[Any]:
    return [part.shape if isinstance(part, Tensor) else type(part) for part in found[1:4]]


def _joined(group: list[Compared]) -> Compared:
    def join(parts: list[Any]) -> Any:
        return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]

    return Compared(
        group[0].label,
        join([each.real for each in group]),
        join([each.fake for each in group]),
        join([each.classes for each in group]),
        tuple(name for each in group for name in each.names),
        all(each.is_fixed for each in group),
    )
