"""Grey images hold no colour to learn: training refuses them, a test gives no metrics for them."""

import numpy as np
import pytest
from PIL import Image

from data.colorization import Colorization
from tests.support.images import picture
from tests.support.runs import options
from util.errors import DataError


def tinted(image, shift):
    """Return a grey image whose red channel is brighter."""
    array = np.asarray(image.convert("L").convert("RGB")).astype(int)
    array[..., 0] += shift
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def deep(image):
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


GREY = {  # kind: (conversion of an image, extension)
    "one channel": (lambda image: image.convert("L"), "png"),
    "three equal channels": (lambda image: image.convert("L").convert("RGB"), "png"),
    "JPEG": (lambda image: image.convert("L").convert("RGB"), "jpg"),
    "a palette of greys": (lambda image: image.convert("L").convert("P"), "png"),
    "16 bits": (deep, "png"),
    "slightly tinted": (lambda image: tinted(image, 3), "png"),
}
COLOURED = {
    "colours": (lambda image: image, "png"),
    "sepia": (lambda image: tinted(image, 40), "png"),
    "JPEG": (lambda image: image, "jpg"),
}


def write(root, kind, numbers=range(4)):
    convert, extension = kind
    root.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        convert(picture(number)).save(root / f"{number}.{extension}")


def dataset(root, train=True):
    o = options("--model", "colorization", "--dataroot", str(root))
    o.isTrain = train
    return Colorization(o)


@pytest.mark.parametrize("kind", GREY)
def test_grey_images_are_refused_in_training(tmp_path, kind):
    write(tmp_path / "train", GREY[kind])
    with pytest.raises(
        DataError, match=r"holds grey images \(4 of 4 images looked at\).*otherwise give images in colour"
    ):
        dataset(tmp_path)
    tested = dataset(tmp_path, train=False)
    assert len(tested) == 4 and not tested.paired and "no metrics" in tested.notes[-1]


@pytest.mark.parametrize("kind", COLOURED)
def test_images_in_colour_are_read_as_ever(tmp_path, kind):
    write(tmp_path / "train", COLOURED[kind])
    assert dataset(tmp_path).notes == dataset(tmp_path, train=False).notes == []
    assert dataset(tmp_path).paired


def test_some_grey_images_are_noted(tmp_path):
    write(tmp_path / "train", COLOURED["colours"], range(3))
    write(tmp_path / "train", GREY["one channel"], [3])
    assert dataset(tmp_path).notes == [
        f"note: 1 of 4 images looked at are grey, such as '{tmp_path}/train/3.png': they have no colour to learn"
    ]
