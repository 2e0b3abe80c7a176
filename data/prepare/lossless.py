"""Read, join, scale and write image files without loss, in any dtype."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.decoding.decoders import DECODERS, ImageSource, identify, unreadable_reason
from data.decoding.header_check import count_frames
from data.decoding.icc import to_srgb
from data.decoding.images import DEFAULT_READ_OPTIONS, REPLACE_REMEDY, open_image
from data.decoding.orientation import SIDEWAYS, orient, read_orientation
from data.decoding.raster import Raster, resize_nearest
from data.listing.files import open_binary
from util.errors import DataError, count_text
from util.image_io import PNG_COMPRESSION, write_array

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "NPY": ".npy", "PPM": ".ppm", "BMP": ".bmp",
            "WEBP": ".webp", "GIF": ".gif"}  # fmt: skip
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "YCbCr")  # at most 8 bits
GREY, COLOUR, WITH_ALPHA = (1,), (1, 3), (1, 2, 3, 4)  # channel counts
CHANNELS_OF_FORMAT: dict[str, dict[str, tuple[int, ...]]] = {  # by dtype; TIFF and NPY hold all
    "JPEG": {"uint8": COLOUR},
    "PNG": {"uint8": WITH_ALPHA, "uint16": WITH_ALPHA},
    "PPM": {"uint8": COLOUR, "uint16": GREY},
    "BMP": {"uint8": COLOUR},
    "WEBP": {"uint8": (3, 4)},
    "GIF": {"uint8": GREY},
}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": PNG_COMPRESSION,
    "WEBP": {"lossless": True, "exact": True},
}
FILTER_NAMES = ("bicubic", "lanczos", "bilinear", "box", "nearest")
RESAMPLE_FILTERS = {name: Image.Resampling[name.upper()] for name in FILTER_NAMES}


@dataclass(frozen=True)
class FileHeader:
    """The facts that a file states before its pixels; width and height are those of the upright image."""

    width: int
    height: int
    mode: str  # Pillow's; with ";16" appended for 16-bit colour; the dtype if Pillow has no mode
    format: str
    frames: int

    @property
    def size(self) -> str:
        """Width and height as text, such as 640x480."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class LosslessImage:
    """An image with the values of its file, upright: (H, W) or (H, W, C) of any dtype.

    C is 2 (grey, alpha), 3 (RGB), 4 (RGB, alpha) or more. With a palette, the values are palette indices.
    has_alpha: False if the last of 2 or 4 channels is not transparency but a band, such as near infrared.
    """

    values: np.ndarray
    format: str
    profile: bytes | None = None  # ICC colour profile
    palette: tuple[str, bytes] | None = None
    has_alpha: bool = True

    @property
    def channels(self) -> int:
        """The number of channels."""
        return 1 if self.values.ndim == 2 else self.values.shape[2]

    @property
    def is_bands(self) -> bool:
        """Whether there are 2, 4 or more channels, and none is transparency."""
        return self.channels > 4 or (self.channels in (2, 4) and not self.has_alpha)


def read_header(path: str | Path) -> FileHeader:
    """Return the header of an image file; raise DataError naming the file if it is not an image."""
    try:
        with open_binary(str(path)) as file:
            image = identify(file, str(path), DEFAULT_READ_OPTIONS.max_pixels).image
            if image is not None:
                # read the mode and tiles first: read_orientation may decode a whole PNG, which changes them
                has_colour = not image.mode.startswith(("I", "F"))
                is_16_bit = has_colour and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
                mode = image.mode + ";16" * is_16_bit
                size = image.size[::-1] if read_orientation(image) in SIDEWAYS else image.size
                return FileHeader(size[0], size[1], mode, _format_name(image), count_frames(image))
    except (DataError, MemoryError):
        raise
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise DataError("image", path, unreadable_reason(str(path), problem), REPLACE_REMEDY) from problem
    picture = read_image(path)  # NumPy arrays, and kinds of TIFF that Pillow does not know
    height, width = picture.values.shape[:2]
    return FileHeader(width, height, str(picture.values.dtype), picture.format, 1)


