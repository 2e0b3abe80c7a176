"""Images for tests."""

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 48, height: int = 40, mode: str = "RGB") -> Image.Image:
    """Return a smooth picture with noise, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)
