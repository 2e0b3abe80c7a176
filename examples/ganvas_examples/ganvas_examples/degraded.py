"""degraded: pairs made on the fly, B a picture and A the same picture shrunk and enlarged again."""

from dataclasses import dataclass

from PIL import Image

from data.base import BaseDataset
from options.fields import option


class Degraded(BaseDataset):
    """{"A", "B", "path_A", "path_B"} from every picture under dataroot; A has 1/--shrink of B's detail."""

    paired = True

    @dataclass
    class Options:
        shrink: int = option(4, "how many times smaller A is made before it is enlarged again", at_least=2, of_run=True)

    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files()

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        sharp = self.read(path, 3)
        small = sharp.resize([max(1, side // self.o.shrink) for side in sharp.size], Image.Resampling.BOX)
        blurred = small.resize(sharp.size, Image.Resampling.BICUBIC)
        geometry = self.preprocess.draw()  # one crop and flip for both
        A, B = (self.preprocess(image, path, geometry, paired=True) for image in (blurred, sharp))
        return {"A": A, "B": B, "path_A": path, "path_B": path}
