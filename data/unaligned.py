"""unaligned: two folders, dataroot/phaseA and dataroot/phaseB, without pairs."""

import random

from data.base import BaseDataset, Sample


class Unaligned(BaseDataset):
    """{"A", "B", "path_A", "path_B"}; as many samples as the larger folder has files.

    B is drawn at random, but in order with --serial_batches.
    """

    def __init__(self, o):
        super().__init__(o)
        sides = [(self.files(o.phase + side), nc) for side, nc in zip("AB", self.channels, strict=True)]
        source, target = sides if o.direction == "AtoB" else sides[::-1]
        self.paths_A, self.nc_A = source
        self.paths_B, self.nc_B = target

    def __len__(self) -> int:
        return max(len(self.paths_A), len(self.paths_B))

    def __getitem__(self, index: int) -> Sample:
        path_A = self.paths_A[index % len(self.paths_A)]
        other = index if self.o.serial_batches else random.randrange(len(self.paths_B))
        path_B = self.paths_B[other % len(self.paths_B)]
        A = self.preprocess(self.read(path_A, self.nc_A), path_A, self.preprocess.draw())
        B = self.preprocess(self.read(path_B, self.nc_B), path_B, self.preprocess.draw())
        return {"A": A, "B": B, "path_A": path_A, "path_B": path_B}
