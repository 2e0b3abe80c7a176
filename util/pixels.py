"""From a network's values to a file of pixels."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor


PADDING = 2  # pixels between pictures of a grid
COLUMNS = 10  # pictures in a row of a sheet on the training page


def to_pixels(image: "Tensor") -> np.ndarray:
    """Return a tensor (C, H, W) in [-1, 1] as uint8 (H, W, C); values beyond are clamped, the rest rounded."""
    scaled = (image.detach().float().cpu().clamp(-1, 1) + 1) / 2 * 255
    return scaled.round().permute(1, 2, 0).contiguous().byte().numpy()


def first_pixels(images: "dict[str, Tensor]") -> dict[str, np.ndarray]:
    """Return the first picture of each batch (N, C, H, W) as uint8 (H, W, C)."""
    return {name: to_pixels(batch[0]) for name, batch in images.items()}


def first_pictures(batch: "dict[str, Any]", side: int) -> dict[str, np.ndarray]:
    """Return the first of each (N, C, H, W) in a batch that has as many channels as a picture, as uint8 (H, W, C).

    Of pictures with a longer side than `side` every second pixel is left out, or more.
    """
    pictures = {name: value for name, value in batch.items() if getattr(value, "ndim", 0) == 4}
    thin = {name: -(-max(value.shape[2:]) // side) for name, value in pictures.items()}
    return first_pixels({name: value[:1, :, :: thin[name], :: thin[name]] for name, value in pictures.items()
                         if value.shape[1] in (1, 3)})  # fmt: skip


def grid(arrays: list[np.ndarray], ncols: int) -> np.ndarray:
    """Return pictures in rows of ncols on white, each in a cell of the largest one's size."""
    height = max(a.shape[0] for a in arrays) + PADDING
    width = max(a.shape[1] for a in arrays) + PADDING
    rows = -(-len(arrays) // ncols)
    sheet = np.full((rows * height, min(ncols, len(arrays)) * width, 3), 255, np.uint8)
    for number, array in enumerate(arrays):
        top, left = number // ncols * height, number % ncols * width
        sheet[top : top + array.shape[0], left : left + array.shape[1]] = array
    return sheet


def save_image(array: np.ndarray, path: Path, aspect_ratio: float = 1.0) -> tuple[int, int]:
    """Write (H, W, 3) or (H, W, 1) uint8 to the file its extension names, in one step; return its width and height.

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
    return image.size
