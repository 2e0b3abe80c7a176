"""aligned: pairs, each in one file (A in the left half, B in the right) or in two files of the same name."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from data.base import BaseDataset, Sample, Spec
from data.decoding.header_check import size_mismatch_text
from data.decoding.images import convert_channels
from data.decoding.raster import Picture
from data.fitting import naming_models
from data.listing import layouts
from data.pair_sizes import (
    describe_proportions,
    describe_sizes,
    fits_pair,
    halves,
    measure,
    measured_sample,
    pair_question,
    proportions,
)
from util.errors import DataError
from util.size import Size


class Aligned(BaseDataset):
    """Samples {"A", "B", "path_A", "path_B"}; both sides get the same crop and flip."""

    paired = True
    sides = "AB"
    found: layouts.SideFiles | None = None  # a plug-in may list its files itself
    pair_count = sys.maxsize  # files from here on are single images, without B

    def __init__(self, o):
        super().__init__(o)
        with naming_models(o, self.root):
            files = layouts.find_sides(o, self.root, paired=True)
        self.found = replace(files, paths=[side[:0] for side in files.paths])  # what was found, without the names
        self.paths, *partner_lists = self.register_files(*files.paths)
        self.partners = partner_lists[0] if partner_lists else None  # None: each file is A|B
        if files.is_joined:
            sample = measured_sample(files.paths[0])
            sizes = measure(sample, o.max_image_pixels)
            self.notes += _joined_notes(files, len(files.paths[0]), sizes)
            if question := pair_question(sample, sizes):
                self.ask(question)
        else:
            self.notes += files.notes

    def separate_single_images(self, trained: tuple[float, float] | None) -> None:
        """Treat files of A|B whose halves do not have the proportions of the trained pairs as single images.

        They follow the pairs, and their samples have no B. trained: the least and greatest width / height of the
        trained images; None if unknown: then files that are not wider than high are single images.
        """
        if self.found is None or not self.found.is_joined:
            return
        sizes = measure(self.paths, self.o.max_image_pixels, self._size_of_pixels)
        single = [not fits_pair(size, trained) for size in sizes]
        order = sorted(range(len(sizes)), key=single.__getitem__)  # a stable sort: pairs first
        pairs = [size for size, is_single in zip(sizes, single, strict=True) if not is_single]
        self.paths, self.pair_count, self.paired = self.paths.take(order), len(pairs), bool(pairs)
        self.notes[:] = _joined_notes(self.found, len(pairs), pairs) if pairs else []
        if any(single):
            size = sizes[order[len(pairs)]]
            why = f"{size} is not wider than high"
            if trained:
                half = describe_sizes(halves([size]))
                limits = describe_proportions(trained)
                why = f"halves of {half} do not have the proportions of the trained pairs, {limits}"
            which = f"{single.count(True)}{f' of {len(single)} files are' * bool(pairs)}"
            self.notes.append(
                f"images: {self.found.places[0]}, {which} single images, not A|B: translated whole, no figures ({why})"
            )

    def _size_of_pixels(self, path: str) -> Size:
        return Size(*self.read(path, max(3, *self.channels)).size)

    def spec(self) -> Spec:
        """Return channels and size of the images, and in training the proportions of the images of the pairs."""
        spec = super().spec()
        if self.found is None or not self.o.isTrain:
            return spec
        sizes = measure(measured_sample(self.paths), self.o.max_image_pixels)
        return replace(spec, pair_proportions=proportions(halves(sizes) if self.found.is_joined else sizes))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        if index >= self.pair_count:
            return self.input_sample(path)
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


def _joined_notes(found: layouts.SideFiles, count: int, sizes: Sequence[Size | None]) -> list[str]:
    """Return the lines that describe files of A|B, with the size of a half."""
    known = describe_sizes(halves(sizes))
    return [found.describe(f"{count} files of A|B" + (f", halves of {known}" if known else "")), *found.warnings]
