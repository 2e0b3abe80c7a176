"""colorization: colour pictures split into lightness (A) and colour (B), in CIE L*a*b*."""

import torch

from data.base import BaseDataset, Sample
from util.lab import rgb_to_lab


class Colorization(BaseDataset):
    """{"A": L / 50 - 1 (1, H, W), "B": ab / 110 (2, H, W), "path_A", "path_B"}; every picture of dataroot/phase."""

    defaults = {"input_nc": 1, "output_nc": 2, "direction": "AtoB"}

    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files(o.phase)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        rgb = self.preprocess(self.read(path, 3), path, self.preprocess.draw())
        lab = torch.from_numpy(rgb_to_lab(((rgb + 1) / 2).permute(1, 2, 0).numpy())).permute(2, 0, 1).float()
        return {"A": lab[:1] / 50 - 1, "B": lab[1:] / 110, "path_A": path, "path_B": path}
