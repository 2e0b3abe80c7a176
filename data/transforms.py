"""Preprocess an image into a tensor by the steps of --preprocess."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.augment.label_planes import from_planes, to_planes
from data.augment.pipeline import Augment, build_augmentations
from data.decoding.raster import Picture, Raster, channel_planes, to_array
from data.decoding.side_threads import map_sides, may_use_threads
from data.labels import MAX_PIXELS, read_labels
from util.errors import DataError, OptionError
from util.size import to_size
from util.value_range import UINT8, ValueRange, dtype_range, measure_range, parse_range, range_of_input

UNIT_RANGE = ValueRange(0.0, 1.0, "float32")
HUGE_IMAGE_PIXELS = 1 << 24  # pixels; larger images are converted to float in strips of rows, to save memory
STRIP_ROWS = 64
LEAST_THREAD_PIXELS = 128 * 128  # a smaller image is scaled before a thread has begun with it


@dataclass
class Geometry:
    """The random draws of preprocessing for one image, or for both images of a pair, and the sizes met with them."""

    crop_x: float  # position of the crop, as a fraction in [0, 1) of the possible offsets
    crop_y: float
    flip: bool
    seed: int = 0  # of the draws of --augment, --augment_A and --augment_B
    zoom: tuple[float, float] = (1.0, 1.0)  # factors of width and height
    # width and height before the crop of the last "image" and of the last "label map"; Preprocess writes them
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)


class Preprocess:
    """Image -> float tensor (C, H, W) in [-1, 1], by --preprocess, --load_size, --crop_size, --no_flip and --range.

    resize: to load_size. scale_width: width to load_size, height in proportion but at least crop_size.
    scale_shortside: the shorter side to load_size, the other in proportion. fixsize: to crop_size. zoom: then each side
    by a random factor of 1 / random_scale_max to 1, but not below crop_size. crop: crop_size at a random position.
    patch: a random cell of a randomly shifted grid with cells of crop_size. trim: like crop, but sides that are shorter
    stay. none: each side to the nearest multiple of 4. native: unchanged. A flip with p = 0.5 follows.
    --interpolation_A and --interpolation_B say how images are scaled. In training --augment comes before the crop.
    """

    def __init__(self, o: Any, paired: bool = False, single_sides: str = "", sides: Sequence[str] = "AB"):
        self.augmentations = build_augmentations(o, paired, single_sides)
        self.steps = set(o.preprocess.split("_and_"))
        self.load_size, self.crop_size, self.may_flip = to_size(o.load_size), to_size(o.crop_size), not o.no_flip
        self.least_zoom = 1 / o.random_scale_max if "zoom" in self.steps else 1.0
        # whether the crop positions differ between images of different sizes
        crops, fixes_size = self.steps & {"crop", "patch", "trim", "native"}, self.steps & {"resize", "fixsize"}
        self.crop_positions_differ = bool(crops) and not fixes_size
        self.value_ranges: dict[str, ValueRange | None] = {}
        self.use_ranges({side: range_flag(o, side) for side in sides})
        self.filters = interpolation_filters(o, single_sides)
        uses_nearest = Image.Resampling.NEAREST in self.filters.values()
        augmentations = self.augmentations.items() if uses_nearest else ()
        self.nearest_augmentations = {side: augment.with_nearest() for side, augment in augmentations}
        # with --tile, networks get tiles of the image, cast to their own precision
        self.half_precision = bool(getattr(o, "tile", 0))
        self.probe: Callable[[str, Picture], None] = _no_probe
        self.max_pixels = getattr(o, "max_image_pixels", MAX_PIXELS)

    def use_ranges(self, texts: dict[str, str]) -> None:
        """Use these ranges by side; those that are no numbers are looked up for each image."""
        self.value_ranges |= {side: parse_range(text) if "," in text else None for side, text in texts.items()}

    def draw(self) -> Geometry:
        """Draw the crop position, the flip and the seed of augmentation; aligned pairs share one draw."""
        crop_x, crop_y, flip = random.random(), random.random(), self.may_flip and random.random() < 0.5
        seed = random.getrandbits(62) if self.augmentations else 0
        zooms = [random.uniform(self.least_zoom, 1.0) for _ in "xy"] if "zoom" in self.steps else (1.0, 1.0)
        return Geometry(crop_x, crop_y, flip, seed, (zooms[0], zooms[1]))

    def __call__(
        self, picture: Picture, path: str, geometry: Geometry, paired: bool = False, side: str = ""
    ) -> torch.Tensor:
        """Return the tensor of one image.

        side: "A" for input images, "A1", "A2", ... for those of several inputs, "B" for output images, "" for images
        of neither side alone. Raises DataError if the crop is larger than the image; a paired image is not cropped if
        neither side exceeds the crop.
        """
        self.probe(side or "A", picture)
        values = self.value_ranges[side or "A"]
        if values is None:
            values = UINT8
            if isinstance(picture, Raster):
                dtype = picture.array.dtype.name
                values = dtype_range(dtype) or measure_range([picture.array], dtype)
        picture = self._zoomed(self.scaled(picture, side), geometry, side)
        _check_size(geometry, "image", picture.size, path)
        picture, values = self._augment(picture, values, path, geometry, side)
        return to_tensor(self._cut(picture, path, geometry, paired), values, self.half_precision)

    def labels(
        self,
        source: str | Path | Picture | np.ndarray | torch.Tensor,
        geometry: Geometry,
        path: str = "",
        paired: bool = False,
        side: str = "",
        fill: int = 0,
    ) -> torch.Tensor:
        """Return a label or instance map as LongTensor (H, W) of ids, moved as the picture with the same draws.

        source: a file, whose ids are its palette's indices or the values of its one channel (see `read_labels`), or
        ids in an image, an array or a tensor. They are scaled by the nearest neighbour, cropped, flipped and moved by
        --augment; augmentations of colours leave them as they are. paired, side: as in the call for the picture.
        fill: the id of pixels that --augment leaves empty, such as the corners of a rotation. Raises DataError if the
        label map has another size than the picture where crops would differ.
        """
        path = path or (str(source) if isinstance(source, str | Path) else "label map")
        picture = Raster(read_labels(source, path, self.max_pixels))
        size = self._zoomed_size(self.scaled_size(picture.size), geometry)
        picture = picture if size == picture.size else picture.resize(size, Image.Resampling.NEAREST)
        _check_size(geometry, "label map", size, path)
        if chosen := _of_side(self.label_augmentations, side):
            planes, table = to_planes(picture.array[:, :, 0])
            for number, augment in chosen:
                planes = augment(planes, geometry.seed + number, path)
            picture = Raster(from_planes(planes, table, fill))
        array = to_array(self._cut(picture, path, geometry, paired))
        return torch.from_numpy(np.array(array[:, :, 0], order="C"))

    @cached_property
    def label_augmentations(self) -> dict[str, Augment]:
        """The augmentations by side, for label maps."""
        return {side: augment.with_labels() for side, augment in self.augmentations.items()}

    def _cut(self, picture: Picture, path: str, geometry: Geometry, paired: bool) -> Picture:
        """Return an image cropped and flipped."""
        if self.steps & {"crop", "patch", "trim"}:
            picture = self._crop(picture, path, geometry, paired)
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if geometry.flip else picture

    def scaled(self, picture: Picture, side: str = "") -> Picture:
        """Return an image of a side scaled to its size before the crop; the same object if it has this size."""
        size = self.scaled_size(picture.size)
        return picture if size == picture.size else picture.resize(size, self.filters[side[:1] or "A"])

    def scaled_sides(self, pictures: Sequence[Picture], sides: Sequence[str]) -> Sequence[Picture]:
        """Return the images of several sides as `scaled` does, at the same time; or as they are if that gains nothing.

        The call scales those that are not. A probe sees images as they are in their files.
        """
        sizes = [max(math.prod(picture.size), math.prod(self.scaled_size(picture.size))) for picture in pictures]
        if self.probe is not _no_probe or min(sizes, default=0) < LEAST_THREAD_PIXELS or not may_use_threads():
            return pictures
        return map_sides(lambda each: self.scaled(*each), list(zip(pictures, sides, strict=True)))

    def _zoomed(self, picture: Picture, geometry: Geometry, side: str) -> Picture:
        size = self._zoomed_size(picture.size, geometry)
        return picture if size == picture.size else picture.resize(size, self.filters[side[:1] or "A"])

    def _zoomed_size(self, size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
        """Return a size scaled by the drawn factors, but not below the crop's."""
        if "zoom" not in self.steps:
            return size
        sides = zip(size, geometry.zoom, self.crop_size, strict=True)
        width, height = (round(max(crop, length * zoom)) for length, zoom, crop in sides)
        return width, height

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height that an image of this size has before the crop."""
        width, height = size
        if "resize" in self.steps:
            return self.load_size.width, self.load_size.height
        if "fixsize" in self.steps:
            return self.crop_size.width, self.crop_size.height
        if "scale_width" in self.steps and (width != self.load_size.width or height < self.crop_size.height):
            return self.load_size.width, int(max(self.load_size.width * height / width, self.crop_size.height))
        if "scale_shortside" in self.steps:
            scale = min(self.load_size) / min(width, height)
            return max(1, round(width * scale)), max(1, round(height * scale))
        if "none" in self.steps:
            return max(4, round(width / 4) * 4), max(4, round(height / 4) * 4)
        return size

    def interpolation_suffix(self, side: str) -> str:
        """Return the part of a cache's key that names how a side is scaled; "" for bicubic, the only way once."""
        used = self.filters[side[:1]]
        return "" if used is Image.Resampling.BICUBIC else f" by {used.name.lower()}"

    def _augment(
        self, picture: Picture, values: ValueRange, path: str, geometry: Geometry, side: str
    ) -> tuple[Picture, ValueRange]:
        """Return an image after --augment, --augment_A and --augment_B, and the range of its values then."""
        is_nearest = self.filters[side[:1] or "A"] is Image.Resampling.NEAREST
        augmentations = self.nearest_augmentations if is_nearest else self.augmentations
        chosen = _of_side(augmentations, side)
        if not chosen:
            return picture, values
        array = to_array(picture).transpose(2, 0, 1)
        is_uint8 = values.is_uint8 and array.dtype == np.uint8
        tensor = torch.from_numpy(np.array(array if is_uint8 else (values.normalise(array) + 1) / 2, order="C"))
        for number, augment in chosen:  # the seed differs, so that --augment_A and --augment_B draw independently
            tensor = augment(tensor, geometry.seed + number, path)
        return Raster(tensor.permute(1, 2, 0).numpy()), values if is_uint8 else UNIT_RANGE

    def _crop(self, picture: Picture, path: str, geometry: Geometry, paired: bool) -> Picture:
        width, height = picture.size
        if "trim" in self.steps:
            box = min(width, self.crop_size.width), min(height, self.crop_size.height)
            left, top = _random_offset(geometry.crop_x, width, box[0]), _random_offset(geometry.crop_y, height, box[1])
            return picture.crop((left, top, left + box[0], top + box[1]))
        if paired and width <= self.crop_size.width and height <= self.crop_size.height:
            return picture
        if width < self.crop_size.width or height < self.crop_size.height:
            wanted = self.crop_size if self.crop_size.width != self.crop_size.height else self.crop_size.width
            why = f"is {width}x{height} before the crop, smaller than --crop_size {wanted}"
            remedy = "an --augment that keeps it larger" if self.augmentations else "--preprocess resize_and_crop"
            raise DataError("image", path, why, f"use a smaller --crop_size, or {remedy}")
        offset = _grid_offset if "patch" in self.steps else _random_offset
        left = offset(geometry.crop_x, width, self.crop_size.width)
        top = offset(geometry.crop_y, height, self.crop_size.height)
        return picture.crop((left, top, left + self.crop_size.width, top + self.crop_size.height))


