"""aligned: pairs, each in one file (A in the left half, B in the right) or in two files of the same name."""

from data.base import BaseDataset, Sample
from data.decoding.header_check import size_mismatch_text
from data.decoding.images import convert_channels
from data.decoding.raster import Picture
from data.listing import layouts
from util.errors import DataError


class Aligned(BaseDataset):
    """Samples {"A", "B", "path_A", "path_B"}; both sides get the same crop and flip."""

    paired = True
    sides = "AB"

    def __init__(self, o):
        super().__init__(o)
        files = layouts.find_sides(o, self.root, paired=True)
        self.notes += files.notes
        self.paths, *partner_lists = self.register_files(*files.paths)
        self.partners = partner_lists[0] if partner_lists else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        other = self.partners[index] if self.partners else path
        requests = list(zip((path, other), self.channels))
        left, right = self.load_images(requests, lambda: self._read_pair(path, other), self.side_order)
        geometry = self.preprocess.draw()
        A, B = (
            self.preprocess(picture, name, geometry, paired=True, side=side)
            for picture, name, side in zip((left, right), (path, other), self.side_order, strict=True)
        )
        if A.shape[1:] != B.shape[1:]:
            why = f"is {left.size[0] + right.size[0]} wide, so its halves differ and are scaled to different sizes"
            raise DataError("image", path, why, "give it an even width, or use --preprocess resize_and_crop")
        if self.o.direction == "BtoA":
            A, B, path, other = B, A, other, path
        return {"A": A, "B": B, "path_A": path, "path_B": other}

    def _read_pair(self, path: str, other: str) -> list[Picture]:
        """Return A and B from two files, or from one file that holds both side by side."""
        if path != other:
            left, right = (self.read(name, channels) for name, channels in zip((path, other), self.channels))
            if left.size != right.size:
                raise DataError(
                    "image", path, size_mismatch_text(left.size, other, right.size), "resize both to the same size"
                )
            return [left, right]
        pair = self.read(path, self.joined_channels)
        width, height = pair.size
        if width < 2:
            raise DataError(
                "image", path, f"is {width}x{height}, too narrow for two halves", "give A and B side by side"
            )
        # With an odd width the right half is 1 pixel wider; it is trimmed if the crop positions would differ.
        half = width // 2
        end = 2 * half if self.preprocess.crop_positions_differ else width
        halves = pair.crop((0, 0, half, height)), pair.crop((half, 0, end, height))
        return [
            convert_channels(side, channels, path, self.read_options) for side, channels in zip(halves, self.channels)
        ]
