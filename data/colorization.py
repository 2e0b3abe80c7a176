"""colorization: colour images split into lightness (A) and colour (B), in CIE L*a*b*."""

from data.base import BaseDataset, Sample
from data.listing import layouts
from util.cielab import rgb_to_lab
from util.errors import OptionError


class Colorization(BaseDataset):
    """Samples {"A": L / 50 - 1 (1, H, W), "B": ab / 110 (2, H, W), "path_A", "path_B"} of dataroot/phase."""

    paired = True
    defaults = {"input_nc": 1, "output_nc": 2, "direction": "AtoB"}

    def __init__(self, o):
        super().__init__(o)
        if (o.input_nc, o.output_nc) != (1, 2):
            why = f"colorization goes from 1 channel to 2, not {o.input_nc} to {o.output_nc}"
            raise OptionError("option", "--output_nc", why, "omit --input_nc and --output_nc")
        if o.direction != "AtoB":
            raise OptionError("option", "--direction", "colorization only goes from A to B", "omit it")
        files, notes = layouts.list_phase_images(o, self.root)
        self.paths = self.register_files(files)[0]
        self.notes += notes

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        rgb = self.preprocess(self.load_image(path, 3, "A"), path, self.preprocess.draw()).float()
        lab = rgb_to_lab((rgb[None] + 1) / 2)[0]
        return {"A": lab[:1] / 50 - 1, "B": lab[1:] / 110, "path_A": path, "path_B": path}
