"""Read image files: upright, in sRGB, with the requested number of channels."""

import logging
import warnings
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from data.decoding import high_bit_depth, icc
from data.decoding.raster import Picture, Raster
from data.listing import demo
from data.listing.files import open_binary, path_or_buffer, read_first_bytes
from util.errors import DataError, EnvironmentFault

# recognised by content; other formats, such as EPS, are never opened; JPEG includes MPO
PILLOW_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # --max_image_pixels refuses large images
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged metadata is harmless
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it also raises what it logs

JPEG_END_MARKER = b"\xff\xd9"


class ReadOptions(NamedTuple):
    """How image files are decoded; background: RGB behind transparent pixels, or None to ignore transparency."""

    background: tuple[int, int, int] | None = (255, 255, 255)
    icc: bool = True
    max_pixels: int = 89_478_485

    def __repr__(self) -> str:
        """Return the text that names a cache on disk; a new one would have every user's cache built again."""
        return f"Reading(background={self.background}, icc={self.icc}, max_pixels={self.max_pixels})"

    @classmethod
    def from_options(cls, o: Any) -> "ReadOptions":
        """Return the values of --background, --icc and --max_image_pixels."""
        return cls(parse_colour(o.background), o.icc, o.max_image_pixels)


DEFAULT_READ_OPTIONS = ReadOptions()


def open_image(path: str, channels: int, options: ReadOptions = DEFAULT_READ_OPTIONS) -> Picture:
    """Return the image in a file, upright (EXIF) and in sRGB.

    A file with 8 bits per channel becomes a Pillow image of mode L (1 channel) or RGB (3 channels). Any other becomes a
    Raster with `channels` channels that keeps the values of the file. Raises DataError naming the file if it cannot be
    read, and EnvironmentFault if memory does not suffice.
    """
    if demo.is_demo(path):
        return convert_channels(demo.draw_image(path), channels, path, options)
    try:
        if path.lower().endswith((".npy", ".npz")):
            return high_bit_depth.convert_channels(
                high_bit_depth.read_numpy(path, channels, options.max_pixels), channels, path, options.background
            )
        return _read_file(path, channels, options)
    except DataError:
        raise
    except MemoryError as problem:
        remedy = "lower --num_threads, --batch_size or --max_image_pixels"
        raise EnvironmentFault("image", path, "needs more memory than is available", remedy) from problem
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise DataError("image", path, unreadable_reason(path, problem), "delete or replace it") from problem


def open_lazily(path: str, max_pixels: int) -> Image.Image:
    """Open an image and read only its header. Raises DataError if it is too large, else what Pillow raises."""
    Image.MAX_IMAGE_PIXELS = max(1, max_pixels // 2)  # Pillow refuses twice as many, also in later frames
    try:
        image = Image.open(path_or_buffer(path), formats=PILLOW_FORMATS)
    except Image.DecompressionBombError as problem:
        raise high_bit_depth.too_many_pixels_error(path, max_pixels) from problem  # the error states no size
    if image.width * image.height > max_pixels:
        image.close()
        raise high_bit_depth.too_many_pixels_error(path, max_pixels, image.size)
    # With a file name Pillow may map the file into memory: a rotated TIFF is then decoded wrongly, and a file that is
    # truncated while it is read kills the process.
    image.filename = ""  # type: ignore[attr-defined]
    return image


def _read_file(path: str, channels: int, options: ReadOptions) -> Picture:
    try:
        image = open_lazily(path, options.max_pixels)
    except UnidentifiedImageError:
        if not high_bit_depth.is_tiff(path):
            raise
        return high_bit_depth.convert_channels(
            high_bit_depth.read_tiff(path, channels, options.max_pixels), channels, path, options.background
        )
    with image:
        raster = high_bit_depth.read_raster(image, path, channels, options.max_pixels)
        if raster is not None:
            return high_bit_depth.convert_channels(raster, channels, path, options.background)
        try:
            image.load()
            decoded: Image.Image = image
        except OSError:
            if image.format not in ("JPEG", "MPO"):
                raise
            decoded = _read_truncated_jpeg(path, image)
        return convert_channels(_apply_exif_orientation(decoded), channels, path, options)


def _read_truncated_jpeg(path: str, truncated: Image.Image) -> Image.Image:
    """Return the image of a JPEG that lacks only bytes after its last pixel; raise OSError if pixels are missing.

    The file is decoded with two different endings. If pixels are missing, they take their values from the ending, so
    that the two images differ.
    """
    with open_binary(path) as file:
        data = file.read().removesuffix(JPEG_END_MARKER[:1])
    if data.endswith(JPEG_END_MARKER):
        truncated.load()  # raises again
    candidates = [Image.open(BytesIO(data + end + JPEG_END_MARKER), formats=("JPEG",)) for end in (b"", b"\xaa" * 512)]
    plain, padded = (np.asarray(image) for image in candidates)
    if not np.array_equal(plain, padded):
        raise OSError("image file is truncated")
    return candidates[0]


def convert_channels(image: Picture, channels: int, path: str, options: ReadOptions = DEFAULT_READ_OPTIONS) -> Picture:
    """Return an image with `channels` channels: mode L for 1, RGB for 3, a Raster with alpha for 2 or 4.

    A Raster stays a Raster. Raises DataError if the conversion is not possible.
    """
    if isinstance(image, Raster):
        return high_bit_depth.convert_channels(image, channels, path, options.background)
    if channels not in (1, 2, 3, 4):
        raise high_bit_depth.channels_error(path, len(image.getbands()), channels)
    if options.icc:
        image = icc.to_srgb(image)
    if channels == (2 if image.mode in ("L", "LA") else 4) and image.has_transparency_data:
        return Raster(np.asarray(image.convert("LA" if channels == 2 else "RGBA")))
    if channels in (2, 4):
        raise high_bit_depth.channels_error(path, len(image.getbands()), channels)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # Pillow warns about a direct conversion to RGB; the colours are the same
        if options.background is not None:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*options.background, 255)), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def parse_colour(text: str) -> tuple[int, int, int] | None:
    """Return RGB for a colour name or #rrggbb, None for "none"; raise ValueError for anything else."""
    return None if text == "none" else ImageColor.getrgb(text)[:3]


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Turn an image upright by its EXIF orientation and return it. Works in place: a copy may be huge."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF raises many types; the image is usable without it
        return image
    return image


def unreadable_reason(path: str, problem: Exception) -> str:
    """Return why a file cannot be read: what it is instead of an image, or else the decoder's message."""
    try:
        first_bytes = read_first_bytes(path, 64)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not first_bytes:
        return "not an image (empty file)"
    if first_bytes.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself (git lfs pull fetches it)"
    if first_bytes.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "not an image (a web page)"
    return f"cannot be read ({type(problem).__name__}: {problem})"
