"""Decide what test.py finds at a path: pairs, both sides of a run, or images of one side."""

import os
import re
from copy import copy
from pathlib import Path, PurePath
from typing import Any

from data.aligned import Aligned
from data.base import BaseDataset, Spec
from data.colorization import Colorization
from data.decoding.unusable import naming_all_unusable
from data.joined_pairs import twice_as_wide
from data.listing import layouts, manifest
from data.listing.files import PHASES, dataset_root, is_folder, is_image, list_files, list_folders
from data.listing.listing_cache import listed_once
from data.names.inputs import parse_inputs
from data.names.side_names import OTHER, exchange_sides, result_labels
from data.unaligned import Unaligned
from options import store
from registry.lookup import find
from util.errors import DataError, OptionError
from util.size import to_size

FAMILIES = {"aligned": Aligned, "unaligned": Unaligned, "colorization": Colorization}
SOURCES = {"AtoB": "A", "BtoA": "B"}  # --direction: the folder's side that a run translates
MAX_LOOKED_AT = 300  # names of files
OTHER_PHASES = ("val", "valid", "validation", "train")  # tested if there are no images of --phase test


class FoundImages:
    """The data set that test.py reads, and whether the run's networks of A and B change places for it.

    The model always sees A as the source. For images of its side B, G_B is loaded as its G_A, and `rename` gives
    networks and outputs their own names back.
    """

    def __init__(self, o: Any, dataset: BaseDataset, exchanged: bool = False):
        self.given_options, self.dataset, self.exchanged = o, dataset, exchanged
        self.o = dataset.o  # the options that the model needs

    def spec(self) -> Spec:
        """Return the data set's Spec, and store the measured ranges as options."""
        with naming_all_unusable(self.dataset.o):
            spec = self.dataset.spec()
        store.fill_from_dataset(self.o, spec)
        ranges = self.o.range_A, self.o.range_B
        self.given_options.inputs = self.o.inputs
        self.given_options.range_A, self.given_options.range_B = ranges[::-1] if self.exchanged else ranges
        return spec

    def rename(self, things: dict[str, Any]) -> dict[str, Any]:
        """Return networks or outputs by their own names, and empty `things`, so that memory is freed early."""
        return {exchange_sides(name) if self.exchanged else name: things.pop(name) for name in list(things)}


def find_images(o: Any, folder: Path, model: Any, is_frame: bool = False) -> FoundImages:
    """Return the images of --dataroot for the run in `folder`; what is there decides how they are read.

    With --model test, --dataset_mode or --pairs they are read as these say. is_frame: whether --dataroot is a frame of
    a video, which is no pair. Raises OptionError for a --direction that the run was not trained in, DataError if there
    are no images, or for those that cannot be read.
    """
    with listed_once(), naming_all_unusable(o):
        return _find_images(o, folder, model, is_frame)


def _find_images(o: Any, folder: Path, model: Any, is_frame: bool) -> FoundImages:
    finder = _Finder(o, model, may_be_pairs=not is_frame)
    if o.model == "test" or {"dataset_mode", "pairs"} & o.given:
        images = finder.as_told()
    elif finder.family:
        images = finder.as_found(store.load_pair_proportions(folder))
    else:
        images = finder.of_phase_or_root()
    images.dataset.notes[:0] = finder.notes
    _add_crop_note(images.dataset)
    _add_size_note(images.dataset)
    _add_content_notes(images.dataset, is_pairs=finder.family == "aligned")
    found = images.dataset.columns.kinds if images.dataset.columns else {}
    if missing := sorted(o.saved.get("run_columns", {}).keys() - found.keys()):
        said = f"note: batches have no {', '.join(missing)}, columns of the manifest that the run was trained with"
        images.dataset.notes.append(said)
    return images


def needs_exchange(o: Any, model: Any) -> bool:
    """Whether --direction asks for the networks of the other side; OptionError if the run has none."""
    return _Finder(o, model).is_exchanged()


def exchange_options(o: Any) -> None:
    """Exchange channels and ranges of A and B, for a model that translates the other side."""
    o.input_nc, o.output_nc, o.range_A, o.range_B = o.output_nc, o.input_nc, o.range_B, o.range_A


