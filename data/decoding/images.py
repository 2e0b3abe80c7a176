"""Read picture files: upright, in sRGB, as many channels as are asked for."""

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

# recognised by content; others (EPS!) are never opened; JPEG includes MPO
PILLOW_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused, by --max_image_pixels
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged metadata, which costs nothing
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it cannot read, it also raises

JPEG_END_MARKER = b"\xff\xd9"


class ReadOptions(NamedTuple):
    """How files become pictures; background: RGB behind transparent pixels, None to leave transparency out."""

    background: tuple[int, int, int] | None = (255, 255, 255)
    icc: bool = True
    max_pixels: int = 89_478_485

    @classmethod
    def from_options(cls, o: Any) -> "ReadOptions":
        """Return what the options --background, --icc and --max_image_pixels say."""
        return cls(parse_colour(o.background), o.icc, o.max_image_pixels)


DEFAULT_READ_OPTIONS = ReadOptions()


def open_image(path: str, channels: int, options: ReadOptions = DEFAULT_READ_OPTIONS) -> Picture:
    """Return the picture in a file, upright (EXIF), its colours in sRGB.

    A Pillow image of mode L for 1 channel and RGB for 3 where the file has 8 bits a channel, else a Raster of as many
    channels, which keeps the file's numbers. Raises DataError, naming the file, for whatever cannot be read so, and
    EnvironmentFault where memory does not suffice.
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
        raise EnvironmentFault("image", path, "needs more memory than there is", remedy) from problem
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise DataError("image", path, unreadable_reason(path, problem), "delete or replace it") from problem


def open_lazily(path: str, max_pixels: int) -> Image.Image:
    """Return a picture of which only the header has been read; DataError if it is too large, or what Pillow raises."""
    Image.MAX_IMAGE_PIXELS = max(1, max_pixels // 2)  # Pillow refuses twice as many, also of a later frame
    try:
        image = Image.open(path_or_buffer(path), formats=PILLOW_FORMATS)
    except Image.DecompressionBombError as problem:
        raise high_bit_depth.too_many_pixels_error(path, max_pixels) from problem  # of a size that it does not tell
    if image.width * image.height > max_pixels:
        image.close()
        raise high_bit_depth.too_many_pixels_error(path, max_pixels, image.size)
    # else Pillow may map the file into memory: a TIFF on its side comes out wrong, one cut meanwhile ends the process
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
    """Return the picture of a JPEG that lacks bytes after its last pixel; raise what it raised if it lacks others.

    Whether pixels are missing too is seen by what follows in their place: of a whole picture it changes nothing.
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
    """Return a picture in as many channels; of a Pillow image: mode L for 1, RGB for 3, a Raster with alpha for 2 or 4.

    Raises DataError for a number that it cannot have.
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
        image = image.convert("RGBA")  # Pillow warns of going straight to RGB; the colours are the same
        if options.background is not None:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*options.background, 255)), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def parse_colour(text: str) -> tuple[int, int, int] | None:
    """Return RGB for a colour's name or #rrggbb, None for "none"; ValueError for no colour."""
    return None if text == "none" else ImageColor.getrgb(text)[:3]


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Return an image turned as EXIF says, the same one where nothing is to be turned: a copy may be huge."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF, in any of the ways Pillow meets it: the picture itself is fine as it lies
        return image
    return image


def unreadable_reason(path: str, problem: Exception) -> str:
    """Return why a file cannot be read: what it is instead of a picture, else what its reader said."""
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
