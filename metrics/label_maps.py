"""Scores of label maps: whether a segmenter reads a generated image as the label map that it was made from."""

import torch
from torch import Tensor

from metrics.base import Metric, Result
from metrics.settings import Settings


class LabelMapScore(Metric):
    """The score of a segmenter's label maps, as the FCN score of pix2pix (Isola et al. 2017, section 4.1).

    A subclass sets `number`, the number of labels, defines `segment`, and may choose the score: "pixel_accuracy" (the
    share of pixels), "class_accuracy" (the mean of this share over the labels) or "class_iou" (the mean intersection
    over union). The truth is the label maps that `update` is given, (N, H, W), else what the segmenter reads in the
    real image. Pixels with a truth outside 0 to number - 1 do not count.
    """

    better, paired = "higher", True
    number: int
    score = "pixel_accuracy"

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.counts = torch.zeros(self.number, self.number, dtype=torch.int64)  # (truth, read)
        self.images = 0

    def segment(self, images: Tensor) -> Tensor:
        """Return the label maps, (N, H, W) of whole numbers, of images (N, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def update(self, real: Tensor | None, fake: Tensor | None, labels: Tensor | None = None) -> None:
        """Count the pixels of each truth that are read as each label."""
        assert real is not None and fake is not None  # Evaluation has checked it
        read = self.segment(fake).cpu()
        given = labels is not None and labels.ndim == 3
        truth = (labels if given else self.segment(real)).cpu()  # type: ignore[union-attr]
        if truth.shape != read.shape:
            shapes = " and ".join("x".join(map(str, side.shape)) for side in (truth, read))
            why = f"compares label maps of one size, not {shapes}"
            raise self.refusal(why, "resize them")
        inside = (truth >= 0) & (truth < self.number)
        pairs = truth[inside].long() * self.number + read[inside].long().clamp(0, self.number - 1)
        self.counts += torch.bincount(pairs, minlength=self.number**2).view(self.number, self.number)
        self.images += len(fake)

    def partial(self) -> dict[str, Tensor]:
        """Return the counts."""
        return {"counts": self.counts, "images": torch.tensor(self.images)}

    def merge(self, partials) -> None:
        """Hold the sums of these counts from now on."""
        self.counts = torch.stack([part["counts"] for part in partials]).sum(0)
        self.images = sum(int(part["images"]) for part in partials)

    def result(self) -> Result:
        """Return the score; labels that appear nowhere do not count in the means."""
        right, truths, reads = self.counts.diag().double(), self.counts.sum(1), self.counts.sum(0)
        if not truths.sum():
            raise self.refusal("has no labelled pixels", "give images with label maps")
        if self.score == "pixel_accuracy":
            return Result((right.sum() / truths.sum()).item(), None, self.images)
        whole = truths if self.score == "class_accuracy" else truths + reads - self.counts.diag()
        present = whole > 0
        return Result((right[present] / whole[present]).mean().item(), None, self.images)
