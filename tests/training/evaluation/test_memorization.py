"""Copies of training images are found, and images that only resemble them are not taken for copies."""

import pytest
import torch

from training.evaluation.memorization import MIN_IMAGES, CopyFinder

TRAINING = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
OTHERS = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("images", "share"),
    [(TRAINING[3:13], 1.0), (TRAINING[:10] + 0.02 * OTHERS, 1.0), (OTHERS, 0.0),
     (torch.cat([TRAINING[:5], OTHERS[:5]]), 0.5), ((TRAINING[:10] + TRAINING[10:20]) / 2, 0.0)],
    ids=["copies", "noisy copies", "others", "half", "mixtures"],
)  # fmt: skip
def test_shares_of_copies(images, share):
    copies = CopyFinder(TRAINING.split(1))
    for part in images.split(4):
        copies.add(part)
    assert copies.take_shares() == (share, 0.0)
    assert copies.take_shares() is None


def test_images_that_repeat_are_usual_and_few_are_not_judged():
    copies = CopyFinder(torch.cat([TRAINING, TRAINING[:10]]).split(1))
    copies.add(TRAINING[:10])
    assert copies.take_shares() == (1.0, pytest.approx(20 / 50))
    few = CopyFinder(TRAINING[: MIN_IMAGES - 1].split(1))
    few.add(TRAINING[:2])
    assert few.take_shares() is None


def test_images_of_other_channels_are_not_compared():
    copies = CopyFinder(TRAINING.split(1))
    copies.add(TRAINING[:3, :1])
    assert copies.take_shares() is None
