"""Metrics of classes: whether images show the class asked for, and how much those of a class differ."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.base import Metric, Result, given_sides
from metrics.feature_networks import Digits, Lite0, Lite0Shapes
from metrics.features import network, over
from metrics.neighbours import distances, share
from metrics.sets import FeatureMetric
from metrics.settings import Settings
from util.errors import DataError

HELD_OUT = 5  # every fifth real image tests the classifier
MAX_TRAINED = 4000  # real images that the classifier is trained on at most: time and memory grow with the square
KERNEL_WIDTH, RIDGE = 0.4, 0.01  # by cross-validation on photographs of hands


class ClassAccuracy(Metric):
    """The share of generated images that a classifier reads as the class asked for; a subclass defines `classify`.

    The notes tell its share of the real images, which the value cannot be expected to exceed.
    """

    better = "higher"

    def classify(self, images: Tensor) -> Tensor:
        """Return the class numbers, (N,), of images (N, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Add images with the numbers of their classes, (N,)."""
        for name, images in given_sides(real, fake).items():
            self.keep(**{name: with_labels(self.classify(images)[:, None], labels, self)})

    def result(self) -> Result:
        """Return the accuracy on the generated images, with its binomial standard error."""
        return accuracy_of(labelled_rows(self, "fake", 1))

    def notes(self) -> list[str]:
        """Return the accuracy on the real images, if there were any."""
        if not self.rows.get("real"):
            return ["no real images tell how well the classifier reads them"]
        value, _, n = accuracy_of(labelled_rows(self, "real", 1))
        return [f"the classifier reads {value:.1%} of {n} real images as their class"]


class DigitsAccuracy(ClassAccuracy):
    """The share of generated digits, light on dark, that PyPI's digit-recognizer-py reads as asked for."""

    def __init__(self, settings: Settings):
        super().__init__(settings)
        names = list(settings.classes) or [str(digit) for digit in range(10)]
        if not all(name.isdecimal() and int(name) < 10 for name in names):
            why = f"reads digits, and the classes are {', '.join(names[:5])}"
            raise DataError("metric", "digits_accuracy", why, "choose lite0_accuracy")
        self.digits = [int(name) for name in names]
        network(Digits, settings)  # what is missing is said before there are images

    def classify(self, images: Tensor) -> Tensor:
        """Return the class numbers."""
        net = network(Digits, self.settings)
        assert isinstance(net, Digits)
        numbers = torch.full((10,), -1)
        numbers[torch.tensor(self.digits)] = torch.arange(len(self.digits))
        return numbers[net.digits(images)]


class HeadAccuracy(FeatureMetric):
    """The share of generated images that a classifier of the features reads as the class asked for.

    The classifier is trained on four fifths of the real images (see train_classifier); the notes tell its accuracy on
    the others, which the value cannot be expected to exceed.
    """

    better = "higher"
    found: tuple[Result, Result] | None = None  # of the images so far

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Add images with the numbers of their classes, (N,)."""
        for name, images in given_sides(real, fake).items():
            self.keep(**{name: with_labels(self.features(images), labels, self)})

    def keep(self, **rows: Tensor) -> None:
        """Add rows; the classifier is trained again for the next result."""
        self.found = None
        super().keep(**rows)

    def result(self) -> Result:
        """Return the accuracy on the generated images, with its binomial standard error."""
        self.found = self.found or self._accuracies()
        return self.found[0]

    def notes(self) -> list[str]:
        """Return the accuracy on the real images that are held out."""
        self.found = self.found or self._accuracies()
        value, _, n = self.found[1]
        return [f"the classifier reads {value:.1%} of {n} real images that are held out as their class"]

    def _accuracies(self) -> tuple[Result, Result]:
        """Return the accuracies on the generated images and on the real ones that are held out."""
        real, fake = labelled_rows(self, "real", 2 * HELD_OUT), labelled_rows(self, "fake", 1)
        real = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))]
        held_out = torch.arange(len(real)) % HELD_OUT == 0
        trained = real[~held_out]
        lacking = set(fake[:, -1].long().tolist()) - set(trained[:, -1].long().tolist())
        if lacking:
            why = "has no real images of classes " + ", ".join(map(str, sorted(lacking)))
            raise self.refusal(why, "give real images of every class that is generated")
        classify = train_classifier(trained[:, :-1], trained[:, -1].long())
        fake, held = (torch.stack([classify(x[:, :-1]), x[:, -1]], 1) for x in (fake, real[held_out]))
        return accuracy_of(fake), accuracy_of(held)


class ClassDiversity(FeatureMetric):
    """The mean distance of the features of two generated images of a class, divided by that of two real ones.

    1 is as much as real images differ, 0 a generator that draws one image of each class. Without labels all images
    are of one class, which the notes say.
    """

    better = "higher"
    has_classes = True

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Add images; labels: the numbers of their classes, (N,)."""
        for name, images in given_sides(real, fake).items():
            self.has_classes &= labels is not None
            given = torch.zeros(len(images)) if labels is None else labels
            self.keep(**{name: with_labels(self.features(images), given, self)})

    def notes(self) -> list[str]:
        """Return that the images have no classes, if so, besides what the other metrics of sets return."""
        return [*super().notes(), *(() if self.has_classes else ("images without classes count as one class",))]

    def result(self) -> Result:
        """Return the quotient of the means over the classes; raise DataError for a class of fewer than two images."""
        real, fake = (labelled_rows(self, name, 2) for name in ("real", "fake"))
        means: dict[str, list[float]] = {"real": [], "generated": []}
        for label in fake[:, -1].unique():
            for title, side in (("real", real), ("generated", fake)):
                rows = side[side[:, -1] == label, :-1]
                if len(rows) < 2:
                    why = f"there are fewer than two {title} images of class {int(label)}"
                    raise self.refusal(why, "give more images of every class")
                total = sum(d.sum().item() for d in distances(rows, rows))
                means[title].append(total / (len(rows) * (len(rows) - 1)))
        if not sum(means["real"]):
            why = "all real images of a class are equal"
            raise self.refusal(why, "give real images that differ")
        return Result(sum(means["generated"]) / sum(means["real"]), None, len(fake))


def with_labels(rows: Tensor, labels: Any, metric: Metric) -> Tensor:
    """Return rows (N, D) with the labels as a last column; raise DataError if there is not one for each."""
    labels = None if labels is None else torch.as_tensor(labels)
    if labels is None or labels.shape != rows.shape[:1]:
        why = "needs the number of the class of each image"
        raise metric.refusal(why, "give labelled images, in one sub-folder for each class")
    return torch.cat([rows.float().cpu(), labels[:, None].float().cpu()], 1)


def labelled_rows(metric: Metric, name: str, least: int) -> Tensor:
    """Return a side's rows in float64, in an order of their own; raise DataError if there are fewer than `least`."""
    rows = metric.kept(name)
    number = 0 if rows is None else len(rows)
    if rows is None or number < least:
        title = {"real": "real", "fake": "generated"}[name]
        why = f"needs at least {least} {title} images, and there are {number}"
        raise metric.refusal(why, "give more images")
    return rows.double()


def accuracy_of(read_and_asked: Tensor) -> Result:
    """Return the share of rows (read, asked) of two equal numbers, with its binomial standard error."""
    return Result(*share(read_and_asked[:, 0] == read_and_asked[:, 1]), len(read_and_asked))


def train_classifier(features: Tensor, labels: Tensor) -> Any:
    """Return a function from features (N, D) to class numbers (N,), trained on 4,000 rows at most.

    If there are more rows, each class has an equal share. It is a kernel ridge regression of the classes (Saunders et
    al. 1998), with a Gaussian kernel of the features divided by their standard deviations.
    """
    if len(labels) > MAX_TRAINED:
        classes = labels.unique()
        share = max(1, MAX_TRAINED // len(classes))
        kept = torch.cat([(labels == each).nonzero()[:share, 0] for each in classes])
        features, labels = features[kept], labels[kept]
    names, targets = labels.unique(return_inverse=True)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    rows = (features - mean) / spread

    def kernel(others: Tensor) -> Tensor:
        return torch.exp(-KERNEL_WIDTH / rows.shape[1] * torch.cdist(others, rows).square())

    wanted = F.one_hot(targets).to(rows.dtype) - 1 / len(names)
    weight = torch.linalg.solve(kernel(rows) + RIDGE * torch.eye(len(rows), dtype=rows.dtype), wanted)
    return lambda others: names[(kernel((others - mean) / spread) @ weight).argmax(1)].double()


(Lite0Accuracy,) = over(Lite0Shapes, HeadAccuracy)
(Lite0Diversity,) = over(Lite0, ClassDiversity)
(DigitsDiversity,) = over(Digits, ClassDiversity)
