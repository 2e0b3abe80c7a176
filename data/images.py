"""Read picture files: upright, 8 bits a channel, grey or RGB."""

import numpy as np
from PIL import Image, ImageOps

from data import demo
from data.files import first_bytes, open_file
from util.errors import DataError

# recognised by content; others (EPS!) are never opened; JPEG includes MPO
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")


def open_image(path: str, channels: int) -> Image.Image:
    """Return the picture in a file, upright (EXIF), as mode L for 1 channel, else RGB.

    16-bit grey keeps its upper 8 bits. Raises DataError, naming the file, for whatever cannot be read so.
    """
    if demo.is_demo(path):
        return in_channels(demo.draw(path), channels, path)
    try:
        with Image.open(open_file(path), formats=FORMATS) as image:
            image.load()
            return in_channels(_eight_bit(_upright(image), path, image.format), channels, path)
    except (DataError, MemoryError):
        raise
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise DataError("image", path, reason(path, problem), "delete or replace it") from problem


def in_channels(image: Image.Image, channels: int, path: str) -> Image.Image:
    """Return a picture as mode L for 1 channel, RGB for 3; DataError for other numbers."""
    if channels not in (1, 3):
        raise DataError("image", path, f"cannot become {channels} channels", "use --input_nc and --output_nc 1 or 3")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of going straight to RGB; the colours are the same
    image = image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF, in any of the ways Pillow meets it: the picture itself is fine as it lies
        return image


def _eight_bit(image: Image.Image, path: str, source_format: str | None) -> Image.Image:
    """Return an image whose values fit 8 bits; PIL's own conversion would clip 16-bit pictures to white."""
    if image.mode == "I" and source_format == "TIFF":
        raise DataError("image", path, "holds 32-bit numbers", "convert it to 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise DataError("image", path, "holds 32-bit floats", "convert it to 8 or 16 bits a channel")
    return image


def reason(path: str, problem: Exception) -> str:
    """Return why a file cannot be read: what it is instead of a picture, else what its reader said."""
    try:
        start = first_bytes(path, 64)
    except OSError as unreadable:
        return f"cannot be read ({unreadable.strerror})"
    if not start:
        return "not an image (empty file)"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself (git lfs pull fetches it)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "not an image (a web page)"
    return f"cannot be read ({type(problem).__name__}: {problem})"
