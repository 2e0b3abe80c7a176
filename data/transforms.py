"""The reference's five --preprocess modes, from a PIL image to a tensor."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.augment import asked_for
from util.errors import DataError

BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Geometry:
    """What the random part of preprocessing decided for one picture, or for both of a pair."""

    across: float  # position of the crop, as a share in [0, 1) of the room there is
    down: float
    flip: bool
    seed: int = 0  # of what --augment and its like draw


class Preprocess:
    """PIL image -> float tensor (C, H, W) in [-1, 1], by --preprocess, --load_size, --crop_size and --no_flip.

    resize: to load_size x load_size. scale_width: width load_size, height in proportion but at least crop_size.
    crop: crop_size x crop_size at a random place. none: each side to the nearest multiple of 4. Then a flip, p = 0.5.
    Values are 2 v / 255 - 1; every scaling is bicubic. Between scaling and crop comes --augment, in training.
    """

    def __init__(self, o: Any, paired: bool = False, sides: str = ""):
        self.augment = asked_for(o, paired, sides)
        self.words = set(o.preprocess.split("_and_"))
        self.load_size, self.crop_size, self.may_flip = o.load_size, o.crop_size, not o.no_flip
        self.places_differ = "crop" in self.words and "resize" not in self.words  # between pictures of other sizes

    def draw(self) -> Geometry:
        """Draw crop position, flip and the seed of augmentation; aligned pairs share one draw."""
        across, down, flip = random.random(), random.random(), self.may_flip and random.random() < 0.5
        return Geometry(across, down, flip, random.getrandbits(62) if self.augment else 0)

    def __call__(
        self, image: Image.Image, path: str, geometry: Geometry, paired: bool = False, side: str = ""
    ) -> torch.Tensor:
        """Return the tensor of one picture; side: "A" or "B", where --augment_A or --augment_B is to reach it.

        Raises DataError if the crop is larger than the picture; a paired one no larger than the crop stays whole.
        """
        image = self._augmented(self._scaled(image), path, geometry, side)
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

    def _augmented(self, image: Image.Image, path: str, geometry: Geometry, side: str) -> Image.Image:
        for number, (which, augment) in enumerate(self.augment.items()):
            if which in ("", side):  # A and B alone do not draw alike
                image = to_image(augment(pixels_of(image), geometry.seed + number, path))
        return image

    def _cropped(self, image: Image.Image, path: str, geometry: Geometry, paired: bool) -> Image.Image:
        width, height = image.size
        if paired and max(width, height) <= self.crop_size:
            return image
        if min(width, height) < self.crop_size:
            why = f"is {width}x{height} where it is cropped, smaller than --crop_size {self.crop_size}"
            remedy = "let --augment leave it larger" if self.augment else "--preprocess resize_and_crop"
            raise DataError("image", path, why, f"use a smaller --crop_size, or {remedy}")
        left = int(geometry.across * (width - self.crop_size + 1))
        top = int(geometry.down * (height - self.crop_size + 1))
        return image.crop((left, top, left + self.crop_size, top + self.crop_size))


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return an 8-bit L or RGB image as float (C, H, W) in [-1, 1]."""
    return pixels_of(image).float().div(255).sub(0.5).div(0.5)


def pixels_of(image: Image.Image) -> torch.Tensor:
    """Return the pixels of an 8-bit L or RGB image, (C, H, W) uint8."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def to_image(pixels: torch.Tensor) -> Image.Image:
    """Return (1 or 3, H, W) uint8 as an L or RGB image."""
    return Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).numpy())
