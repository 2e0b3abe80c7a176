"""Structural similarity of two images, at one scale and at several."""

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.base import PairedMetric

WINDOW, SIGMA = 11, 1.5  # pixels
STABILISERS = (0.01, 0.03)  # K1, K2, for images in [0, 1]: the means of windows count
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class Ssim(PairedMetric):
    """The mean structural similarity, at most 1, of windows of 11 pixels (Wang et al. 2004), channel by channel.

    It is scikit-image's with gaussian_weights=True and use_sample_covariance=False; images are not made smaller first.
    """

    better = "higher"

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the similarity of each pair, (N,); raise DataError for images with a side below 11 pixels."""
        check_sides(self, real, WINDOW)
        return structural_terms(real, fake)[0].mean(1)


class MultiScaleSsim(PairedMetric):
    """The structural similarity at five scales (Wang et al. 2003), at most 1; images have sides of 161 pixels or more.

    As in the paper contrast counts at all scales and luminance at the last; negative terms count as 0.
    """

    better = "higher"

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the similarity of each pair, (N,); raise DataError for images with a side below 161 pixels."""
        check_sides(self, real, (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1)
        product: Tensor | float = 1.0
        for scale, weight in enumerate(SCALE_WEIGHTS):
            similarity, contrast = structural_terms(real, fake)
            last = scale + 1 == len(SCALE_WEIGHTS)
            product = product * (similarity if last else contrast).relu() ** weight
            real, fake = halve(real), halve(fake)
        return torch.as_tensor(product).mean(1)


def structural_terms(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the similarity and its contrast-structure term for each image and channel, (N, C) each, in float64."""
    images = (image.cpu() if image.device.type == "mps" else image for image in (real, fake))
    x, y = ((image.double() + 1) / 2 for image in images)
    c1, c2 = (k**2 for k in STABILISERS)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, covariance = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    contrast = (2 * covariance + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * contrast).mean((2, 3)), contrast.mean((2, 3))


def blur(x: Tensor) -> Tensor:
    """Return the Gaussian means of all windows that lie inside the image."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel = (weights / weights.sum()).expand(x.shape[1], 1, 1, -1)
    return F.conv2d(F.conv2d(x, kernel, groups=x.shape[1]), kernel.mT, groups=x.shape[1])


def halve(x: Tensor) -> Tensor:
    """Return the means of 2x2 pixels; a side with an odd number of them first repeats its first."""
    odd = max(side % 2 for side in x.shape[2:])
    return F.avg_pool2d(F.pad(x, (odd, 0, odd, 0), mode="replicate"), 2)


def check_sides(metric: PairedMetric, image: Tensor, least: int) -> None:
    """Raise DataError for images with a side below `least` pixels."""
    height, width = image.shape[2:]
    if min(height, width) < least:
        why = f"needs sides of {least} pixels or more, and an image has {width}x{height}"
        raise metric.refusal(why, "choose another metric, such as L1")
