"""The reference's five --preprocess modes, from a PIL image to a tensor."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from util.errors import DataError

BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Geometry:
    """What the random part of preprocessing decided for one picture, or for both of a pair."""

    across: float  # position of the crop, as a share in [0, 1) of the room there is
    down: float
    flip: bool


class Preprocess:
    """PIL image -> float tensor (C, H, W) in [-1, 1], by --preprocess, --load_size, --crop_size and --no_flip.

    resize: to load_size x load_size. scale_width: width load_size, height in proportion but at least crop_size.
    crop: crop_size x crop_size at a random place. none: each side to the nearest multiple of 4. Then a flip, p = 0.5.
    Values are 2 v / 255 - 1; every scaling is bicubic.
    """

    def __init__(self, o: Any):
        self.words = set(o.preprocess.split("_and_"))
        self.load_size, self.crop_size, self.may_flip = o.load_size, o.crop_size, not o.no_flip
        self.places_differ = "crop" in self.words and "resize" not in self.words  # between pictures of other sizes

    def draw(self) -> Geometry:
        """Draw crop position and flip; aligned pairs share one draw."""
        return Geometry(random.random(), random.random(), self.may_flip and random.random() < 0.5)

    def __call__(self, image: Image.Image, path: str, geometry: Geometry, paired: bool = False) -> torch.Tensor:
        """Return the tensor of one picture.

        Raises DataError if the crop is larger than the picture; a paired one no larger than the crop stays whole.
        """
        image = self._scaled(image)
        if "crop" in self.words:
            image = self._cropped(image, path, geometry, paired)
        if geometry.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(image)

    def _scaled(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if "resize" in self.words:
            size = (self.load_size, self.load_size)
        elif "scale_width" in self.words:
            tall = width == self.load_size and height >= self.crop_size
            size = image.size if tall else (self.load_size, int(max(self.load_size * height / width, self.crop_size)))
        elif "none" in self.words:
            size = (max(4, round(width / 4) * 4), max(4, round(height / 4) * 4))
        else:
            return image
        return image if size == image.size else image.resize(size, BICUBIC)

    def _cropped(self, image: Image.Image, path: str, geometry: Geometry, paired: bool) -> Image.Image:
        width, height = image.size
        if paired and max(width, height) <= self.crop_size:
            return image
        if min(width, height) < self.crop_size:
            why = f"is {width}x{height} where it is cropped, smaller than --crop_size {self.crop_size}"
            raise DataError("image", path, why, "use a smaller --crop_size, or --preprocess resize_and_crop")
        left = int(geometry.across * (width - self.crop_size + 1))
        top = int(geometry.down * (height - self.crop_size + 1))
        return image.crop((left, top, left + self.crop_size, top + self.crop_size))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return an 8-bit L or RGB image as float (C, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    pixels = pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
    return pixels.float().div(255).sub(0.5).div(0.5)
