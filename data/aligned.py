"""aligned: pairs, each in one file (A in the left half, B in the right) or in files of the same name."""

import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from data.base import BaseDataset, Sample, Spec, column_values
from data.decoding.header_check import size_mismatch_text
from data.decoding.images import convert_channels
from data.decoding.raster import Picture
from data.input_stack import describe_inputs, find_inputs
from data.joined_pairs import (
    describe_proportions,
    describe_sizes,
    fits_pair,
    halves,
    measure,
    measured_sample,
    pair_question,
    proportions,
)
from data.listing import layouts
from data.listing.paths import Paths
from data.names.inputs import format_inputs
from data.notes.fitting import naming_models
from data.transforms import Preprocess
from util.errors import DataError, count_text
from util.size import Size


class Aligned(BaseDataset):
    """Samples {"A", "B", "path_A", "path_B"}; both sides get the same crop and flip.

    With several inputs, A is the stack of their channels; path_A is the file of the first. The further columns of a
    manifest follow under their names. In a test, several inputs and the rows of a manifest may have no B.
    """

    paired = True
    sides = "AB"
    stacks_inputs = True
    inputs = ""  # in the format of --inputs
    more_inputs: Sequence[Paths] = ()  # the files of the second input and the following ones
    found: layouts.SideFiles | None = None  # a plug-in may list its files itself
    pair_count = sys.maxsize  # files from here on are single images, without B

    def __init__(self, o):
        super().__init__(o)
        with naming_models(o, self.root):
            files = layouts.find_sides(o, self.root, paired=True)
        self.found = replace(files, paths=[side[:0] for side in files.paths])  # what was found, without the names
        self.paths, *others = self.register_files(*files.paths)
        self.partners = others.pop() if others and files.kind == "pairs" else None
        self.more_inputs, self.columns = others, files.columns
        if self.columns:
            self.inventory.add_labels(self.columns.values.values())
        if files.is_joined:
            sample = measured_sample(files.paths[0])
            sizes = measure(sample, o.max_image_pixels)
            self.notes += _joined_notes(files, len(files.paths[0]), sizes)
            question, is_likely = pair_question(sample, sizes)
            if is_likely or (question and o.isTrain and o.pairs != "joined"):
                self.ask(question, is_likely)
        else:
            self.notes += files.notes
        self.paired = files.kind == "pairs"
        if files.inputs:
            self._use_inputs(files.inputs, files.paths)
        elif not self.paired:
            self.side_order, self.channels = "A", (o.input_nc,)

    def _use_inputs(self, names: Sequence[str], files: Sequence[Paths]) -> None:
        """Stack several inputs to A, each with its own channels and range of values."""
        inputs = find_inputs(self.o, names, files)
        self.notes.append(describe_inputs(inputs))
        self.inputs = format_inputs(inputs)
        target = [("B", self.o.output_nc)] if self.paired else []
        sides = [(f"A{number}", each.channels) for number, each in enumerate(inputs, 1)] + target
        self.side_order, self.channels = zip(*sides, strict=True)
        self.preprocess = Preprocess(self.o, True, self.sides, self.side_order)

    def file_notes(self) -> list[str]:
        """Return the notes about files, also about numbered folders beside A that no flag asks for."""
        notes, may_stack = super().file_notes(), self.o.isTrain and not self.inputs
        if others := layouts.numbered_folders(self.root, self.o.phase) if may_stack else ():
            names = ", ".join(others)
            notes.append(f"note: the folders of {names} are not used; --inputs A,{','.join(others)} stacks them to A")
        return notes

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
            which = count_text(single.count(True), "single image")
            which = f"{single.count(True)} of {len(single)} files are single images" if pairs else which
            said = f"images: {self.found.places[0]}, {which}, not A|B: translated whole, no metrics ({why})"
            self.notes.append(said)

    def _size_of_pixels(self, path: str) -> Size:
        return Size(*self.read(path, max(3, *self.channels)).size)

    def spec(self) -> Spec:
        """Return channels and size of the images, and in training the proportions of the images of the pairs."""
        spec = replace(super().spec(), inputs=self.inputs)
        if self.found is None or not self.o.isTrain:
            return spec
        sizes = measure(measured_sample(self.paths), self.o.max_image_pixels)
        return replace(spec, pair_proportions=proportions(halves(sizes) if self.found.is_joined else sizes))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """Read the files of a pair (`open_image`), and scale, crop and flip both sides alike (`Preprocess`)."""
        path = self.paths[index]
        if index >= self.pair_count:
            return self.input_sample(path)
        files = [path, *(paths[index] for paths in self.more_inputs)]
        if self.paired:
            files.append(self.partners[index] if self.partners else path)
        requests = list(zip(files, self.channels, strict=True))
        loaded = self.load_images(requests, lambda: self._read_images(files), self.side_order)
        pictures = self.preprocess.scaled_sides(loaded, self.side_order)  # at once, in two threads; else scaled below
        geometry = self.preprocess.draw()
        tensors = [
            self.preprocess(picture, name, geometry, paired=True, side=side)
            for picture, name, side in zip(pictures, files, self.side_order, strict=True)
        ]
        if len({tensor.shape[1:] for tensor in tensors}) > 1:
            width = sum(picture.size[0] for picture in pictures)
            why = f"is {width} wide, so its halves differ and are scaled to different sizes"
            raise DataError("image", path, why, "give it an even width, or use --preprocess resize_and_crop")
        by_side = {
            side: [i for i, name in enumerate(self.side_order) if name[0] == side]
            for side in ("AB" if self.paired else "A")
        }
        images = {side: _stack([tensors[i] for i in own]) for side, own in by_side.items()}
        sample = images | {f"path_{side}": files[own[0]] for side, own in by_side.items()}
        return sample | column_values(self.columns, index)

    def _read_images(self, files: Sequence[str]) -> list[Picture]:
        """Return the images in the files of a pair, or the two halves of the one file that holds both sides."""
        path = files[0]
        if not self.paired or self.inputs or path != files[-1]:
            pictures = [self.read(name, channels) for name, channels in zip(files, self.channels, strict=True)]
            for other, picture in zip(files, pictures, strict=True):
                if picture.size != pictures[0].size:
                    why = size_mismatch_text(pictures[0].size, other, picture.size)
                    raise DataError("image", path, why, "resize both to the same size")
            return pictures
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


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the channels of all tensors as one; a single tensor is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _joined_notes(found: layouts.SideFiles, count: int, sizes: Sequence[Size | None]) -> list[str]:
    """Return the lines that describe files of A|B, with the size of a half."""
    known = describe_sizes(halves(sizes))
    what = f"{count_text(count, 'file')} of A|B" + (f", halves of {known}" if known else "")
    return [found.describe(what), *found.warnings]
