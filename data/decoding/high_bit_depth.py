"""Read images with more than 8 bits or other than 1 to 4 channels: TIFF, 16-bit PNG and PGM, NumPy arrays."""

import zipfile
from typing import Any

import numpy as np

from data.decoding.orientation import UPRIGHT, apply_orientation, read_orientation
from data.decoding.raster import Raster
from data.listing.files import open_binary, read_first_bytes
from util.errors import DataError

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])  # luminance of red, green and blue (ITU-R BT.601), as in Pillow
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ASSOCIATED_ALPHA = 1  # TIFF 6.0, ExtraSamples: colours are premultiplied by alpha
MAX_GUESSED_CHANNELS = 4  # most channels assumed for an array of unknown axis order, unless more are wanted


def read_raster(image: Any, path: str, channels: int, max_pixels: int) -> Raster | None:
    """Return an opened file as an upright Raster if it has more than 8 bits per channel, else None for Pillow."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))
        return None if max(bits) <= 8 else read_tiff(path, channels, max_pixels)
    if image.format == "PNG" and str(image.tile[0][3] if image.tile else "").endswith(";16B") and image.mode != "I;16":
        import imagecodecs

        with open_binary(path) as file:
            data = file.read()
        # an orientation after the pixels is known only once Pillow has decoded them
        has_late_metadata = any(name in data for name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"))
        return Raster(apply_orientation(imagecodecs.png_decode(data), read_orientation(image, has_late_metadata)))
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey; Pillow scales PGM to 0..65535, in 32 bits
        return Raster(apply_orientation(np.asarray(image).astype(np.uint16), read_orientation(image)))
    return Raster(np.asarray(image)) if image.mode == "F" else None


def is_tiff(path: str) -> bool:
    """Return whether a file starts with a TIFF signature."""
    return read_first_bytes(path, 4) in TIFF_SIGNATURES


def read_tiff(path: str, channels: int, max_pixels: int) -> Raster:
    """Return the first image of a TIFF, upright. Pages become channels if there are `channels` of them."""
    import tifffile

    with open_binary(path) as opened, tifffile.TiffFile(opened) as file:
        # Read the array, without axes of length 1.
        page = file.pages.first
        stack = _channel_pages(file, channels)
        shape, axes = ((channels, *page.shape), "C" + page.axes) if stack else (page.shape, page.axes)
        _check_size(path, shape, page.dtype, channels, max_pixels)
        array = np.stack([each.asarray() for each in stack]) if stack else page.asarray()
        axis_indices = [i for i, n in enumerate(shape) if n != 1 or axes[i] in "YX"]
        array, axes = array.reshape([shape[i] for i in axis_indices]), "".join(axes[i] for i in axis_indices)
        tag = page.tags.get(274)
        inverted = getattr(page.photometric, "name", "") == "MINISWHITE"
        multiplied = tuple(page.extrasamples)[:1] == (ASSOCIATED_ALPHA,) and not stack
    # Move the channels last.
    if axes[:1] in "SC" and array.ndim == 3:
        array = np.moveaxis(array, 0, 2)
    elif array.ndim == 3 and axes[2] not in "SC":
        array = channels_last(array, channels)
    # Undo inversion (MINISWHITE) and premultiplication.
    array = _to_supported_array(array, path)
    if inverted and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    if multiplied and array.ndim == 3 and array.shape[2] in (2, 4):
        array = _unpremultiply_alpha(array)
    return Raster(apply_orientation(array, tag.value if tag else UPRIGHT))


def _channel_pages(file: Any, channels: int) -> list[Any]:
    """Return the pages of a TIFF if they are single-channel, alike, and `channels` in number; else [].

    Reads at most one page more, because a damaged file may list millions of them.
    """
    pages = [file.pages.first]
    if channels == 1 or sum(n != 1 for n in pages[0].shape) != 2:
        return []
    while len(pages) <= channels:
        try:
            pages.append(file.pages[len(pages)])
        except IndexError:
            break
    alike = len({(page.shape, page.axes, page.dtype) for page in pages}) == 1
    return pages if len(pages) == channels and alike else []


def read_numpy(path: str, channels: int, max_pixels: int) -> Raster:
    """Return the array (H, W), (H, W, C) or (C, H, W) in a .npy file, or the only one in a .npz file."""
    if path.lower().endswith(".npz"):
        with open_binary(path) as zip_stream, zipfile.ZipFile(zip_stream) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            if len(names) != 1:
                why = f"holds {len(names)} arrays ({', '.join(names[:5])})"
                raise DataError("image", path, why, "save one image per file")
            with archive.open(names[0]) as file:
                array = _read_array(file, path, channels, max_pixels)
    else:
        with open_binary(path) as file:
            array = _read_array(file, path, channels, max_pixels)
    return Raster(_to_supported_array(channels_last(array, channels) if array.ndim == 3 else array, path))


def _read_array(file: Any, path: str, channels: int, max_pixels: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran_order, dtype = read_header[version](file)
    _check_size(path, shape, dtype, channels, max_pixels)
    if dtype.hasobject:
        raise DataError("image", path, "holds Python objects", "save plain numbers")
    expected_bytes = int(np.prod(shape)) * dtype.itemsize
    data = file.read(expected_bytes)
    if len(data) < expected_bytes:
        raise ValueError(f"it ends after {len(data)} of {expected_bytes} bytes")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)


def channels_last(array: np.ndarray, channels: int) -> np.ndarray:
    """Return a (C, H, W) array as (H, W, C); leave (H, W, C) unchanged.

    The channel axis is the one of length `channels`, or else the first if it alone is at most MAX_GUESSED_CHANNELS
    long.
    """
    first, last = array.shape[0], array.shape[2]
    if last != channels and (first == channels or (first <= MAX_GUESSED_CHANNELS < last)):
        return np.moveaxis(array, 0, 2)
    return array


def convert_channels(raster: Raster, channels: int, path: str, background: tuple[int, int, int] | None) -> Raster:
    """Return an image with `channels` channels: grey is repeated, RGB becomes luminance, alpha is composited.

    Raises DataError for other conversions.
    """
    array, channels_now = raster.array, raster.channels
    if channels_now == channels:
        return raster
    if channels_now in (2, 4) and channels in (1, 3):
        array = _composite_alpha(array, background)
        channels_now -= 1
    if (channels_now, channels) == (3, 1):
        array = _cast(array.dtype, (array * LUMA_WEIGHTS).sum(axis=2, keepdims=True))
    elif (channels_now, channels) == (1, 3):
        array = np.repeat(array, 3, axis=2)
    if array.shape[2] != channels:
        raise channels_error(path, raster.channels, channels)
    return Raster(array)


def channels_error(path: str, actual: int, wanted: int) -> DataError:
    """Return the error for an image whose number of channels does not fit the run."""
    why = f"has {actual} channels and cannot be converted to {wanted}"
    return DataError("image", path, why, f"use --input_nc {actual} or --output_nc {actual}")


def too_many_pixels_error(path: str, max_pixels: int, size: tuple[int, ...] = ()) -> DataError:
    """Return the error for an image with more pixels than --max_image_pixels."""
    why = f"is {'x'.join(map(str, size))}, " if size else "has "
    return DataError(
        "image", path, f"{why}more pixels than --max_image_pixels {max_pixels}", "scale it down or crop it"
    )


def _check_size(path: str, shape: tuple[int, ...], dtype: Any, channels: int, max_pixels: int) -> None:
    if len(shape) < 2 or min(shape) < 1:
        raise DataError("image", path, f"holds an array of shape {tuple(shape)}", "give (height, width, channels)")
    if np.prod([float(n) for n in shape]) > max_pixels * max(channels, MAX_GUESSED_CHANNELS):
        raise too_many_pixels_error(path, max_pixels, tuple(shape))


def _to_supported_array(array: np.ndarray, path: str) -> np.ndarray:
    """Return an array (H, W) or (H, W, C) in a supported dtype; raise DataError for others and for NaN or Inf."""
    if array.ndim not in (2, 3):
        raise DataError("image", path, f"holds an array of shape {array.shape}", "give (height, width, channels)")
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "f":
        if not np.isfinite(array).all():
            raise DataError("image", path, "holds numbers that are not finite (NaN or Inf)", "replace them")
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    if kind not in "iu":
        raise DataError("image", path, f"holds {array.dtype}", "give integers or floats")
    return array.astype(np.float64) if array.dtype.itemsize == 8 else array.astype(array.dtype.newbyteorder("="))


def _composite_alpha(array: np.ndarray, background: tuple[int, int, int] | None) -> np.ndarray:
    """Return the colours over a background, without alpha (the last channel)."""
    colours = array[:, :, :-1]
    if background is None:
        return colours
    greatest = _max_value(array.dtype)
    behind = np.array(background if colours.shape[2] == 3 else [np.dot(background, LUMA_WEIGHTS)]) / 255 * greatest
    alpha = array[:, :, -1:] / greatest
    return _cast(array.dtype, colours * alpha + behind * (1 - alpha))


def _unpremultiply_alpha(array: np.ndarray) -> np.ndarray:
    """Return premultiplied colours divided by their alpha (the last channel), which is kept."""
    alpha = array[:, :, -1:] / _max_value(array.dtype)
    colours = np.divide(array[:, :, :-1], alpha, out=np.zeros(array[:, :, :-1].shape), where=alpha > 0)
    return np.concatenate([_cast(array.dtype, colours.clip(0, _max_value(array.dtype))), array[:, :, -1:]], axis=2)


def _max_value(dtype: np.dtype) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def _cast(dtype: np.dtype, array: np.ndarray) -> np.ndarray:
    return (array.round() if dtype.kind in "iu" else array).astype(dtype)
