"""Write the images of a test as files: which labels, in which format, without losing values."""

from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from data.names.inputs import parse_inputs
from data.names.side_names import generated_label, input_side, other_results_note, side_of_label
from pages.names import label_file_parts
from pages.results_folder import ResultsFolder
from pages.rows import Picture
from util.errors import OptionError, print_line
from util.image_io import PICTURE_FORMATS, array_to_pil, fits_png, save_array, save_picture, tensor_to_pil
from util.spelling import name_hint
from util.value_range import ValueRange, option_range, range_of_input

SHOWN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # a browser shows these files
DARK_LEVELS = 127  # of 8 bits: fewer levels, such as those of 0/1 masks, look black or flat on a page
ARRAY_SUFFIXES = (".npy", ".tif", ".tiff")  # these files hold any dtype and number of channels


class ResultImages:
    """Writes images/STEM_LABEL.png, or with --results_only images/STEM.png, and files of other formats (--format).

    An image with other values than 8 bits, or other channels than 1 or 3, becomes a file that holds its values, beside
    a PNG file to look at; so does one that is dark, such as a mask of 0 and 1. `begin` chooses the `labels`.
    """

    def __init__(self, o: Any, folder: ResultsFolder | None = None):
        self.folder, self.aspect_ratio = folder, o.aspect_ratio
        self.only, self.format = o.results_only, o.format
        inputs = [f"A{number}" for number, _ in enumerate(parse_inputs(getattr(o, "inputs", "")), 1)]
        self.value_ranges = {side: option_range(range_of_input(o.range_A, side)) for side in ("A", *inputs)}
        self.value_ranges["B"] = option_range(o.range_B) if o.range_B else self.value_ranges["A"]
        self.labels: list[str] = []  # of the images that are written
        self.tails: dict[str, str] = {}  # what follows the stem in a label's file names
        self.channels: dict[str, int] = {}
        self._replaced_suffixes: set[str] = set()

    def begin_generated(self, images: dict[str, Tensor], num_results: int) -> str:
        """Begin as `begin` does, with the generated image alone or that of --results_only; return a note on others.

        num_results: how many results there are of each image; all of the generated one are written.
        """
        note = ""
        if not self.only:
            first = generated_label(list(images))
            self.only = first.removesuffix("_1") if num_results > 1 else first
            note = other_results_note([*images], first) if num_results == 1 else ""
        self.begin(images)
        return note

    def begin(self, images: dict[str, Tensor]) -> None:
        """Note the labels of new images; raise OptionError if --results_only names none, or --format loses values."""
        if images.keys() <= self.channels.keys():
            return
        self.channels |= {label: image.shape[1] for label, image in images.items()}
        self.labels = self._wanted(list(self.channels)) if self.only else list(self.channels)
        parts = label_file_parts(self.channels)
        alone = bool(self.only) and len(self.labels) == 1
        self.tails = {label: "" if alone else f"_{parts[label]}" for label in self.labels}
        for label in self.labels if self.format in ("png", "jpg") else ():
            dtype, channels = self._values(label)
            if not self._is_picture(label) and not (self.format == "png" and fits_png(dtype, channels)):
                why = f"{self.format} cannot hold {label}, with {channels} channels of {dtype}"
                raise OptionError("option", "--format", why, "use --format keep")

    def _wanted(self, labels: list[str]) -> list[str]:
        named = [label for label in labels if label == self.only or (self.only, label) == ("fake_B", "fake")]
        found = named or [label for label in labels if label.startswith(self.only + "_")]  # fake_B_rgb
        if not found:
            why = f"this model writes no {self.only}, but {', '.join(labels)}"
            raise OptionError("option", "--results_only", why, f"{name_hint(self.only, labels)}give one of these")
        return found

    def side(self, label: str, unpaired: bool) -> str:
        """Return the side whose input names a label's files."""
        return input_side(label) if unpaired else "A"

    def name_tails(self, path: PurePath, side: str, unpaired: bool) -> list[str]:
        """Return what follows the stem in the names of an input's files, for one side of `labels`."""
        tails = {label: self.tails[label] for label in self.labels if self.side(label, unpaired) == side}
        return [tail + (self._suffix(label, path.suffix) if self.only else "") for label, tail in tails.items()]

    def note_other_format(self, path: PurePath) -> None:
        """Print once for each suffix that --format keep does not keep it."""
        suffix = path.suffix
        for label in self.labels if self.format == "keep" and suffix not in self._replaced_suffixes else ():
            if (written := self._suffix(label, suffix)) != suffix:
                self._replaced_suffixes.add(suffix)
                print_line(f"note: --format keep: results of {suffix or 'nameless'} files are written as {written}")
                return

    def values(self, image: Tensor, label: str) -> np.ndarray:
        """Return the values of one image (C, H, W), as its file holds them: (H, W, C) in the range of the run."""
        value_range = self._value_range(label)
        if self._is_picture(label) and value_range.is_uint8:
            return np.asarray(tensor_to_pil(image)).reshape(*image.shape[1:], -1)
        return value_range.denormalise(image)

    def save(self, image: Tensor, label: str, stem: str, input_suffix: str) -> Picture | None:
        """Write one image; return what the page shows, None with --results_only for a file that no page can show."""
        tail, suffix = self.tails[label], self._suffix(label, input_suffix)
        value_range, is_picture = self._value_range(label), self._is_picture(label)
        if is_picture:
            picture = tensor_to_pil(image) if value_range.is_uint8 else array_to_pil(value_range.denormalise(image))
            saved = self.save_picture(picture, stem, label, tail + suffix)
            is_dark = not value_range.is_uint8 and value_range.max - value_range.min <= DARK_LEVELS
            if self.only or (suffix.lower() in SHOWN_SUFFIXES and not is_dark):
                return saved
        else:
            save_array(value_range.denormalise(image), self._path(stem + tail + suffix))
        if self.only:
            return None
        return self.save_picture(tensor_to_pil(image), stem, label, f"{tail}{'_preview' * (suffix == '.png')}.png")

    def save_sheet(self, pixels: np.ndarray, stem: str, label: str, tail: str = "") -> Picture:
        """Write a generated image or a sheet of them, (H, W, 1 or 3) uint8."""
        suffix = ".jpg" if self.format == "jpg" else ".png"
        return self.save_picture(array_to_pil(pixels), stem, label, tail + suffix)

    def save_picture(self, image: Image.Image, stem: str, label: str, tail: str) -> Picture:
        """Write an 8-bit image as images/STEM + tail, whose suffix gives the format."""
        path = self._path(stem + tail)
        return Picture(label, tail, *save_picture(image, path, self.aspect_ratio, path.suffix.lower()))

    def _path(self, name: str) -> Any:
        assert self.folder is not None
        path = self.folder.claim("images/" + name)
        if "/" in name:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _value_range(self, label: str) -> ValueRange:
        side = side_of_label(label)
        return self.value_ranges[side if side in self.value_ranges else side[0]]

    def _values(self, label: str) -> tuple[str, int]:
        return self._value_range(label).dtype, self.channels[label]

    def _is_picture(self, label: str) -> bool:
        """Whether 8-bit formats hold a label's values."""
        dtype, channels = self._values(label)
        return dtype == "uint8" and channels in (1, 3)

    def _suffix(self, label: str, input_suffix: str) -> str:
        """Return the suffix of the file that holds all values of a label's image."""
        lower = input_suffix.lower()
        kept = input_suffix if self.format == "keep" else lower
        if self._is_picture(label):
            return {"jpg": ".jpg", "keep": kept if lower in PICTURE_FORMATS else ".png"}.get(self.format, ".png")
        if self.format == "png" or (lower in (".png", ".pgm", ".ppm") and fits_png(*self._values(label))):
            return ".png"
        return kept if lower in ARRAY_SUFFIXES else ".npy" if lower == ".npz" else ".tif"
