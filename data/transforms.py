"""The steps of --preprocess, from a picture to a tensor."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.augment.pipeline import asked_for
from data.decoding.raster import Picture, Raster, pixels
from util.errors import DataError
from util.size import sides
from util.value_range import USUAL, Values, measured, of_type, parse

UNIT = Values(0.0, 1.0, "float32")
HUGE = 1 << 24  # pixels from which on a picture is brought from type to type in strips of rows
STRIP = 64  # rows
BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Geometry:
    """What the random part of preprocessing decided for one picture, or for both of a pair."""

    across: float  # position of the crop, as a share in [0, 1) of the room there is
    down: float
    flip: bool
    seed: int = 0  # of what --augment and its like draw


class Preprocess:
    """Picture -> float tensor (C, H, W) in [-1, 1], by --preprocess, --load_size, --crop_size, --no_flip and --range.

    resize: to load_size. scale_width: width load_size, height in proportion but at least crop_size. scale_shortside:
    the shorter side load_size, the other in proportion. fixsize: to crop_size. crop: crop_size at a random place.
    patch: crop_size at a random place of a grid of such cells (which is itself shifted at random). none: each side to
    the nearest multiple of 4. native: as it is. Then a flip, p = 0.5. Every scaling is bicubic. Between
    scaling and crop comes --augment, in training.
    """

    def __init__(self, o: Any, paired: bool = False, alone: str = ""):
        self.augment = asked_for(o, paired, alone)
        self.words = set(o.preprocess.split("_and_"))
        self.load, self.crop, self.may_flip = sides(o.load_size), sides(o.crop_size), not o.no_flip
        # between pictures of other sizes
        self.places_differ = bool(self.words & {"crop", "patch", "native"}) and not self.words & {"resize", "fixsize"}
        self.values: dict[str, Values | None] = {
            side: parse(text) if "," in text else None for side, text in asked_ranges(o).items()
        }
        self.halve = bool(getattr(o, "tile", 0))  # the networks then see tiles of it, in their own precision
        self.seen: Callable[[str, Picture], None] = _ignored

    def draw(self) -> Geometry:
        """Draw crop position, flip and the seed of augmentation; aligned pairs share one draw."""
        across, down, flip = random.random(), random.random(), self.may_flip and random.random() < 0.5
        return Geometry(across, down, flip, random.getrandbits(62) if self.augment else 0)

    def __call__(
        self, picture: Picture, path: str, geometry: Geometry, paired: bool = False, side: str = ""
    ) -> torch.Tensor:
        """Return the tensor of one picture; side: "A" of input pictures, "B" of output pictures, "" of neither alone.

        Raises DataError if the crop is larger than the picture; a paired one no larger than the crop stays whole.
        """
        self.seen(side or "A", picture)
        values = self.values[side or "A"]
        if values is None:
            values = USUAL
            if isinstance(picture, Raster):
                values = of_type(picture.kind) or measured([picture.array], picture.kind)
        picture, values = self._augmented(self.scaled(picture), values, path, geometry, side)
        if self.words & {"crop", "patch"}:
            picture = self._cropped(picture, path, geometry, paired)
        if geometry.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(picture, values, self.halve)

    def scaled(self, picture: Picture) -> Picture:
        """Return a picture in its size before the crop; one that has it already as it is."""
        width, height = picture.size
        size: tuple[int, int] = picture.size
        if "resize" in self.words:
            size = (self.load.width, self.load.height)
        elif "fixsize" in self.words:
            size = (self.crop.width, self.crop.height)
        elif "scale_width" in self.words:
            if width != self.load.width or height < self.crop.height:
                size = (self.load.width, int(max(self.load.width * height / width, self.crop.height)))
        elif "scale_shortside" in self.words:
            scale = min(self.load) / min(width, height)
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
        elif "none" in self.words:
            size = (max(4, round(width / 4) * 4), max(4, round(height / 4) * 4))
        return picture if size == picture.size else picture.resize(size, BICUBIC)

    def _augmented(self, picture: Picture, values: Values, path: str, geometry: Geometry,
                   side: str) -> tuple[Picture, Values]:  # fmt: skip
        """Return a picture after --augment and its like, and what its numbers mean then."""
        chosen = [(n, augment) for n, (which, augment) in enumerate(self.augment.items()) if which in ("", side)]
        if not chosen:
            return picture, values
        array = pixels(picture).transpose(2, 0, 1)
        plain = values.usual and array.dtype == np.uint8
        tensor = torch.from_numpy(np.array(array if plain else (values.scaled(array) + 1) / 2, order="C"))
        for number, augment in chosen:  # A and B alone do not draw alike
            tensor = augment(tensor, geometry.seed + number, path)
        return Raster(tensor.permute(1, 2, 0).numpy()), values if plain else UNIT

    def _cropped(self, picture: Picture, path: str, geometry: Geometry, paired: bool) -> Picture:
        width, height = picture.size
        if paired and width <= self.crop.width and height <= self.crop.height:
            return picture
        if width < self.crop.width or height < self.crop.height:
            wanted = self.crop if self.crop.width != self.crop.height else self.crop.width
            why = f"is {width}x{height} where it is cropped, smaller than --crop_size {wanted}"
            remedy = "let --augment leave it larger" if self.augment else "--preprocess resize_and_crop"
            raise DataError("image", path, why, f"use a smaller --crop_size, or {remedy}")
        place = _in_grid if "patch" in self.words else _anywhere
        left = place(geometry.across, width, self.crop.width)
        top = place(geometry.down, height, self.crop.height)
        return picture.crop((left, top, left + self.crop.width, top + self.crop.height))


def _ignored(side: str, picture: Picture) -> None:
    """Leave a picture as it is: nobody measures."""


def _anywhere(share: float, length: int, cut: int) -> int:
    return int(share * (length - cut + 1))


def _in_grid(share: float, length: int, cut: int) -> int:
    """Return the start of a cell: the first digits of `share` choose it, the others how far the grid is shifted."""
    cells = length // cut
    cell = int(share * cells)
    return cell * cut + int((share * cells - cell) * (length - cells * cut + 1))


def asked_ranges(o: Any) -> dict[str, str]:
    """Return what --range_A and --range_B say, else --range, by side."""
    return {"A": o.range_A or o.range, "B": o.range_B or o.range}


def to_tensor(picture: Picture, values: Values = USUAL, halve: bool = False) -> torch.Tensor:
    """Return a picture as float (C, H, W) in [-1, 1]: 2 v / 255 - 1 of 8 bits, or as `values` says.

    halve: a huge one of 8 bits in half precision, which is ample for it.
    """
    width, height = picture.size
    if width * height <= HUGE:
        return _as_float(picture, values)
    channels = picture.channels if isinstance(picture, Raster) else len(picture.getbands())
    half = halve and values.usual and not isinstance(picture, Raster)
    tensor = torch.empty(channels, height, width, dtype=torch.float16 if half else torch.float32)
    for top in range(0, height, STRIP):  # nothing else of it is there as a whole
        strip = picture.crop((0, top, width, min(top + STRIP, height)))
        tensor[:, top : top + STRIP] = _as_float(strip, values)
    return tensor


def _as_float(picture: Picture, values: Values) -> torch.Tensor:
    array = pixels(picture).transpose(2, 0, 1)
    if values.usual and array.dtype == np.uint8:
        floats = np.ascontiguousarray(array).astype(np.float32)
        floats /= 255  # step by step, in place: a third of the time, and no threads of torch's, which workers lack
        floats -= 0.5
        floats /= 0.5
        return torch.from_numpy(floats)
    return torch.from_numpy(np.ascontiguousarray(values.scaled(array)))
