"""labeled: a folder of pictures for each class, or MNIST's idx files; for generation by class."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from data.base import BaseDataset, Sample, Spec
from data.images import in_channels, list_folders
from util.classes import chosen
from util.errors import DataError

PHASES = {"train", "test", "val", "valid", "validation"}
IDX = {3: 0x803, 1: 0x801}  # dimensions: magic number of a file of bytes


class Labeled(BaseDataset):
    """{"A", "label", "path_A"}; classes are the sorted names of the folders in dataroot/phase, else in dataroot.

    A dataroot with idx files (train-images-idx3-ubyte, t10k-..., also .gz) has the classes 0 to 9.
    """

    sides = "A"

    def __init__(self, o):
        super().__init__(o)
        self.nc = min(o.input_nc, o.output_nc)  # grey as soon as either says so
        found = self._idx() or self._folders()
        self.classes = tuple(sorted(chosen(o.classes, sorted(found))))
        empty = [name for name in self.classes if not len(found[name])]
        if empty:
            why = f"its folder '{empty[0]}' holds no images"
            raise DataError("folder", o.dataroot, why, "fill it, remove it, or name the other folders with --classes")
        every = [(n, label, sample) for label, name in enumerate(self.classes) for n, sample in enumerate(found[name])]
        fair = sorted(every, key=lambda row: row[:2])  # so that --max_dataset_size leaves something of each class
        self.samples = [(sample, label) for _, label, sample in fair[: int(min(len(fair), o.max_dataset_size))]]

    def _folders(self) -> dict[str, list[str]]:
        inside = Path(self.o.dataroot, self.o.phase)
        root = str(inside) if inside.is_dir() or list_folders(str(inside)) else self.o.dataroot
        names = list_folders(root)
        if not names or (root == self.o.dataroot and set(names) <= PHASES):
            self.files()  # says what is wrong with dataroot itself
            why = f"has no folder for each class (it has {', '.join(names) or 'no folders'})"
            raise DataError("folder", root, why, "put the pictures in CLASS/NAME.png, or name a --phase that is there")
        return {name: self.listed(str(Path(root, name))) for name in chosen(self.o.classes, names)}

    def _idx(self) -> dict[str, list[np.ndarray]]:
        for stem in ("train", "t10k") if self.o.phase == "train" else ("t10k", "train"):
            images, labels = (self._read_idx(stem, n) for n in (3, 1))
            if (images is None) != (labels is None):
                there, gone = ("images", "labels") if labels is None else ("labels", "images")
                raise DataError("folder", self.o.dataroot, f"has {stem}-{there}-idx but no {stem}-{gone}-idx", "add it")
            if images is not None and labels is not None:
                if len(images) != len(labels):
                    why = f"holds {len(images)} images and {len(labels)} labels of {stem}"
                    raise DataError("folder", self.o.dataroot, why, "copy both files again")
                return {str(c): list(images[labels == c]) for c in np.unique(labels)}
        return {}

    def _read_idx(self, stem: str, dimensions: int) -> np.ndarray | None:
        """Return the array in an idx file of bytes, or None if there is no such file; DataError if it is malformed."""
        kind, folder = ("images" if dimensions == 3 else "labels"), Path(self.o.dataroot)
        for name in (f"{stem}-{kind}-idx{dimensions}-ubyte", f"{stem}-{kind}.idx{dimensions}-ubyte"):
            for path in (folder / name, folder / (name + ".gz")):
                if path.is_file():
                    self.inventory.add([str(path)], [path.stat().st_size], self.o.dataroot)
                    return _parse_idx(path, dimensions)
        return None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        source, label = self.samples[index]
        if isinstance(source, str):
            image, path = self.read(source, self.nc), source
        else:
            path = f"{index:05d}.png"
            image = in_channels(Image.fromarray(np.asarray(source)), self.nc, path)
        A = self.preprocess(image, path, self.preprocess.draw(), side="A")
        return {"A": A, "label": label, "path_A": path}

    def spec(self) -> Spec:
        """Return the images' channels and size and the names of the classes."""
        plain = super().spec()
        return Spec(self.nc, self.nc, plain.height, plain.width, self.classes)


def _parse_idx(path: Path, dimensions: int) -> np.ndarray:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        head = np.frombuffer(data, ">u4", 1 + dimensions)
        if head[0] != IDX[dimensions]:
            raise ValueError(f"its magic number is {head[0]:#x}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(head[1:])
    except (OSError, ValueError, EOFError, zlib.error) as problem:
        raise DataError("file", path, f"is no idx file ({problem})", "copy it again") from problem