class _Finder:
    """Looks at --dataroot for one run."""

    def __init__(self, o: Any, model: Any, may_be_pairs: bool = True):
        self.o, self.mode, self.may_be_pairs = o, o.dataset_mode, may_be_pairs
        kind = find("dataset", self.mode)  # a plug-in's may extend one of ours
        self.family = next((name for name, base in FAMILIES.items() if issubclass(kind, base)), "")
        saved = os.path.realpath(o.saved.get("dataroot", ""))
        self.is_own = saved == os.path.realpath(o.dataroot)  # the images that the run was trained on
        self.pairs = o.pairs if self.is_own or "pairs" in o.given else "auto"
        self.trained = o.saved.get("direction", o.direction)
        names = tuple(getattr(model, "averaged", ()))
        self.generator = next((name for name in names if name.endswith("_A")), names[0] if names else "")
        self.is_two_sided = self.generator != exchange_sides(self.generator) in names
        self.is_turned = o.direction != self.trained  # the user asks for the other direction
        self.notes: list[str] = []
        self.root = dataset_root(str(Path(o.dataroot)), o.phase)

    def as_told(self) -> FoundImages:
        """Return the data set of --dataset_mode, as the reference reads it."""
        if self.is_turned and self.mode in ("single", "labeled"):
            self.notes.append(f"note: --direction has no effect on images without sides; the run is {self.trained}")
            self.o.direction, self.is_turned = self.trained, False
        self._check_direction()
        return self._images(self.mode, self.is_turned)

    def of_phase_or_root(self) -> FoundImages:
        """Return the data set of --dataset_mode, without a folder for the phase if there is none."""
        try:
            return self.as_told()
        except DataError as problem:
            if problem.args[0] != "folder" or "phase" in self.o.given:
                raise
            try:
                return self._images(self.mode, self.is_turned, phase="")
            except DataError as own:
                raise own if is_image(self.root) or self._has_loose_images() else problem from None

    def as_found(self, proportions: tuple[float, float] | None) -> FoundImages:
        """Return the data set that fits what is there."""
        self._check_direction()
        if manifest.find_manifest(self.o.dataroot, self.pairs, self.root) or self._is_divided_by_split():
            return self._images(self.mode, self.is_turned)
        if inner := layouts.inner_roots(self.root):
            self._enter(inner)
        if self.o.inputs:
            return self._several_inputs()
        phase, sides = self._find_phase()
        if phase is None:
            return self._images(self.mode)  # raises the error that names what is there
        self._take_phase(phase)
        if self.family == "colorization":
            place, phase = (self._folder_of(phase, sides), "") if len(sides) == 1 else (self.root, phase)
            return self._images(self.mode, dataroot=place, phase=phase)
        if self.family == "aligned" and sides in ("", "AB") and self.may_be_pairs:
            return self._pairs(phase, sides, proportions)
        if sides == "AB" and not self.is_turned:
            return self._images(self.mode, dataroot=self.root, phase=phase)
        if sides == "B" and (inputs := layouts.numbered_folders(self.root, phase)):
            why = f"has the inputs {', '.join(inputs)}, but the run takes one"
            raise DataError("folder", self.root, why, f"give one of them, such as {Path(self.root, phase + inputs[0])}")
        return self._one_side(phase, sides)

    def _images(self, mode: str, exchanged: bool = False, **changed: Any) -> FoundImages:
        """Return the data set of a mode with changed options."""
        o = copy(self.o)
        vars(o).update({"pairs": self.pairs} | changed, dataset_mode=mode)
        if exchanged:
            exchange_options(o)
        return FoundImages(self.o, find("dataset", mode)(o), exchanged)

    def is_exchanged(self) -> bool:
        """Whether images of one side are translated by the networks of the other side, as --direction says."""
        self._check_direction()
        return self.is_turned

    def _check_direction(self) -> None:
        """Raise OptionError for the other direction if the run has no generator for it."""
        if self.is_turned and not self.is_two_sided:
            why = f"is {self.o.direction}, but this run was trained {self.trained} and has no other generator"
            raise OptionError("option", "--direction", why, "omit --direction")

    def _is_divided_by_split(self) -> bool:
        """Whether --split is given, or the run's own folder was divided by it."""
        divided = self.o.split is not None and ("split" in self.o.given or self.is_own)
        return divided and not layouts.list_phases(self.root)

    def _enter(self, inner: list[str]) -> None:
        """Make the only data set below root the root; raise DataError if there are several."""
        if self._has_loose_images():
            return
        if len(inner) > 1:
            why = f"holds several data sets: {', '.join(os.path.basename(folder) for folder in inner[:8])}"
            raise DataError("folder", self.root, why, f"give one of them, such as {inner[0]}")
        self.notes.append(f"note: the images are those of {inner[0]}")
        self.root = inner[0]

    def _has_loose_images(self) -> bool:
        """Whether there are images in the root itself, beside its folders."""
        paths = list_files(self.root)
        return any(b"/" not in paths.name(index) for index in range(len(paths)))

    def _take_phase(self, phase: str) -> None:
        """Note and use another phase than that of --phase."""
        if phase != self.o.phase and phase:
            self.notes.append(f"note: there are no images of {self.o.phase}: these are of {phase} (--phase {phase})")
            self.o.phase = phase

    def _several_inputs(self) -> FoundImages:
        """Return the images of a run with several inputs, with or without B; DataError if an input is missing."""
        names = [each.name for each in parse_inputs(self.o.inputs)]
        layout = [f"{self.o.phase}{name}" for name in names]
        for phase in [self.o.phase] if "phase" in self.o.given else [self.o.phase, *OTHER_PHASES, ""]:
            for kind in ("sides", "nested"):
                folders = layouts.phase_folders(self.root, phase, kind, names)[:-1]
                if all(map(_holds_images, folders)):
                    self._take_phase(phase)
                    changed: dict[str, Any] = {} if phase else {"pairs": "sides", "split": None}
                    return self._images(self.mode, dataroot=self.root, phase=phase, **changed)
                if any(map(_holds_images, folders)):
                    layout = [os.path.relpath(folder, self.root) for folder in folders]
        missing = [name for name in layout if not _holds_images(str(Path(self.root, name)))]
        why = f"the run has the inputs {', '.join(names)}, but it holds no images in {', '.join(missing)}"
        columns = ", ".join(name.lower() for name in names)
        remedy = f"give the folder of {', '.join(layout)}, or a manifest with the columns {columns}"
        raise DataError("folder", self.root, why, remedy)

    def _find_phase(self) -> tuple[str | None, str]:
        """Return (phase, its sides): "AB", "A", "B", or "" for one folder; phase "" for a root without phases.

        The phase is None if --phase is given and missing.
        """
        if is_image(self.root):
            return "", ""
        if (sides := self._sides(self.o.phase)) is not None:
            return self.o.phase, sides
        if "phase" in self.o.given:
            return None, ""
        if not list_folders(self.root) or self._has_loose_images():
            return "", ""
        for phase in OTHER_PHASES:
            if (sides := self._sides(phase)) is not None:
                return phase, sides
        return "", ("" if set(list_folders(self.root)) - {"A", "B"} else self._sides("") or "")

    def _sides(self, phase: str) -> str | None:
        """Return the sides that hold images in a phase; "" for a folder of both or of neither; None without images."""
        joined = layouts.phase_folders(self.root, phase, "joined")[0]
        kinds = [layouts.phase_folders(self.root, phase, kind) for kind in ("sides", "nested")]
        there = ["".join(side for side, f in zip("AB", folders, strict=True) if _holds_images(f)) for folders in kinds]
        sides = max(there, key=len)
        if self.family != "unaligned" and (phase or not sides) and _holds_images(joined):
            return ""  # A|B go before two folders
        return sides or ("" if _holds_images(joined) else None)

    def _folder_of(self, phase: str, side: str) -> str:
        """Return the folder of a side that holds images; side "": the folder of a phase, or the root."""
        if not side:
            return layouts.phase_folders(self.root, phase, "joined")[0]
        folders = [layouts.phase_folders(self.root, phase, kind)["AB".index(side)] for kind in ("sides", "nested")]
        return next(folder for folder in folders if _holds_images(folder))

    def _pairs(self, phase: str, sides: str, proportions: tuple[float, float] | None) -> FoundImages:
        """Return pairs; files of A|B that are none become single images."""
        changed = {} if phase else {"pairs": "sides" if sides else "joined", "split": None}
        images = self._images(self.mode, self.is_turned, dataroot=self.root, phase=phase, **changed)
        if self.o.remembered or not phase:  # the reference's runs and commands cut every file
            dataset: Any = images.dataset
            dataset.separate_single_images(proportions)
            if 0 < dataset.pair_count < len(dataset):
                images.o.batch_size = 1  # a batch cannot hold samples with and without B
        return images

    def _one_side(self, phase: str, sides: str) -> FoundImages:
        """Return the images of one side; the direction or the folder's name says which."""
        wanted = SOURCES[self.o.direction]
        side = wanted if wanted in sides else sides
        place = self._folder_of(phase, side)
        side = side or folder_side(place)
        if self.family == "unaligned":
            taken_as = wanted if "direction" in self.o.given or not side else side
            exchanged = taken_as != SOURCES[self.trained] and self.is_two_sided
        else:
            taken_as, exchanged = wanted, False
        images = self._images("single", exchanged, dataroot=place)
        images.dataset.notes.append(self._describe(place, len(images.dataset), side, taken_as, exchanged))
        return images

    def _describe(self, place: str, count: int, side: str, taken_as: str, exchanged: bool) -> str:
        """Return the line that says what was found and which generator translates it."""
        source = OTHER[SOURCES[self.trained]] if exchanged else SOURCES[self.trained]
        last = os.path.basename(os.path.abspath(place))
        name = os.path.relpath(place, self.root) if place != self.root else last
        generator = (exchange_sides(self.generator) if exchanged else self.generator) or "the run"
        line = f"images: {name}, {count} without targets: {generator} translates {source} to {OTHER[source]}"
        if side and side != source:
            return line + f" (though {last} is named like {side})"
        if not side and self.is_two_sided and "direction" not in self.o.given:
            turned = next(direction for direction, letter in SOURCES.items() if letter != taken_as)
            line += f" (--direction {turned}: {OTHER[source]} to {source})"
        return line


