"""Distances between two sets of features: Frechet's, and the kernel distance of the KID."""

import torch
from torch import Tensor

from metrics.sets import FeatureMetric

WHOLE = 5000  # images of a side up to which the kernel distance compares all with all
PART = 1000  # images of a part otherwise, as is usual for the KID
SUBSETS = 10  # for its standard error


class FrechetDistance(FeatureMetric):
    """The Frechet distance between two Gaussians with the means and covariances of the features, 0 for equal sets.

    With the features of Inception it is the FID (Heusel et al. 2017, equation 6). It depends on the number of images.
    """

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return |difference of means|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

        The trace of the root is the sum of the singular values of A B^T, where A^T A = S1 and B^T B = S2.
        """
        roots = []
        for side in (real, fake):
            centred = (side - side.mean(0)) / (len(side) - 1) ** 0.5
            roots.append(torch.linalg.qr(centred, "r").R if len(side) > side.shape[1] else centred)
        a, b = roots
        shift = (real.mean(0) - fake.mean(0)).square().sum()
        return (shift + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()).item(), None

    def notes(self) -> list[str]:
        """Return also that few images make the distance larger."""
        few, notes = min(self.numbers()), super().notes()
        features = self.rows["fake"][0].shape[1] if few else 0
        if few > features or not few:
            return notes
        why = f"{few} images are no more than the {features} features, which makes the value larger"
        return [*notes, f"{why}; compare it only with values of as many images"]


class KernelDistance(FeatureMetric):
    """The squared maximum mean discrepancy of the features, unbiased: about 0 for sets of one distribution, or below.

    The kernel is (x y / D + 1)^3; with the features of Inception it is the KID (Binkowski et al. 2018, section 4). Up
    to 5,000 images of a side are compared all with all, and the standard error is the jackknife's over 10 subsets (None
    below 10 images of a side); more are compared in parts of 1,000, whose mean and its standard error are the result.
    """

    def compare(self, real: Tensor, fake: Tensor) -> tuple[float, float | None]:
        """Return the distance, and its standard error over subsets."""
        real, fake = (_shuffled(side, seed) for seed, side in enumerate((real, fake)))
        few, many = sorted((len(real), len(fake)))
        if many > WHOLE and few >= 2 * PART:
            parts = zip(real.tensor_split(few // PART), fake.tensor_split(few // PART))
            values = torch.stack([discrepancies(r, f, 1)[0] for r, f in parts])
            return values.mean().item(), (values.std() / len(values) ** 0.5).item()
        value, *without = discrepancies(real, fake, SUBSETS if few >= SUBSETS else 1)
        if not without:
            return value.item(), None
        spread = torch.stack(without).var(correction=0) * (SUBSETS - 1)
        return value.item(), spread.sqrt().item()


def discrepancies(real: Tensor, fake: Tensor, number: int) -> Tensor:
    """Return the unbiased squared discrepancy of all rows, and those without each of `number` subsets if it is not 1.

    Each is computed from the sums of the kernel over pairs of subsets.
    """
    members = [_members(len(side), number) for side in (real, fake)]  # (N, number), 1 where a row is in a subset
    sums = [_kernel_sums(x, y, *of) for x, y, *of in ((real, real, members[0], members[0]),
            (fake, fake, members[1], members[1]), (real, fake, *members))]  # fmt: skip
    for k, side in enumerate((real, fake)):  # an image is not compared with itself
        sums[k] -= torch.diag(members[k].T @ (side.square().sum(1) / side.shape[1] + 1) ** 3)
    kept = torch.ones(1, number) if number == 1 else torch.cat([torch.ones(1, number), 1 - torch.eye(number)])
    found = []
    for use in kept.to(real):
        n, m = (use @ of.sum(0) for of in members)
        within = use @ sums[0] @ use / (n * (n - 1)) + use @ sums[1] @ use / (m * (m - 1))
        found.append(within - 2 * (use @ sums[2] @ use) / (n * m))
    return torch.stack(found)


def _kernel_sums(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> Tensor:
    """Return the sums of the kernel over the pairs of subsets of x and of y."""
    total = torch.zeros(of_x.shape[1], of_y.shape[1]).to(x)
    for rows, members in zip(x.split(PART), of_x.split(PART)):
        total += members.T @ (rows @ y.T / x.shape[1] + 1) ** 3 @ of_y
    return total


def _members(rows: int, number: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(rows) % number, number).double()


def _shuffled(rows: Tensor, seed: int) -> Tensor:
    """Return rows in an order that is always the same; neighbours in the sorted order are alike."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
