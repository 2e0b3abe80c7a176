"""Read picture files: upright, in sRGB, as many channels as are asked for."""

import logging
import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from data.decoding import high_bit_depth
from data.decoding import icc as profiles
from data.decoding.raster import Picture, Raster
from data.listing import demo
from data.listing.files import binary, first_bytes, open_file
from util.errors import DataError, EnvironmentFault

# recognised by content; others (EPS!) are never opened; JPEG includes MPO
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused, by --max_image_pixels
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged metadata, which costs nothing
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it cannot read, it also raises

END_OF_JPEG = b"\xff\xd9"


class Reading(NamedTuple):
    """How files become pictures; background: RGB behind transparent pixels, None to leave transparency out."""

    background: tuple[int, int, int] | None = (255, 255, 255)
    icc: bool = True
    max_pixels: int = 89_478_485

    @classmethod
    def of(cls, o: Any) -> "Reading":
        """Return what the options --background, --icc and --max_image_pixels say."""
        return cls(colour(o.background), o.icc, o.max_image_pixels)


USUAL = Reading()


def open_image(path: str, channels: int, how: Reading = USUAL) -> Picture:
    """Return the picture in a file, upright (EXIF), its colours in sRGB.

    A Pillow image of mode L for 1 channel and RGB for 3 where the file has 8 bits a channel, else a Raster of as many
    channels, which keeps the file's numbers. Raises DataError, naming the file, for whatever cannot be read so, and
    EnvironmentFault where memory does not suffice.
    """
    if demo.is_demo(path):
        return in_channels(demo.draw(path), channels, path, how)
    try:
        if path.lower().endswith((".npy", ".npz")):
            return high_bit_depth.in_channels(
                high_bit_depth.read_numpy(path, channels, how.max_pixels), channels, path, how.background
            )
        return _read(path, channels, how)
    except DataError:
        raise
    except MemoryError as problem:
        remedy = "lower --num_threads, --batch_size or --max_image_pixels"
        raise EnvironmentFault("image", path, "needs more memory than there is", remedy) from problem
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise DataError("image", path, reason(path, problem), "delete or replace it") from problem


def opened(path: str, max_pixels: int) -> Image.Image:
    """Return a picture of which only the header has been read; DataError if it is too large, or what Pillow raises."""
    Image.MAX_IMAGE_PIXELS = max(1, max_pixels // 2)  # Pillow refuses twice as many, also of a later frame
    try:
        image = Image.open(open_file(path), formats=FORMATS)
    except Image.DecompressionBombError as problem:
        raise high_bit_depth.too_large(path, max_pixels) from problem  # of a size that it does not tell
    if image.width * image.height > max_pixels:
        image.close()
        raise high_bit_depth.too_large(path, max_pixels, image.size)
    # else Pillow may map the file into memory: a TIFF on its side comes out wrong, one cut meanwhile ends the process
    image.filename = ""  # type: ignore[attr-defined]
    return image


def _read(path: str, channels: int, how: Reading) -> Picture:
    try:
        image = opened(path, how.max_pixels)
    except UnidentifiedImageError:
        if not high_bit_depth.is_tiff(path):
            raise
        return high_bit_depth.in_channels(
            high_bit_depth.read_tiff(path, channels, how.max_pixels), channels, path, how.background
        )
    with image:
        raster = high_bit_depth.read(image, path, channels, how.max_pixels)
        if raster is not None:
            return high_bit_depth.in_channels(raster, channels, path, how.background)
        try:
            image.load()
            whole: Image.Image = image
        except OSError:
            if image.format not in ("JPEG", "MPO"):
                raise
            whole = _jpeg_without_its_end(path, image)
        return in_channels(_upright(whole), channels, path, how)


def _jpeg_without_its_end(path: str, cut: Image.Image) -> Image.Image:
    """Return the picture of a JPEG that lacks bytes after its last pixel; raise what it raised if it lacks others.

    Whether pixels are missing too is seen by what follows in their place: of a whole picture it changes nothing.
    """
    with binary(path) as file:
        data = file.read().removesuffix(END_OF_JPEG[:1])
    if data.endswith(END_OF_JPEG):
        cut.load()  # raises again
    tries = [Image.open(BytesIO(data + end + END_OF_JPEG), formats=("JPEG",)) for end in (b"", b"\xaa" * 512)]
    plain, padded = (np.asarray(image) for image in tries)
    if not np.array_equal(plain, padded):
        raise OSError("image file is truncated")
    return tries[0]


def in_channels(image: Picture, channels: int, path: str, how: Reading = USUAL) -> Picture:
    """Return a picture in as many channels; of a Pillow image: mode L for 1, RGB for 3, a Raster with alpha for 2 or 4.

    Raises DataError for a number that it cannot have.
    """
    if isinstance(image, Raster):
        return high_bit_depth.in_channels(image, channels, path, how.background)
    if channels not in (1, 2, 3, 4):
        raise high_bit_depth.wrong_channels(path, len(image.getbands()), channels)
    if how.icc:
        image = profiles.to_srgb(image)
    if channels == (2 if image.mode in ("L", "LA") else 4) and image.has_transparency_data:
        return Raster(np.asarray(image.convert("LA" if channels == 2 else "RGBA")))
    if channels in (2, 4):
        raise high_bit_depth.wrong_channels(path, len(image.getbands()), channels)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # Pillow warns of going straight to RGB; the colours are the same
        if how.background is not None:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*how.background, 255)), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def colour(text: str) -> tuple[int, int, int] | None:
    """Return RGB for a colour's name or #rrggbb, None for "none"; ValueError for no colour."""
    return None if text == "none" else ImageColor.getrgb(text)[:3]


def _upright(image: Image.Image) -> Image.Image:
    """Return an image turned as EXIF says, the same one where nothing is to be turned: a copy may be huge."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF, in any of the ways Pillow meets it: the picture itself is fine as it lies
        return image
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
