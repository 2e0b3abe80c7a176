"""aligned: each file of dataroot/phase holds a pair, A on the left half and B on the right."""

from data.base import BaseDataset, Sample
from data.images import in_channels
from util.errors import DataError


class Aligned(BaseDataset):
    """{"A", "B", "path_A", "path_B"}; both halves get the same crop and flip."""

    paired = True
    sides = "AB"

    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files(o.phase)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        pair = self.read(path, 3)
        width, height = pair.size
        if width < 2:
            raise DataError(
                "image", path, f"is {width}x{height}, too narrow for two halves", "give A and B side by side"
            )
        half = width // 2  # of an odd width the right half is one wider, and trimmed where positions must agree
        end = 2 * half if self.preprocess.places_differ else width
        left, right = pair.crop((0, 0, half, height)), pair.crop((half, 0, end, height))
        geometry = self.preprocess.draw()
        names = "AB" if self.o.direction == "AtoB" else "BA"
        sides = [
            self.preprocess(in_channels(side, channels, path), path, geometry, paired=True, side=name)
            for side, channels, name in zip((left, right), self.channels, names, strict=True)
        ]
        if sides[0].shape[1:] != sides[1].shape[1:]:
            why = f"is {width} wide, so that its halves differ and are scaled to different sizes"
            raise DataError("image", path, why, "give it an even width, or use --preprocess resize_and_crop")
        A, B = sides if self.o.direction == "AtoB" else reversed(sides)
        return {"A": A, "B": B, "path_A": path, "path_B": path}
