"""Write images into folders and tar shards, make datasets of them, and load their samples and errors."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.listing.files import list_files
from data.loading.loader import Loader
from options.parse import parse
from registry.lookup import find
from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import DataError
from util.seeding import fork_rng

# flags of a training on the folder `data`, which the fixtures `forty_pairs` and `sides` (tests/conftest.py) make
SIDES = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--dataroot", "data"]
FORTY = [*SIDES, "--n_epochs", 1, "--n_epochs_decay", 0, "--no_html", "--fixed_samples", 0, "--name", "run"]


def flags(*argv, phase="train"):
    """Return the options of a small model; `argv` may override them, for example load_size and crop_size."""
    o = parse([*SMALL, *map(str, argv)], "train")
    o.phase = phase
    return o


def make(mode, root, *argv, phase="train"):
    return find("dataset", mode)(flags("--dataset_mode", mode, "--dataroot", root, *argv, phase=phase))


def load(dataset, shuffle=False, **changed):
    vars(dataset.o).update(changed)
    return Loader(dataset, dataset.o, shuffle)


def sample(dataset, index=0, draw=0):
    with fork_rng(draw):
        return dataset[index]


def pixels(tensor):
    """Return a tensor (C, H, W) in [-1, 1] as the 8-bit values it was made from; check that it matches exactly."""
    values = ((tensor.double() + 1) / 2 * 255).round()
    assert torch.allclose(tensor.double(), values / 255 * 2 - 1, atol=1e-7)
    return values.numpy().astype(np.uint8)


def channels_first(image):
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def save(image, path):
    """Save an image, make its folder if it is missing, and return the image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def refused_data(mode, root, *argv, phase="train"):
    """Return the error, which must be one line, of a dataset whose first sample cannot be loaded."""
    with pytest.raises(DataError) as caught:
        sample(make(mode, root, *argv, phase=phase))
    text = str(caught.value)
    assert "\n" not in text
    return text


def cut(path):
    """Truncate a file to half its size, which keeps the header valid."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def epoch(dataset, threads=0, skip=0, number=1):
    """Return all batches of an epoch; stop the workers afterwards."""
    loader = load(dataset, shuffle=True, num_threads=threads, batch_size=4)
    try:
        return list(loader.epoch(number, skip))
    finally:
        loader.close()


def names(folder):
    """Return the relative paths of a folder's images in order."""
    return [os.path.relpath(path, folder) for path in list_files(str(folder))]


def png(number, width=48, height=40):
    """Return the PNG file of a small picture."""
    buffer = io.BytesIO()
    picture(number, width, height).save(buffer, "PNG")
    return buffer.getvalue()


def tar_bytes(files, form=tarfile.PAX_FORMAT):
    """Return an uncompressed tar file of (name, content) pairs; a TarInfo instead of a name is taken as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write_tar(path, files, **more):
    """Write a tar file, make its folder if it is missing, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(files, **more))
    return path


def pairs(*numbers, label=None):
    """Return the members of samples of WebDataset: key.A.png, key.B.png and, with a label, key.cls."""
    members = [(f"{n:03d}.{side}.png", png(n + (500 if side == "B" else 0))) for n in numbers for side in "AB"]
    return members + [(f"{n:03d}.cls", label(n).encode()) for n in numbers if label]


def save_label_maps(folder: Path, classes: int = 2, size: tuple[int, int] = (40, 32), number: int = 2) -> Path:
    """Write `number` images of each kind and phase, of width and height `size`; return the folder."""
    rng = np.random.default_rng(0)
    for phase in ("train", "test"):
        for index in range(number):
            ids = np.kron(rng.integers(0, classes, (4, 4)), np.ones((size[1] // 4, size[0] // 4))).astype(np.uint8)
            objects = ids.astype(np.uint16) * 1000
            for kind, pixels in {"label": ids, "inst": objects, "img": np.stack([ids * 60] * 3, -1)}.items():
                (folder / f"{phase}_{kind}").mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{phase}_{kind}" / f"{index}.png")
    return folder