def folder_side(path: str) -> str:
    """Return the side, "A" or "B", that the name of a folder or of a file's folder states; "" if it states none."""
    parts = PurePath(os.path.abspath(path)).parts
    parts = parts[:-1] if is_image(path) else parts
    last, above = (*reversed(parts), "", "")[:2]
    if last in PHASES and above in OTHER:
        return above
    match = re.fullmatch(rf"(?:{'|'.join(PHASES)})?_?([AB])(?:\.zip)?", last)
    return match[1] if match else ""


def _holds_images(path: str) -> bool:
    return is_image(path) or (is_folder(path) and len(list_files(path)) > 0)


def _add_crop_note(dataset: BaseDataset) -> None:
    """Note that images are cut at a random place, unless they are scaled to the size of the crop."""
    o, steps = dataset.o, dataset.o.preprocess.split("_and_")
    whole = "fixsize" in steps or ("resize" in steps and o.load_size == o.crop_size)
    if not whole and {"crop", "patch", "trim"} & set(steps):
        said = f"note: --preprocess {o.preprocess} cuts {o.crop_size} out of each image at a random place"
        dataset.notes.append(said)


def _add_content_notes(dataset: BaseDataset, is_pairs: bool) -> None:
    """Note that images seem to be results of an earlier test, or, for a model that takes no pairs, pairs A|B."""
    paths: Any = getattr(dataset, "paths", ())
    number = min(len(paths), MAX_LOOKED_AT)
    if labels := result_labels(PurePath(paths[place]).stem for place in range(number)):
        said = f"note: these seem to be results of a test, of which all of {', '.join(labels)} are translated"
        dataset.notes.append(f"{said}; give a folder of one kind, such as test.py --results_only {labels[0]} writes")
    crop, may_be_pairs = to_size(dataset.o.crop_size), dataset.sides == "A" and not is_pairs and number > 0
    is_square = crop.width == crop.height and "resize" in dataset.o.preprocess
    if may_be_pairs and is_square and twice_as_wide(paths, dataset.o.max_image_pixels):
        dataset.notes.append("note: these images are twice as wide as high, like pairs A|B; each is translated whole")


def _add_size_note(dataset: BaseDataset) -> None:
    """Note that images are scaled to the default size, if there is no options.json that says how large they were."""
    o = dataset.o
    is_told = o.remembered or {"load_size", "crop_size", "preprocess", "native"} & o.given
    if not is_told and "resize" in o.preprocess:
        said = "note: weights alone do not say how large their images were: each is scaled to {}x{}"
        dataset.notes.append(f"{said.format(*to_size(o.crop_size))} (--crop_size N; --native keeps its size)")