def _of_side(augmentations: dict[str, Augment], side: str) -> list[tuple[int, Augment]]:
    """Return the numbered augmentations of a side."""
    return [(n, augment) for n, (which, augment) in enumerate(augmentations.items()) if which in ("", side[:1])]


def _check_size(geometry: Geometry, kind: str, size: tuple[int, int], path: str) -> None:
    """Raise DataError if a label map and the picture with the same draws differ in size before the crop."""
    geometry.sizes[kind] = size
    other = geometry.sizes.get("label map" if kind == "image" else "image", size)
    if other != size:
        what = "its label map" if kind == "image" else "its picture"
        why = f"is {size[0]}x{size[1]} before the crop, but {what} is {other[0]}x{other[1]}"
        raise DataError("image", path, why, "give both the same size, or use --preprocess resize_and_crop")


def _no_probe(side: str, picture: Picture) -> None:
    """Default probe: do nothing."""


def _random_offset(fraction: float, length: int, crop: int) -> int:
    return int(fraction * (length - crop + 1))


def _grid_offset(fraction: float, length: int, crop: int) -> int:
    """Return the start of a cell: the leading digits of `fraction` choose the cell, the rest the grid's shift."""
    cells = length // crop
    cell = int(fraction * cells)
    return cell * crop + int((fraction * cells - cell) * (length - cells * crop + 1))


