"""Images that Pillow has no mode for: any number of channels, any dtype."""

import numpy as np
from PIL import Image

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114])  # luminance of red, green and blue (ITU-R BT.601), as in Pillow
MAX_EXACT_FLOAT32 = 1 << 24  # float32 holds every integer up to this one


class Raster:
    """An array (H, W, C) with the methods of a Pillow image that preprocessing calls.

    has_alpha: whether the last of two or four channels is transparency.
    """

    def __init__(self, array: np.ndarray, has_alpha: bool = True):
        self.array, self.has_alpha = array[:, :, None] if array.ndim == 2 else array, has_alpha

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.array.shape[1], self.array.shape[0]

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.array.shape[2]

    def crop(self, box: tuple[int, int, int, int]) -> "Raster":
        """Return the part between left, top, right and bottom."""
        left, top, right, bottom = box
        return Raster(self.array[top:bottom, left:right], self.has_alpha)

    def transpose(self, method: Image.Transpose) -> "Raster":
        """Return the image mirrored left to right, the only method that preprocessing uses."""
        assert method is Image.Transpose.FLIP_LEFT_RIGHT
        return Raster(self.array[:, ::-1])

    def resize(self, size: tuple[int, int], resample: Image.Resampling) -> "Raster":
        """Return the image scaled. Pillow scales each channel in float32, or in 8 bits for uint8, as it does RGB.

        Integers are rounded and clipped to the range of their dtype. The nearest neighbour keeps every value exactly.
        """
        if resample is Image.Resampling.NEAREST:
            return Raster(resize_nearest(self.array, size))
        mode = np.uint8 if self.array.dtype == np.uint8 else np.float32
        offset, unit = _float32_scale(self.array) or (0, None)
        array = self.array if unit is None else (self.array - offset) / unit
        planes = [
            np.asarray(Image.fromarray(np.ascontiguousarray(plane, dtype=mode)).resize(size, resample))
            for plane in np.moveaxis(array, 2, 0)
        ]
        scaled = np.stack(planes, axis=2)
        if unit is not None:
            scaled = scaled.astype(np.float64) * unit + offset
        if self.array.dtype.kind in "iu" and mode is np.float32:
            limits = np.iinfo(self.array.dtype)
            scaled = scaled.astype(np.float64).round().clip(limits.min, limits.max)
        return Raster(scaled.astype(self.array.dtype))


Picture = Image.Image | Raster  # Pillow's modes L and RGB, or a Raster for all others


def to_array(picture: Picture) -> np.ndarray:
    """Return an image as an array (H, W, C)."""
    array = picture.array if isinstance(picture, Raster) else np.asarray(picture)
    return array[:, :, None] if array.ndim == 2 else array


def channel_planes(picture: Picture) -> np.ndarray:
    """Return an image as an array (C, H, W), read-only; rows of a plane are in one piece where Pillow can do that."""
    if isinstance(picture, Raster) or picture.mode != "RGB":
        return to_array(picture).transpose(2, 0, 1)
    width, height = picture.size
    lines = picture.tobytes("raw", "RGB;L")  # of each line first all reds, then all greens, then all blues
    return np.frombuffer(lines, np.uint8).reshape(height, 3, width).transpose(1, 0, 2)


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an array (H, W) or (H, W, C) scaled to (width, height) by repeating and omitting pixels."""
    (height, width), (wanted_width, wanted_height) = array.shape[:2], size
    rows = ((np.arange(wanted_height) + 0.5) * height / wanted_height).astype(int)
    columns = ((np.arange(wanted_width) + 0.5) * width / wanted_width).astype(int)
    return array[rows[:, None], columns]


def _float32_scale(array: np.ndarray) -> tuple[float, float] | None:
    """Return (offset, unit) so that (array - offset) / unit is exact enough in float32; None if the array itself is."""
    if array.dtype.itemsize < 4 or array.dtype == np.float32:
        return None
    lo, hi = float(array.min()), float(array.max())
    fits = array.dtype.kind in "iu" and max(-lo, hi) <= MAX_EXACT_FLOAT32
    return None if fits else (lo, hi - lo or 1.0)


def composite_alpha(array: np.ndarray, background: tuple[int, int, int] | None) -> np.ndarray:
    """Return the colours over a background, without alpha (the last channel)."""
    colours = array[:, :, :-1]
    if background is None:
        return colours
    greatest = _max_value(array.dtype)
    behind = np.array(background if colours.shape[2] == 3 else [np.dot(background, LUMA_WEIGHTS)]) / 255 * greatest
    alpha = array[:, :, -1:] / greatest
    return cast(array.dtype, colours * alpha + behind * (1 - alpha))


def unpremultiply_alpha(array: np.ndarray) -> np.ndarray:
    """Return premultiplied colours divided by their alpha (the last channel), which is kept."""
    alpha = array[:, :, -1:] / _max_value(array.dtype)
    colours = np.divide(array[:, :, :-1], alpha, out=np.zeros(array[:, :, :-1].shape), where=alpha > 0)
    return np.concatenate([cast(array.dtype, colours.clip(0, _max_value(array.dtype))), array[:, :, -1:]], axis=2)


def _max_value(dtype: np.dtype) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def cast(dtype: np.dtype, array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype; rounded, if it is one of integers."""
    return (array.round() if dtype.kind in "iu" else array).astype(dtype)
