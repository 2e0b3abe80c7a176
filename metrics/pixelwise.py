"""Pixel-wise metrics of a generated image and its ground truth."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def l1(fake: "Tensor", real: "Tensor") -> float:
    """Return the mean absolute difference, in units of the [-1, 1] range (0 to 2)."""
    return (fake - real).abs().mean().item()


def psnr(fake: "Tensor", real: "Tensor") -> float:
    """Return the peak signal-to-noise ratio in dB; the peak is 2, the width of [-1, 1]. inf for equal images."""
    error = (fake - real).square().mean().item()
    return 10 * math.log10(4 / error) if error else math.inf
