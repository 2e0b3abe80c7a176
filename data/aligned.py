"""aligned: pairs, each in one file with A on the left half and B on the right, or in two files of one name."""

from data import layouts
from data.base import BaseDataset, Sample
from data.checks import unlike
from data.images import in_channels
from util.errors import DataError


class Aligned(BaseDataset):
    """{"A", "B", "path_A", "path_B"}; both sides get the same crop and flip."""

    paired = True

    def __init__(self, o):
        super().__init__(o)
        found = layouts.find(o, self.root, paired=True)
        self.notes += found.notes
        self.paths, *beside = self.taken(*found.paths)
        self.partners = beside[0] if beside else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        if self.partners is None:
            path = other = self.paths[index]
            left, right = self._halves(path)
        else:
            path, other = self.paths[index], self.partners[index]
            left, right = self.read(path, 3), self.read(other, 3)
            if left.size != right.size:
                raise DataError("image", path, unlike(left.size, other, right.size), "bring both to one size")
        geometry = self.preprocess.draw()
        sides = [
            self.preprocess(in_channels(side, channels, name), name, geometry, paired=True)
            for side, channels, name in zip((left, right), self.channels, (path, other), strict=True)
        ]
        if sides[0].shape[1:] != sides[1].shape[1:]:
            why = f"is {left.size[0] + right.size[0]} wide, so that its halves differ and are scaled to different sizes"
            raise DataError("image", path, why, "give it an even width, or use --preprocess resize_and_crop")
        if self.o.direction == "BtoA":
            sides, path, other = sides[::-1], other, path
        return {"A": sides[0], "B": sides[1], "path_A": path, "path_B": other}

    def _halves(self, path: str):
        """Return A and B of a file that holds both side by side."""
        pair = self.read(path, 3)
        width, height = pair.size
        if width < 2:
            raise DataError(
                "image", path, f"is {width}x{height}, too narrow for two halves", "give A and B side by side"
            )
        half = width // 2  # of an odd width the right half is one wider, and trimmed where positions must agree
        end = 2 * half if self.preprocess.places_differ else width
        return pair.crop((0, 0, half, height)), pair.crop((half, 0, end, height))
