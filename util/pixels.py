"""From a network's values to a file of pixels."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor


def to_pixels(image: "Tensor") -> np.ndarray:
    """Return a tensor (C, H, W) in [-1, 1] as uint8 (H, W, C); values beyond are clamped, the rest rounded."""
    scaled = (image.detach().float().cpu().clamp(-1, 1) + 1) / 2 * 255
    return scaled.round().permute(1, 2, 0).contiguous().byte().numpy()


def save_image(array: np.ndarray, path: Path, aspect_ratio: float = 1.0) -> None:
    """Write (H, W, 3) or (H, W, 1) uint8 to the file its extension names, in one step.

    aspect_ratio stretches the picture to that multiple of its width over its height.
    """
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    width, height = image.size
    if aspect_ratio > 1:
        image = image.resize((round(width * aspect_ratio), height), Image.Resampling.BICUBIC)
    elif aspect_ratio < 1:
        image = image.resize((width, round(height / aspect_ratio)), Image.Resampling.BICUBIC)
    beside = path.with_name(path.name + ".tmp")
    image.save(beside, format="PNG")
    os.replace(beside, path)
