"""colorization: colour images split into lightness (A) and colour (B), in CIE L*a*b*."""

import numpy as np

from data.base import BaseDataset, Sample
from data.decoding.cielab import rgb_to_lab
from data.decoding.raster import to_array
from data.joined_pairs import twice_as_wide
from data.listing import layouts
from data.listing.manifest import is_manifest
from data.listing.paths import Paths
from data.notes.fitting import naming_models
from data.notes.label_maps import sample_files
from util.errors import DataError, OptionError

GREY_REMEDY = "give images in colour"
GREY_SPREAD = 0.03  # of the greatest value: the difference of channels in grey images, which JPEG may change a little


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
        with naming_models(o, self.root):
            files, notes = self._find_files()
        self.paths = self.register_files(files)[0]
        self.notes += notes
        if o.isTrain and (size := twice_as_wide(files, o.max_image_pixels)):
            self.ask(f"are these single images? They are twice as wide as high ({size}), like pairs of A|B")

    def _find_files(self) -> tuple[Paths, list[str]]:
        """Return the files and the notes about them; raise DataError for grey images in training."""
        if is_manifest(self.o.dataroot):
            why = "is a manifest, and colorization reads the images of a folder"
            raise DataError("file", self.o.dataroot, why, "give --dataroot a folder of colour images")
        files, notes = layouts.list_phase_images(self.o, self.root)
        looked_at = sample_files([files])
        grey = [path for path in looked_at if self._is_grey(path)]
        if not grey:
            return files, notes
        which = f"{len(grey)} of {len(looked_at)} images looked at"
        if len(grey) < len(looked_at):
            what = "no colour to learn" if self.o.isTrain else "no colour to compare with"
            return files, [*notes, f"note: {which} are grey, such as '{grey[0]}': they have {what}"]
        if self.o.isTrain:
            raise DataError(
                "folder", files.root, f"holds grey images ({which}), without a colour to learn", GREY_REMEDY
            )
        self.paired = False
        return files, [*notes, f"note: the images are grey ({which}): there is no colour to compare with, no metrics"]

    def _is_grey(self, path: str) -> bool:
        try:
            values = to_array(self.read(path, 3)).astype(float)
        except DataError:  # it is reported when it is used
            return False
        return float(np.ptp(values, axis=2).max()) <= GREY_SPREAD * max(float(np.abs(values).max()), 1e-9)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        rgb = self.preprocess(self.load_image(path, 3, "A"), path, self.preprocess.draw()).float()
        lab = rgb_to_lab((rgb[None] + 1) / 2)[0]
        return {"A": lab[:1] / 50 - 1, "B": lab[1:] / 110, "path_A": path, "path_B": path}
