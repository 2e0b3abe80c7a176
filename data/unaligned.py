"""unaligned: images from two folders or from two columns of a manifest, without pairs."""

import random
from pathlib import Path
from typing import Any

import numpy as np

from data.base import BaseDataset, Sample
from data.joined_pairs import measure
from data.listing import layouts
from data.listing.files import find_storage, is_folder
from data.listing.paths import Paths
from data.listing.shards import Shards
from data.notes.fitting import fitting_models, naming_models
from util.errors import OptionError


class Unaligned(BaseDataset):
    """Samples {"A", "B", "path_A", "path_B"}, as many as the larger side has files.

    B is drawn at random, or in order with --serial_batches.
    """

    sides = "AB"

    def __init__(self, o):
        super().__init__(o)
        with naming_models(o, self.root):
            self._reject_pairs()
            files = layouts.find_sides(o, self.root, paired=False)
        self.notes += [*files.notes, *_pairs_hint(files.paths[0], files.paths[1], o)]
        storage = find_storage(self.root)
        if isinstance(storage, Shards) and not o.serial_batches:
            self.notes += storage.cache_note()
        sides = [(self.register_files(paths)[0], nc) for paths, nc in zip(files.paths, self.channels, strict=True)]
        source, target = sides if o.direction == "AtoB" else sides[::-1]
        self.paths_A, self.nc_A = source
        self.paths_B, self.nc_B = target

    def _reject_pairs(self) -> None:
        """Raise OptionError if dataroot has the folder of pairs, dataroot/phase, but no folder for A or B."""
        names = [self.o.phase + side for side in ("", "A", "B")]
        if self.o.pairs == "auto" and [n for n in names if is_folder(str(Path(self.root, n)))] == names[:1]:
            why = f"{self.o.dataset_mode} reads {names[1]} and {names[2]}, but {self.o.dataroot} has {names[0]}"
            remedy = f"put images of two kinds into {names[1]} and {names[2]} (of pairs A|B: --dataset_mode aligned)"
            raise OptionError("option", "--dataset_mode", why, remedy)

    def __len__(self) -> int:
        return max(len(self.paths_A), len(self.paths_B))

    def __getitem__(self, index: int) -> Sample:
        path_A = self.paths_A[index % len(self.paths_A)]
        other = index if self.o.serial_batches else random.randrange(len(self.paths_B))
        path_B = self.paths_B[other % len(self.paths_B)]
        requests = (path_A, self.nc_A, "A"), (path_B, self.nc_B, "B")
        pictures = self.preprocess.scaled_sides([self.load_image(*request) for request in requests], "AB")
        A, B = (
            self.preprocess(picture, path, self.preprocess.draw(), side=side)
            for picture, (path, _, side) in zip(pictures, requests, strict=True)
        )
        return {"A": A, "B": B, "path_A": path_A, "path_B": path_B}


def _pairs_hint(A: Paths, B: Paths, o: Any) -> list[str]:
    """Return a hint if A and B hold images of the same names, of which the first have equal sizes: maybe pairs."""
    if len(A) != len(B) or not np.array_equal(np.sort(A.keys()), np.sort(B.keys())):
        return []
    first = range(min(3, len(A)))
    if measure([A[i] for i in first], o.max_image_pixels) != measure([B[i] for i in first], o.max_image_pixels):
        return []
    models = fitting_models("aligned")
    flags = [*(f"--model {name}" for name in models if o.model not in models), "--dataset_mode aligned"]
    return [f"hint: every A has a B of the same name; {' or '.join(flags)} would use the pairs"]
