"""Huge images are converted between types in strips, with exactly the same numbers."""

import numpy as np
import pytest
import torch
from PIL import Image

from data import transforms
from data.decoding.raster import Raster
from data.loading.loader import collate
from data.transforms import to_tensor
from util import image_io
from util.value_range import ValueRange

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("channels", [1, 3])
def test_strips_give_the_tensor_of_the_whole(channels, monkeypatch):
    array = RNG.integers(0, 256, (301, 7, channels), dtype=np.uint8)
    colours = image_io.array_to_pil(array)
    deep, values = Raster(RNG.integers(0, 65536, (301, 7, channels), dtype=np.uint16)), ValueRange(0, 65535, "uint16")
    whole = to_tensor(colours), to_tensor(deep, values)
    monkeypatch.setattr(transforms, "HUGE_IMAGE_PIXELS", 100)
    assert torch.equal(to_tensor(colours), whole[0])
    assert torch.equal(to_tensor(deep, values), whole[1])
    halved = to_tensor(colours, half_precision=True)
    assert halved.dtype == torch.float16
    assert torch.equal(halved, whole[0].half())
    assert (image_io.to_pixels(halved) == array).all(), "half precision tells all 256 values apart"
    assert to_tensor(deep, values, half_precision=True).dtype == torch.float32, "but not 65,536"


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_strips_give_the_image_of_the_whole(channels, monkeypatch):
    monkeypatch.setattr(image_io, "STRIP_PIXELS", 32 * 5)
    tensor = torch.rand(channels, 73, 5) * 2.2 - 1.1
    shown = image_io.tensor_to_pil(tensor)
    assert isinstance(shown, Image.Image)
    assert shown.mode == ("RGB" if channels > 2 else "L")
    assert (np.asarray(shown).reshape(*tensor.shape[1:], -1) == image_io.to_pixels(tensor)).all()


def test_one_picture_is_a_batch_without_a_copy():
    sample = {"A": torch.zeros(3, 4, 5), "label": 7, "path_A": "a.png"}
    batch = collate([sample])
    assert batch["A"].data_ptr() == sample["A"].data_ptr()
    assert batch["A"].shape == (1, 3, 4, 5)
    assert (batch["label"].tolist(), batch["path_A"]) == ([7], ["a.png"])
