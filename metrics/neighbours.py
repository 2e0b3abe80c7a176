"""Fidelity and coverage of generated images by nearest neighbours: precision, recall, density, coverage."""

from collections.abc import Iterator

import torch
from torch import Tensor

from metrics.sets import FeatureMetric

ROWS = 1000  # rows of distances that are held at once
ROUNDING = 1e-9  # of equal distances


class Precision(FeatureMetric):
    """The share of generated images within the reach of a real one: the distance to its third nearest real neighbour.

    Kynkaanniemi et al. 2019, equation 2, with k = 3. Values from 0 to 1.
    """

    better, neighbours = "higher", 3

    @property
    def least(self) -> int:  # type: ignore[override]
        """Images that each side needs: one with its neighbours."""
        return self.neighbours + 1

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return the share, and its binomial standard error."""
        return share(is_within_reach(fake, real, self.neighbours))


class Recall(Precision):
    """The share of real images within the reach of a generated one: precision with the sides exchanged."""

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return the share, and its binomial standard error."""
        return share(is_within_reach(real, fake, self.neighbours))


class Density(Precision):
    """The mean number of real images whose reach holds a generated image, divided by k = 5; 1 is expected.

    Naeem et al. 2020, equation 3; it may be above 1.
    """

    neighbours = 5

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return the density, and its standard error over the generated images."""
        reach = reaches(real, self.neighbours)
        counts = (
            torch.cat([(d < reach * (1 - ROUNDING)).double().sum(1) for d in distances(fake, real)]) / self.neighbours
        )
        return counts.mean().item(), (counts.std() / len(counts) ** 0.5).item()


class Coverage(Precision):
    """The share of real images whose reach holds a generated image (Naeem et al. 2020, equation 4), with k = 5."""

    neighbours = 5

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return the share, and its binomial standard error."""
        nearest = torch.cat([d.amin(1) for d in distances(real, fake)])
        return share(nearest < reaches(real, self.neighbours) * (1 - ROUNDING))


def distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Yield the distances of some rows of x after another to all rows of y."""
    return (torch.cdist(rows, y) for rows in x.split(ROWS))


def reaches(x: Tensor, neighbours: int) -> Tensor:
    """Return the distance of each row to its k-th nearest other row, (N,)."""
    return torch.cat([d.kthvalue(neighbours + 1, dim=1).values for d in distances(x, x)])  # the nearest is itself


def is_within_reach(x: Tensor, others: Tensor, neighbours: int) -> Tensor:
    """Return which rows of x are within the reach of one of the others, (N,)."""
    reach = reaches(others, neighbours)
    return torch.cat([(d <= reach * (1 + ROUNDING)).any(1) for d in distances(x, others)])


def share(found: Tensor) -> tuple[float, float]:
    """Return the share of True, and its binomial standard error."""
    p = found.double().mean().item()
    return p, (p * (1 - p) / len(found)) ** 0.5
