"""unaligned: two folders, dataroot/phaseA and dataroot/phaseB, without pairs."""

import random
from pathlib import Path

from data.base import BaseDataset, Sample
from util.errors import OptionError


class Unaligned(BaseDataset):
    """{"A", "B", "path_A", "path_B"}; as many samples as the larger folder has files.

    B is drawn at random, but in order with --serial_batches.
    """

    sides = "AB"

    def __init__(self, o):
        super().__init__(o)
        self._refuse_pairs()
        sides = [(self.files(o.phase + side), nc) for side, nc in zip("AB", self.channels, strict=True)]
        source, target = sides if o.direction == "AtoB" else sides[::-1]
        self.paths_A, self.nc_A = source
        self.paths_B, self.nc_B = target

    def _refuse_pairs(self) -> None:
        """Raise OptionError where dataroot has the one folder of pairs, dataroot/phase, and neither of the two."""
        phase, root = self.o.phase, self.o.dataroot
        if [name for name in (phase, phase + "A", phase + "B") if Path(root, name).is_dir()] == [phase]:
            why = f"{self.o.dataset_mode} reads {phase}A and {phase}B, but --dataroot {root} has {phase}, as of pairs"
            raise OptionError("option", "--dataset_mode", why, "use --dataset_mode aligned, or --model pix2pix")

    def __len__(self) -> int:
        return max(len(self.paths_A), len(self.paths_B))

    def __getitem__(self, index: int) -> Sample:
        path_A = self.paths_A[index % len(self.paths_A)]
        other = index if self.o.serial_batches else random.randrange(len(self.paths_B))
        path_B = self.paths_B[other % len(self.paths_B)]
        A = self.preprocess(self.read(path_A, self.nc_A), path_A, self.preprocess.draw(), side="A")
        B = self.preprocess(self.read(path_B, self.nc_B), path_B, self.preprocess.draw(), side="B")
        return {"A": A, "B": B, "path_A": path_A, "path_B": path_B}
