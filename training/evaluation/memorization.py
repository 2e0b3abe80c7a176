"""Find generated images that are near copies of training images, by the nearest neighbour among thumbnails."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE_PIXELS = 16  # of a thumbnail
NEAR = 0.25  # a copy's distance, as a share of the median distance of a training image to its nearest neighbour
MIN_IMAGES = 16  # training images that make a judgement


class CopyFinder:
    """Compares images with training images; distances are Euclidean, between thumbnails.

    A copy is nearer to a training image than a quarter of the distance from a training image to its own neighbour.
    """

    def __init__(self, training: Iterable[Tensor]):
        self.training = _thumbnails(list(training))
        self.found: list[Tensor] = []
        apart = torch.cdist(self.training, self.training)
        own = apart.fill_diagonal_(torch.inf).amin(dim=1) if len(apart) > 1 else torch.zeros(0)
        self.limit = NEAR * own.median().item() if len(own) else 0.0
        self.usual = (own < self.limit).float().mean().item() if len(own) else 0.0

    def add(self, images: Tensor) -> None:
        """Add generated images, (N, C, H, W); images of other channels than the training images are not compared."""
        rows = _thumbnails([images])
        if len(self.training) >= MIN_IMAGES and rows.shape[1] == self.training.shape[1]:
            self.found.append(torch.cdist(rows, self.training).amin(dim=1))

    def take_shares(self) -> tuple[float, float] | None:
        """Return the shares of copies among the images added and among training images, and forget those added.

        None if there are too few to judge.
        """
        found, self.found = self.found, []
        return ((torch.cat(found) < self.limit).float().mean().item(), self.usual) if found else None


def _thumbnails(images: list[Tensor]) -> Tensor:
    """Return images (N, C, H, W) of any sizes as rows of numbers."""
    small = [F.adaptive_avg_pool2d(each.detach().float().cpu(), SIDE_PIXELS).flatten(1) for each in images]
    return torch.cat(small) if small else torch.zeros(0, 1)
