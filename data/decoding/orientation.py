"""Read the orientation of images (EXIF, TIFF tag 274) and turn images upright."""

from contextlib import suppress
from typing import Any

from PIL import Image, ImageOps

from data.decoding.raster import Picture

EXIF_ORIENTATION_TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # width and height are exchanged
UPRIGHT = 1


def read_orientation(image: Image.Image, decode_all: bool = True) -> int:
    """Return the orientation of a file opened by Pillow, 1 to 8.

    Returns 1 if the file does not state it, and for TIFF, which Pillow turns itself. A PNG may state it after its
    pixels, which is read only with `decode_all`.
    """
    if image.format == "TIFF":
        return UPRIGHT
    try:
        orientation = (image.getexif() if decode_all else Image.Image.getexif(image)).get(EXIF_ORIENTATION_TAG, UPRIGHT)
        return orientation if orientation in range(1, 9) else UPRIGHT
    except Exception:  # damaged EXIF raises many types; the image is usable without it
        return UPRIGHT


def orient(picture: Picture, orientation: Any) -> Picture:
    """Turn an image upright in place, because a copy may be huge, and return it (TIFF 6.0, Orientation).

    orientation: that of a Raster; Pillow's images know their own.
    """
    if isinstance(picture, Image.Image):
        with suppress(Exception):  # damaged EXIF raises many types; the image is usable without it
            ImageOps.exif_transpose(picture, in_place=True)
        return picture
    if orientation in SIDEWAYS:
        picture.array = picture.array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture.array = picture.array[::-1]
    if orientation in (2, 3, 6, 7):
        picture.array = picture.array[:, ::-1]
    return picture
