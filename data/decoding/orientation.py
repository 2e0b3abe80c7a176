"""How pictures lie in their files: what EXIF or TIFF's tag 274 says, and arrays turned upright by it."""

from typing import Any

import numpy as np
from PIL import Image

EXIF_ORIENTATION_TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # width and height are exchanged
UPRIGHT = 1


def read_orientation(image: Image.Image, decode_all: bool = True) -> int:
    """Return how a file opened by Pillow lies, 1 to 8; 1 if nothing says so, or of a TIFF, which Pillow itself turns.

    A PNG may say it after its pixels: not `whole`, what is said there is not looked for.
    """
    if image.format == "TIFF":
        return UPRIGHT
    try:
        orientation = (image.getexif() if decode_all else Image.Image.getexif(image)).get(EXIF_ORIENTATION_TAG, UPRIGHT)
        return orientation if orientation in range(1, 9) else UPRIGHT
    except Exception:  # damaged EXIF, in any of the ways Pillow meets it: the picture itself is fine as it lies
        return UPRIGHT


def apply_orientation(array: np.ndarray, orientation: Any) -> np.ndarray:
    """Return a picture (H, W) or (H, W, C) upright that lies as an orientation says (TIFF 6.0, Orientation)."""
    if orientation in SIDEWAYS:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