def range_flag(o: Any, side: str) -> str:
    """Return --range_A or --range_B, which is --range by default, for a side; for one of several inputs its part."""
    return range_of_input({"A": o.range_A, "B": o.range_B}[side[:1]] or o.range, side)


def interpolation_filters(o: Any, sides: str) -> dict[str, Image.Resampling]:
    """Return the filters of --interpolation_A and --interpolation_B by side.

    sides: the sides that the dataset preprocesses separately. Raises OptionError in training for B without such images.
    """
    names = {"A": getattr(o, "interpolation_A", "bicubic"), "B": getattr(o, "interpolation_B", "bicubic")}
    if names["B"] != "bicubic" and "B" not in sides and o.isTrain:
        why = f"{o.dataset_mode} does not preprocess images of B separately"
        raise OptionError("option", "--interpolation_B", why, "omit it, or use --interpolation_A")
    return {side: Image.Resampling[name.upper()] for side, name in names.items()}


def to_tensor(picture: Picture, values: ValueRange = UINT8, half_precision: bool = False) -> torch.Tensor:
    """Return an image as float (C, H, W) in [-1, 1]: 2 v / 255 - 1 for 8-bit images, else scaled by `values`.

    half_precision: use float16 for 8-bit images of more than HUGE_IMAGE_PIXELS; it is precise enough for 8 bits.
    """
    width, height = picture.size
    if width * height <= HUGE_IMAGE_PIXELS:
        return _as_float(picture, values)
    channels = picture.channels if isinstance(picture, Raster) else len(picture.getbands())
    use_half = half_precision and values.is_uint8 and not isinstance(picture, Raster)
    tensor = torch.empty(channels, height, width, dtype=torch.float16 if use_half else torch.float32)
    for top in range(0, height, STRIP_ROWS):  # only the result has full size; all temporary arrays are strips
        strip = picture.crop((0, top, width, min(top + STRIP_ROWS, height)))
        tensor[:, top : top + STRIP_ROWS] = _as_float(strip, values)
    return tensor


def _as_float(picture: Picture, values: ValueRange) -> torch.Tensor:
    array = channel_planes(picture)
    if values.is_uint8 and array.dtype == np.uint8:
        floats = array.astype(np.float32, order="C")
        floats /= 255  # in place: takes a third of the time, and needs no torch threads, which workers lack
        floats -= 0.5
        floats *= 2  # exactly as / 0.5, and faster
        return torch.from_numpy(floats)
    return torch.from_numpy(np.ascontiguousarray(values.normalise(array)))