def read_image(path: str | Path, indexed: bool = False, srgb: bool = False) -> LosslessImage:
    """Return the first image of a file; raise DataError naming the file if it cannot be read.

    indexed: keep a palette instead of looking up its colours. srgb: convert 8-bit colours of any profile to sRGB and
    drop the profile. CMYK, Lab and YCbCr always become RGB, and 1 bit becomes 8.
    """
    image: Any = None
    try:
        with open_binary(str(path)) as file:
            source = identify(file, str(path), DEFAULT_READ_OPTIONS.max_pixels)
            image = source.image
            kind = _format_name(image) if image else {"NumPy": "NPY"}.get(source.kind, source.kind)
            # more than 8 bits, or a TIFF with bands that Pillow drops
            bands = _count_bands(source) if kind == "TIFF" else 0
            if bands:
                raster: Any
                raster, orientation = DECODERS["TIFF"](source, bands)
                return LosslessImage(_upright_values(raster, orientation), kind, has_alpha=raster.has_alpha)
            if source.kind != "8 bits":
                return LosslessImage(_upright_values(*DECODERS[source.kind](source, 3)), kind)
            # 8 bits: with a palette, in sRGB, or as stored
            profile, orientation = image.info.get("icc_profile"), read_orientation(image)
            image.load()
            if image.mode == "P" and indexed and image.palette is not None and "transparency" not in image.info:
                palette = image.palette.mode, image.palette.tobytes()
                return LosslessImage(_upright_values(Raster(np.asarray(image)), orientation), kind, profile, palette)
            if srgb or image.mode in ("CMYK", "LAB"):
                image, profile = to_srgb(image), None
            return LosslessImage(_upright_values(Raster(_to_array(image)), orientation), kind, profile)
    except (DataError, MemoryError):
        raise
    except Exception as problem:  # Pillow raises many types
        if image and image.format in ("JPEG", "MPO"):  # training accepts a JPEG that lacks only its end
            return LosslessImage(np.asarray(open_image(str(path), 3, DEFAULT_READ_OPTIONS._replace(icc=srgb))), "JPEG")
        raise DataError("image", path, unreadable_reason(str(path), problem), REPLACE_REMEDY) from problem


def join_side_by_side(left: LosslessImage, right: LosslessImage, name: str) -> LosslessImage:
    """Return two images of equal height side by side; raise DataError if one file cannot hold both exactly.

    Grey beside colour becomes colour. An image without alpha beside one with alpha becomes opaque. 8 bits beside 16
    become 16 (v * 257).
    """
    kinds = {str(side.values.dtype) for side in (left, right)}
    if len(kinds) > 1 and kinds != {"uint8", "uint16"}:
        why = f"A holds {left.values.dtype} and B {right.values.dtype}, and one file cannot hold both"
        raise DataError("pair", name, why, "convert one, or train on separate folders of A and B")
    numbers = left.channels, right.channels
    if numbers[0] != numbers[1] and (left.is_bands or right.is_bands):
        why = f"A has {numbers[0]} channels and B {numbers[1]}, and one file cannot have both"
        raise DataError("pair", name, why, "train on separate folders of A and B")
    colour, alpha = max(numbers) > 2, 0 in (numbers[0] % 2, numbers[1] % 2)
    sides = [_match_depth(side.values, "uint16" in kinds) for side in (left, right)]
    if numbers[0] != numbers[1]:
        sides = [_expand_channels(values, colour, alpha) for values in sides]
    profile = left.profile if left.profile == right.profile else None
    has_alpha = not (left.is_bands or right.is_bands)
    return LosslessImage(np.concatenate(sides, axis=1), left.format, profile, has_alpha=has_alpha)


def to_rgb8(picture: LosslessImage, name: str | Path) -> np.ndarray:
    """Return an image as uint8 RGB (H, W, 3), no alpha; DataError unless it has 1 to 4 channels of 8 or 16 bits."""
    values = picture.values
    if values.dtype not in (np.uint8, np.uint16) or picture.channels > 4:
        why = f"has {count_text(picture.channels, 'channel')} of {values.dtype}"
        raise DataError("image", name, why, "convert it to grey or RGB with 8 or 16 bits per channel")
    values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    return np.asarray(Image.fromarray(values).convert("RGBA").convert("RGB"))


