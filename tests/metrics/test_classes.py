"""Class accuracy and diversity, and the scores of label maps."""

import pytest
import torch
from torch import nn

from metrics import classes
from metrics.classes import ClassAccuracy, ClassDiversity, DigitsAccuracy, HeadAccuracy, train_classifier
from metrics.features import FeatureNetwork, over
from metrics.label_maps import LabelMapScore
from metrics.settings import Settings
from tests.support.packages import needs
from util.errors import DataError


class Means(FeatureNetwork):
    """Features without weights: the means of 4x4 regions."""

    def build(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())


MeansAccuracy, MeansDiversity = over(Means, HeadAccuracy, ClassDiversity)


@pytest.fixture(scope="module")
def hands():
    """Sixty images of three classes: which third of the image is bright; and their labels."""
    draw = torch.Generator().manual_seed(0)
    images, labels = 0.3 * torch.rand(60, 3, 12, 12, generator=draw) - 0.8, torch.arange(60) % 3
    for image, label in zip(images, labels):
        image[:, :, 4 * label : 4 * label + 4] += 0.8
    return images, labels


def test_the_classifier_reads_what_was_asked_for(hands):
    images, labels = hands
    for asked, expected in ((labels, 1.0), (labels.roll(1), 0.0), (torch.zeros(60), 1 / 3)):
        metric = MeansAccuracy(Settings())
        metric.update(images, None, labels)
        metric.update(None, images.flip(2), asked)
        value, error, n = metric.result()
        assert (value, n) == (pytest.approx(expected), 60)
        assert error == pytest.approx((expected * (1 - expected) / 60) ** 0.5, abs=1e-6)
        assert metric.notes() == ["the classifier reads 100.0% of 12 real images that are held out as their class"]


def test_the_classifier_reads_classes_that_no_plane_divides(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(400, 2, generator=draw, dtype=torch.float64) * 2 - 1
    labels = (points[:, 0] * points[:, 1] > 0).long() + 3  # opposite quarters of a square
    classify = train_classifier(points[:200], labels[:200])
    assert (classify(points[200:]) == labels[200:]).double().mean() > 0.95
    monkeypatch.setattr(classes, "MAX_TRAINED", 3)
    few = train_classifier(points[:200], labels[:200])(points[200:])
    first = [int((labels == each).nonzero()[0]) for each in (3, 4)]  # one row of each class
    assert torch.equal(few, train_classifier(points[first], labels[first])(points[200:]))


def test_diversity_is_1_for_real_images_and_0_for_one_of_each(hands):
    images, labels = hands
    for chosen, expected in ((torch.arange(60), 1.0), (torch.arange(60) % 3, 0.0)):
        metric = MeansDiversity(Settings())
        metric.update(images, None, labels)
        metric.update(None, images[chosen], labels[chosen])
        assert metric.result().value == pytest.approx(expected, abs=1e-6)
    alone = MeansDiversity(Settings())  # a model without classes
    alone.update(images, images)
    assert alone.result().value == pytest.approx(1)
    assert (metric.notes(), alone.notes()) == ([], ["images without classes count as one class"])


def test_parts_give_the_same_accuracy(hands):
    images, labels = hands
    fake = (images + 0.5 * torch.rand(images.shape, generator=torch.Generator().manual_seed(1))).flip(0)
    whole, parts = MeansAccuracy(Settings()), [MeansAccuracy(Settings()) for _ in range(2)]
    whole.update(images, fake, labels)
    parts[0].update(images[31:], fake[31:], labels[31:])
    parts[1].update(images[:31], fake[:31], labels[:31])
    joined = MeansAccuracy(Settings())
    joined.merge([part.partial() for part in parts])
    assert joined.result() == whole.result() and joined.notes() == whole.notes()


def test_lacking_labels_and_classes_are_refused(hands):
    images, labels = hands
    with pytest.raises(DataError, match="needs the number of the class of each image"):
        MeansAccuracy(Settings()).update(images, None)
    metric = MeansAccuracy(Settings())
    metric.update(images[labels < 2], None, labels[labels < 2])
    metric.update(None, images, labels)
    with pytest.raises(DataError, match="no real images of classes 2"):
        metric.result()
    few = MeansDiversity(Settings())
    few.update(images[:4], images[:4], labels[:4])
    with pytest.raises(DataError, match="fewer than two real images of class 1"):
        few.result()


def test_a_classifier_of_the_user_is_a_metric(hands):
    class Brightest(ClassAccuracy):
        def classify(self, images):
            return images.mean((1, 2)).unflatten(1, (3, 4)).mean(2).argmax(1)

    images, labels = hands
    metric = Brightest(Settings())
    metric.update(None, images, labels.clone().index_fill_(0, torch.tensor([0]), 2))
    assert metric.result().value == pytest.approx(59 / 60)
    assert metric.notes() == ["no real images tell how well the classifier reads them"]
    metric.update(images, None, labels)
    assert metric.notes() == ["the classifier reads 100.0% of 60 real images as their class"]


@needs("digit_recognizer")
def test_digits_are_read_by_their_names():
    images = torch.full((2, 1, 28, 28), -1.0)
    images[0, :, 4:24, 13:15] = 1  # a one
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    images[1, :, (((x - 14) / 6) ** 2 + ((y - 14) / 8) ** 2 - 1).abs() < 0.4] = 1  # a zero
    for names, asked in ((("1", "0"), [0, 1]), (("0", "1", "2"), [1, 0])):
        metric = DigitsAccuracy(Settings(classes=names))
        metric.update(None, images, torch.tensor(asked))
        assert metric.result().value == 1
    with pytest.raises(DataError, match="reads digits, and the classes are rock, paper"):
        DigitsAccuracy(Settings(classes=("rock", "paper")))


class Tones(LabelMapScore):
    """A segmenter of three labels: dark, grey and bright."""

    number = 3

    def segment(self, images):
        return ((images.mean(1) + 1) * 1.499).long()


@pytest.mark.parametrize(("score", "expected"), [("pixel_accuracy", 5 / 7), ("class_accuracy", (1 / 3 + 1 + 1) / 3),
    ("class_iou", (1 / 3 + 2 / 3 + 2 / 3) / 3)])  # fmt: skip
def test_label_maps_are_scored(score, expected):
    """Of seven labelled pixels, 0 is read right once in three, 1 and 2 always; each of them is read once for 0."""
    kind = type("Scored", (Tones,), {"score": score})
    truth = torch.tensor([[[0, 0, 0, 1], [1, 2, 2, -1]]])
    read = torch.tensor([[[0, 1, 2, 1], [1, 2, 2, 0]]])
    fake = (read - 1.0)[:, None].expand(-1, 3, -1, -1)
    metric, parts = kind(Settings()), [kind(Settings()) for _ in range(2)]
    metric.update(fake, fake, truth)
    assert metric.result() == (pytest.approx(expected), None, 1)
    for part in parts:
        part.update(fake, fake, truth)
    joined = kind(Settings())
    joined.merge([part.partial() for part in parts])
    assert joined.result() == (pytest.approx(expected), None, 2)
    own = kind(Settings())
    own.update((truth.clamp(0) - 1.0)[:, None].expand(-1, 3, -1, -1), fake)  # the truth is read in the real image
    assert own.counts.sum() == 8 and own.counts[0, 0] == 2
