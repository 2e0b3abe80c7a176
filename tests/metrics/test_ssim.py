"""SSIM and MS-SSIM are those of other implementations."""

import numpy as np
import pytest
import torch

from metrics.pixelwise import psnr
from metrics.settings import Settings
from metrics.ssim import MultiScaleSsim, Ssim
from util.errors import DataError


def scene(height, width, phase):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([np.sin(x / 7 + phase) * np.cos(y / (5 + c) + phase * c) for c in range(3)])


def pair(height, width):
    changed = np.clip(0.8 * scene(height, width, 0.3) + 0.1 * scene(height, width, 5.0) ** 2, -1, 1)
    return [torch.from_numpy(image).float()[None] for image in (scene(height, width, 0.0), changed)]


@pytest.mark.parametrize(("size", "expected", "decibels"), [((24, 31), 0.777735, 18.822422),
    ((176, 192), 0.789826, 18.420323)])  # fmt: skip
def test_values_are_those_of_scikit_image(size, expected, decibels):
    """scikit-image 0.26 with data_range=1, gaussian_weights=True, use_sample_covariance=False, of [0, 1]."""
    real, fake = pair(*size)
    assert Ssim(Settings()).measure(real, fake).item() == pytest.approx(expected, abs=1e-5)
    assert psnr(fake[0], real[0]) == pytest.approx(decibels, abs=1e-4)


@pytest.mark.parametrize(("size", "expected"), [((176, 192), 0.857648), ((179, 193), 0.857526)])
def test_scales_are_those_of_piq(size, expected):
    """piq.multi_scale_ssim 0.8, of [0, 1]; 179 and 193 are odd at every scale."""
    assert MultiScaleSsim(Settings()).measure(*pair(*size)).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("metric", "least"), [(Ssim, 11), (MultiScaleSsim, 161)])
def test_equal_images_have_1_and_too_small_ones_are_refused(metric, least):
    image = pair(least, least + 3)[0]
    assert metric(Settings()).measure(image, image).item() == pytest.approx(1)
    with pytest.raises(DataError, match=f"needs sides of {least} pixels"):
        metric(Settings()).measure(image[..., 1:, :], image[..., 1:, :])
