"""Images for tests, and the check of an image's error message."""

import numpy as np
import pytest
from PIL import Image

from data.decoding.images import open_image
from util.errors import DataError

ODD_SIDES = (16, 17, 19, 23, 29, 31, 33, 37, 43, 47, 53, 61, 67, 97, 101, 131)  # 16, which is the minimum, and primes


def picture(seed: int, width: int = 48, height: int = 40, mode: str = "RGB") -> Image.Image:
    """Return a smooth random image that differs for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def refused(path, channels=3):
    """Return the error for an image, which must be one line that names the file and a remedy."""
    with pytest.raises(DataError) as caught:
        open_image(str(path), channels)
    text = str(caught.value)
    assert text.startswith(f"image '{path}': ")
    assert "\n" not in text
    assert "; " in text
    return text