def resize(picture: LosslessImage, size: tuple[int, int], resample: str) -> LosslessImage:
    """Return an image scaled to (width, height); "nearest" creates no new values, as label maps require.

    Other filters scale 8-bit images as Pillow does, weighted by alpha, and all other images as Raster does.
    """
    height, width = picture.values.shape[:2]
    if (width, height) == size:
        return picture
    if resample == "nearest":
        return replace(picture, values=resize_nearest(picture.values, size))
    if picture.palette is not None:
        raise ValueError("palette indices cannot be interpolated")
    if picture.values.dtype == np.uint8 and not picture.is_bands:
        values = np.asarray(Image.fromarray(picture.values).resize(size, RESAMPLE_FILTERS[resample]))
    else:
        values = _squeeze_channel(Raster(picture.values).resize(size, RESAMPLE_FILTERS[resample]))
    return replace(picture, values=values)


def write_image(picture: LosslessImage, path: Path, kind: str, quality: int | None = None) -> None:
    """Write an image in a format; raise DataError naming the path if the format cannot hold its values.

    JPEG holds 8 bits approximately; it is written with `quality`, by default 95.
    """
    values = np.ascontiguousarray(picture.values)
    if not can_hold(kind, picture):
        what = f"{count_text(picture.channels, 'channel')} of {values.dtype}"
        raise DataError("image", path, f"{what} cannot be stored in a {kind} file", "choose another --format")
    if kind == "NPY" or (kind in ("PNG", "TIFF") and (values.dtype != np.uint8 or picture.is_bands)):
        with open(path, "wb") as file:
            write_array(values, file, kind, picture.has_alpha)
    else:
        image = Image.fromarray(values)
        if picture.palette is not None:
            image = Image.frombytes("P", image.size, image.tobytes())
            image.putpalette(picture.palette[1], picture.palette[0])
        save_options = {**SAVE_OPTIONS.get(kind, {}), **({"icc_profile": picture.profile} if picture.profile else {})}
        image.save(path, format=kind, **save_options | ({"quality": quality} if quality and kind == "JPEG" else {}))


def can_hold(kind: str, picture: LosslessImage) -> bool:
    """Return whether a format can hold an image's channels and dtype; JPEG holds 8 bits approximately."""
    if picture.palette is not None:
        return kind in ("PNG", "GIF", "TIFF", "BMP")
    channels = CHANNELS_OF_FORMAT.get(kind, {}).get(str(picture.values.dtype), ())
    return kind not in CHANNELS_OF_FORMAT or (picture.channels in channels and not picture.is_bands)


def _count_bands(source: ImageSource) -> int:
    """Return the channels of a TIFF if it has others than grey, colours and transparency that Pillow reads; else 0."""
    import tifffile  # takes 60 ms, and few images need it

    image, is_deep = source.image, source.kind != "8 bits"
    if image is not None and not is_deep and image.mode not in ("L", "RGB", "RGBX"):
        return 0
    source.file.seek(0)
    with tifffile.TiffFile(source.file) as file:
        page: Any = file.pages.first
        samples = int(page.samplesperpixel)
        read = 1 if is_deep else len(image.getbands()) - (image.mode == "RGBX")
        return (
            samples
            if samples > read and samples != 3 and page.photometric.name in ("RGB", "MINISBLACK", "MINISWHITE")
            else 0
        )


def _format_name(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _to_array(image: Image.Image) -> np.ndarray:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    return np.asarray(image)


def _upright_values(raster: Any, orientation: int) -> np.ndarray:
    return _squeeze_channel(orient(raster, orientation))


def _squeeze_channel(raster: Any) -> np.ndarray:
    return raster.array[..., 0] if raster.channels == 1 else raster.array


def _match_depth(values: np.ndarray, to_16_bit: bool) -> np.ndarray:
    return values.astype(np.uint16) * 257 if to_16_bit and values.dtype == np.uint8 else values


def _expand_channels(values: np.ndarray, colour: bool, alpha: bool) -> np.ndarray:
    """Return up to four channels as grey or RGB, with or without alpha."""
    planes = [values] if values.ndim == 2 else list(np.moveaxis(values, 2, 0))
    opaque = np.full_like(planes[0], np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1)
    light, cover = (planes[:-1], planes[-1]) if len(planes) in (2, 4) else (planes, opaque)
    light = light * 3 if colour and len(light) == 1 else light
    return np.stack([*light, cover] if alpha else light, axis=2)
