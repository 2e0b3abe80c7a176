"""Read image files: upright, in sRGB, with the requested number of channels."""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor

from data.decoding.decoders import DECODERS, identify, unreadable_reason
from data.decoding.icc import to_srgb
from data.decoding.orientation import orient
from data.decoding.raster import LUMA_WEIGHTS, Picture, Raster, cast, composite_alpha
from data.listing.files import open_binary
from util.errors import DataError, EnvironmentFault, UserError, count_text


class ReadOptions(NamedTuple):
    """How image files are decoded.

    background: RGB behind transparent pixels, or None to ignore transparency. center: side of the square in the middle
    that is kept of an image, or 0 for the whole one; of a smaller image it is the largest square.
    """

    background: tuple[int, int, int] | None = (255, 255, 255)
    icc: bool = True
    max_pixels: int = 89_478_485  # from here on Pillow warns
    center: int = 0

    def __repr__(self) -> str:
        """Return the text that names a cache on disk; a new one would have every user's cache built again."""
        center = f", center={self.center}" if self.center else ""
        return f"Reading(background={self.background}, icc={self.icc}, max_pixels={self.max_pixels}{center})"

    @classmethod
    def from_options(cls, o: Any) -> "ReadOptions":
        """Return the values of --background, --icc and --max_image_pixels."""
        return cls(parse_colour(o.background), o.icc, o.max_image_pixels)


DEFAULT_READ_OPTIONS = ReadOptions()
REPLACE_REMEDY = "delete or replace it"  # for a file that is no image, or a damaged one


def open_image(path: str, channels: int, options: ReadOptions = DEFAULT_READ_OPTIONS) -> Picture:
    """Return the image in a file, upright (EXIF) and in sRGB.

    What Pillow reads with 8 bits per channel becomes a Pillow image of mode L (1 channel) or RGB (3 channels). Any
    other file, and any with 2 or 4 channels, becomes a Raster with `channels` channels that keeps the values of the
    file. Raises DataError naming the file if it cannot be read, and EnvironmentFault if memory does not suffice.
    """
    try:
        with open_binary(path) as file:
            source = identify(file, path, options.max_pixels)
            picture, orientation = DECODERS[source.kind](source, channels)
        picture = convert_channels(orient(picture, orientation), channels, path, options)
        return _middle(picture, options.center) if options.center else picture
    except DataError:
        raise
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise reading_error(path, problem) from problem


def _middle(picture: Picture, side: int) -> Picture:
    """Return the square in the middle of an image, as large as it allows."""
    width, height = picture.size
    side = min(side, width, height)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return picture.crop((left, top, left + side, top + side))


def reading_error(path: str, problem: Exception) -> UserError:
    """Return the error, naming the file, for what a decoder raised: EnvironmentFault if memory does not suffice."""
    if isinstance(problem, MemoryError):
        remedy = "lower --num_threads, --batch_size or --max_image_pixels"
        return EnvironmentFault("image", path, "needs more memory than is available", remedy)
    return DataError("image", path, unreadable_reason(path, problem), REPLACE_REMEDY)


def convert_channels(image: Picture, channels: int, path: str, options: ReadOptions = DEFAULT_READ_OPTIONS) -> Picture:
    """Return an image in sRGB with `channels` channels: mode L for 1, RGB for 3, a Raster with alpha for 2 or 4.

    A Raster stays a Raster: grey is repeated, RGB becomes luminance, alpha is composited. Raises DataError if the
    conversion is not possible.
    """
    if isinstance(image, Image.Image):
        return _convert_pillow(image, channels, path, options)
    array = image.array
    if array.shape[2] == channels:
        return image
    if array.shape[2] in (2, 4) and channels in (1, 3) and image.has_alpha:
        array = composite_alpha(array, options.background)
    if (array.shape[2], channels) == (3, 1):
        array = cast(array.dtype, (array * LUMA_WEIGHTS).sum(axis=2, keepdims=True))
    elif (array.shape[2], channels) == (1, 3):
        array = np.repeat(array, 3, axis=2)
    if array.shape[2] != channels:
        raise channels_error(path, image.channels, channels)
    return Raster(array)


def _convert_pillow(image: Image.Image, channels: int, path: str, options: ReadOptions) -> Picture:
    if channels not in (1, 2, 3, 4):
        raise channels_error(path, len(image.getbands()), channels)
    if options.icc:
        image = to_srgb(image)
        image.info.pop("icc_profile", None)  # the halves of a pair are converted once more, to their channels
    if channels in (2, 4):
        if channels != (2 if image.mode in ("L", "LA") else 4) or not image.has_transparency_data:
            raise channels_error(path, len(image.getbands()), channels)
        return Raster(np.asarray(image.convert("LA" if channels == 2 else "RGBA")))
    if image.has_transparency_data:
        image = image.convert("RGBA")  # Pillow warns about a direct conversion to RGB; the colours are the same
        if options.background is not None:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*options.background, 255)), image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def channels_error(path: str, actual: int, wanted: int) -> DataError:
    """Return the error for an image whose number of channels does not fit the run."""
    why = f"has {count_text(actual, 'channel')} and cannot be converted to {wanted}"
    alpha = " (as PNG if the last is transparency)" if actual in (2, 4) and wanted in (1, 3) else ""
    flags = f"use --input_nc {actual} or --output_nc {actual} in training"
    return DataError("image", path, why, f"{flags}, or convert it to {count_text(wanted, 'channel')}{alpha}")


def parse_colour(text: str) -> tuple[int, int, int] | None:
    """Return RGB for a colour name or #rrggbb, None for "none"; raise ValueError for anything else."""
    return None if text == "none" else ImageColor.getrgb(text)[:3]
