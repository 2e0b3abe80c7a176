"""The base class of datasets: numbered samples, each a pure function of (seed, epoch, index)."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from data.batches import join_samples
from data.decoding.cache import Cache, CacheKey, open_cache
from data.decoding.header_check import HeaderCheck
from data.decoding.images import REPLACE_REMEDY, ReadOptions, open_image
from data.decoding.raster import Picture, Raster, to_array
from data.listing.columns import Columns
from data.listing.files import dataset_root, find_storage, is_demo, size_and_mtime
from data.listing.fingerprint import Inventory
from data.listing.layouts import list_images
from data.listing.manifest import is_manifest
from data.listing.paths import Paths
from data.listing.shards import Shards
from data.listing.unused import nested_notes, unused_notes
from data.names.class_names import target_notes
from data.notes.enlargement import enlargement_notes
from data.notes.fitting import ask, naming_models
from data.notes.label_maps import label_map_notes
from data.ranges import RangeProbe, find_ranges
from data.shards import settings as shard_settings
from data.spec import Spec as Spec  # for plug-ins
from data.transforms import Preprocess
from registry.contract import check_length, check_sample, missing_method_error
from util.errors import DataError, OptionError, UserError, count_text
from util.seeding import fork_rng

MAX_REPLACEMENT_TRIES = 100  # images tried for one sample at most, if earlier ones cannot be used
Sample = dict[str, Any]  # "A", "B": (C, H, W) float in [-1, 1]; "path_A", "path_B": file names; "label": int


class BaseDataset(Dataset):
    """Base class of datasets; subclasses define __init__(o), __len__ and __getitem__(index) -> Sample.

    Inside __getitem__ the generators of random, numpy and torch are already seeded for (seed, epoch, index): draw
    from them freely. A is the source and B the target; the dataset applies `--direction` itself.
    """

    defaults: ClassVar[dict[str, Any]] = {}  # defaults for flags that are declared elsewhere
    paired: bool = False  # whether B is the true translation of A, so that metrics can compare them
    sides: ClassVar[str] = ""  # sides passed to preprocess by name, which --augment_A and --augment_B need
    stacks_inputs: ClassVar[bool] = False  # whether A may be several images, --inputs

    class Options:
        """Flags of this dataset; subclasses make this a dataclass of option() fields."""

    def __init__(self, o: Any):
        self.o = o
        if o.inputs and not self.stacks_inputs:
            why = f"{o.dataset_mode} reads one image for A, but the inputs are {o.inputs}"
            remedy = "use --dataset_mode aligned (--model pix2pix)" if o.isTrain else "omit --dataset_mode and --model"
            raise OptionError("option", "--inputs", why, remedy)
        self.preprocess, self.read_options = Preprocess(o, self.paired, self.sides), ReadOptions.from_options(o)
        # the folders' sides A and B, which --direction BtoA exchanges: their names in the model and their channels;
        # of several inputs A1, A2, ..., B
        self.side_order: Sequence[str] = "AB" if o.direction == "AtoB" else "BA"
        own = (o.input_nc, o.output_nc)
        self.channels: tuple[int, ...] = own if o.direction == "AtoB" else own[::-1]

    def __len__(self) -> int:
        raise missing_method_error(self, "__len__(self)")

    def __getitem__(self, index: int) -> Sample:
        raise missing_method_error(self, "__getitem__(self, index)")

    def collate(self, samples: list[Sample]) -> dict[str, Any]:
        """Return samples as a batch; plug-ins override it for values whose shapes differ between samples.

        The batch has an A for each sample, in order. Tensors, lists and tuples hold an entry for each sample;
        dictionaries and dataclasses hold such values. Random generators are seeded for each batch.
        """
        return join_samples(samples)

    def spec(self) -> Spec:
        """Return channels and size of the images, taken from the first sample, and the range of their values."""
        check_length(self)
        self._check_ranges()
        self.check_headers()
        tries = MAX_REPLACEMENT_TRIES if self.o.on_bad_image == "skip" else 1
        # a sample draws random numbers; the generators of the run must not change
        with RangeProbe(self.preprocess, keep_values=True) as first, fork_rng(0):
            sample, _ = load_sample(self, 0, tries)
        if isinstance(sample, UserError):
            raise sample
        ranges = find_ranges(self, first, lambda index: load_sample(self, index, tries))
        if self.o.isTrain:
            recipe = (self.preprocess.steps, self.preprocess.load_size, self.preprocess.crop_size, self.read_options)
            self.cache = open_cache(self.o, len(self.channels) * len(self), recipe)
        check_sample(self, sample)
        input_nc, output_nc = (self._count_channels(sample, side) for side in "AB")
        self.notes += self.file_notes()
        height, width = sample["A"].shape[1:]
        # in a test the model is built for the run's classes, whether or not the images have labels
        classes = () if self.o.isTrain else tuple(getattr(self.o, "run_classes", ()))
        columns = self.columns.kinds if self.columns else {}
        return Spec(input_nc, output_nc, height, width, classes, *ranges, columns=columns)

    def _check_ranges(self) -> None:
        """Raise OptionError unless --range_A has one range, or one for each input."""
        ranges, inputs = len(self.o.range_A.split(";")), sum(side != "B" for side in self.side_order)
        if ranges not in (1, inputs):
            why = f"has {count_text(ranges, 'range')} for {count_text(inputs, 'input')}"
            raise OptionError("option", "--range_A", why, "give one range for all inputs, or one for each")

    def _count_channels(self, sample: Sample, side: str) -> int:
        """Return the channels of a side in a sample, which the flags state for data sets that do not choose them.

        Raises OptionError if the user's flag states another number.
        """
        flag = {"A": "input_nc", "B": "output_nc"}[side]
        own = [nc for name, nc in zip(self.side_order, self.channels, strict=True) if name[0] == side]
        stated = sum(own) or vars(self.o)[flag]  # tests of several inputs may have no B
        shape: Any = getattr(sample.get(side), "shape", ())
        if len(shape) != 3 or shape[0] == stated:
            return stated
        if flag in self.o.given:
            why = f"is {stated}, but {self.o.dataset_mode} gives {side} with {shape[0]}"
            raise OptionError("option", f"--{flag}", why, f"omit it, or give --{flag} {shape[0]}")
        self.notes.append(
            f"note: --{flag} is {shape[0]}, the channels of {side} in the samples of {self.o.dataset_mode}"
        )
        return int(shape[0])

    def files(self, *parts: str) -> Paths:
        """Return the sorted image files under dataroot/parts; raise DataError if there are none."""
        with naming_models(self.o, self.root):
            paths = list_images(str(Path(self.root, *parts)), self.root, self.o)
        return self.register_files(paths)[0]

    def register_files(self, *sides: Paths) -> list[Paths]:
        """Add lists of files to the inventory and the start-up check; return them cut to --max_dataset_size.

        Several lists are the sides of pairs and have the same length.
        """
        self.left_out += [(paths.root, paths.unused) for paths in sides if paths.unused]
        for paths in sides:
            self.inventory.add(paths, paths.sizes, self.root)
        limited = [paths[: int(min(len(paths), self.o.max_dataset_size))] for paths in sides]
        self.header_groups.append(limited)
        return limited

    @cached_property
    def root(self) -> str:
        """The folder of the dataset's folders: dataroot, the top folder in a zip file, or a manifest's folder."""
        root = str(Path(self.o.dataroot))
        return str(Path(root).parent) if is_manifest(root) else dataset_root(root, self.o.phase)

    @cached_property
    def notes(self) -> list[str]:
        """Notes about the files for the user, one line each."""
        return []

    @cached_property
    def questions(self) -> list[str]:
        """Doubts whether the files are what this data set takes them for; such a data set is not suggested."""
        return []

    def ask(self, question: str, is_likely: bool = True) -> None:
        """Add a doubt to the notes, with the models that fit the data, and to the questions if it is likely right.

        question: whether the data are what this data set takes them for; the advice begins with "if not".
        """
        if is_likely:
            self.questions.append(question)
        self.notes.append(ask(self.o, self.root, question))

    def file_notes(self) -> list[str]:
        """Return notes about files that are not used, that are much enlarged, or whose values are easily misread."""
        first = next((paths[0] for group in self.header_groups for paths in group if len(paths)), "")
        if is_demo(first):  # known to be good, and each would be drawn to look at it
            return unused_notes(self.left_out)
        lists = [paths for group in self.header_groups for paths in group]
        about = [*unused_notes(self.left_out), *nested_notes(lists), *target_notes(lists)]
        return [*about, *enlargement_notes(self), *label_map_notes(self)]

    @cached_property
    def left_out(self) -> list[tuple[str, bytes]]:
        """The root and the unused files of each list that the dataset was made from."""
        return []

    @cached_property
    def header_groups(self) -> list[list[Paths]]:
        """The files whose headers are checked before the first step; both sides of pairs form one group."""
        return []

    def check_headers(self) -> None:
        """Check the headers of all files once before training; raise DataError for files that are not images."""
        if self.header_check is None and self.o.isTrain:
            self.header_check = HeaderCheck(
                self.header_groups,
                self.root,
                self.o.on_bad_image == "skip",
                self.o.max_image_pixels,
                self.channels,
            )
            self.header_check.start()

    def input_sample(self, path: str) -> Sample:
        """Return the sample of an input image without a target."""
        A = self.preprocess(self.load_image(path, self.o.input_nc, "A"), path, self.preprocess.draw(), side="A")
        return {"A": A, "path_A": path}

    columns: Columns | None = None  # the further columns of a manifest, in the order of the samples
    header_check: HeaderCheck | None = None
    cache: Cache | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "header_check"}  # threads stay here

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if hasattr(self.o, "shard_cache_gb"):  # a spawned worker has settings of its own
            shard_settings.configure(self.o.cache_dir, self.o.shard_cache_gb)

    def fetch_ahead(self, shard: int) -> None:
        """Begin to download the shard of this number, which the epoch reaches next."""
        storage = find_storage(self.root)
        if isinstance(storage, Shards):
            storage.fetch_ahead(shard)

    def shard_numbers(self) -> np.ndarray | None:
        """Return (N,) the number of the shard that each sample is in, None without shards; an epoch follows it.

        Of data sets whose sides have different numbers of files it is that of the larger side.
        """
        for paths in (each for group in self.header_groups for each in group):
            if len(paths) == len(self) and paths.marks is not None:
                return paths.marks[:, 0]
        return None

    @cached_property
    def inventory(self) -> Inventory:
        """The listed files, by which a resumed run notices changes."""
        return Inventory()

    def read(self, path: str, channels: int) -> Picture:
        """Return the image in a file, upright: a PIL image (L or RGB) for 8 bits per channel, else a Raster."""
        return open_image(path, channels, self.read_options)

    @property
    def joined_channels(self) -> int:
        """The number of channels in which a file that holds both sides is read, before its halves get their own."""
        return 3 if set(self.channels) <= {1, 3} else max(self.channels)

    def file_channels(self, side: str) -> set[int]:
        """Return the numbers of channels that a side's files are read with; of files of A|B, those of both sides."""
        if self.sides == "A":
            return {self.o.input_nc}
        is_joined = sum(map(len, self.header_groups)) != len(self.channels)
        pairs = zip(self.side_order, self.channels, strict=True)
        return {number for name, number in pairs if is_joined or name[0] == side}

    def load_image(self, path: str, channels: int, side: str = "") -> Picture:
        """Return the image in a file as `read` does; with --cache, already scaled as before the crop.

        side: the one that `preprocess` is then called with; without it, a cache is used only if both scale alike.
        """
        return self.load_images([(path, channels)], lambda: [self.read(path, channels)], side)[0]

    def load_images(
        self, requests: Sequence[tuple[str, int]], read_all: Callable[[], list[Picture]], sides: Sequence[str] = ""
    ) -> list[Picture]:
        """Return what `read_all` reads, one image per (path, channels); with --cache, scaled as before the crop.

        sides: one per image, as in `load_image`.
        """
        if self.cache is None or (not sides and self.preprocess.filters["A"] != self.preprocess.filters["B"]):
            return read_all()
        sides = sides or "A" * len(requests)
        names = [self.preprocess.interpolation_suffix(side) for side in sides]
        keys = [
            CacheKey(path, f"{i} of {len(requests)} in {channels}{name}", *size_and_mtime(path))
            for i, ((path, channels), name) in enumerate(zip(requests, names, strict=True))
        ]
        arrays = [array for key in keys if (array := self.cache.get(key)) is not None]
        if len(arrays) < len(requests):
            scaled = (self.preprocess.scaled(*each) for each in zip(read_all(), sides, strict=True))
            arrays = [to_array(picture) for picture in scaled]
            for key, array in zip(keys, arrays, strict=True):
                self.cache.put(key, array)
        return [Raster(array) for array in arrays]


def column_values(columns: Columns | None, index: int) -> dict[str, Any]:
    """Return a sample's values of the further columns of a manifest: tensors and texts, by name."""
    return {
        name: torch.tensor(values[index]) if isinstance(values, np.ndarray) else values[index]
        for name, values in (columns.values if columns else {}).items()
    }


def load_sample(dataset: BaseDataset, index: int, tries: int = 1) -> tuple[Sample | UserError, list[UserError]]:
    """Return sample `index`, or the last error, and the errors of the images that were skipped before it.

    The next image in order replaces one that cannot be used; at most `tries` images are tried.
    """
    failed: list[UserError] = []
    for step in range(min(len(dataset), tries)):
        try:
            return dataset[(index + step) % len(dataset)], failed
        except DataError as problem:
            if problem.args[0] != "image":
                return problem, failed
            failed.append(problem)
    last = failed.pop()
    *what, remedy = last.args
    if remedy == REPLACE_REMEDY and dataset.o.on_bad_image == "stop" and len(dataset) > 1:
        last.args = (*what, f"{remedy}, or use --on_bad_image skip")
    return last, failed
