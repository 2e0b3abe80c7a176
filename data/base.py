"""The contract of a data set: numbered samples, each a pure function of (seed, epoch, index)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import Dataset

from data.decoding.cache import Cache, CacheKey, open_cache
from data.decoding.header_check import HeaderCheck
from data.decoding.images import ReadOptions, open_image
from data.decoding.raster import Picture, Raster, to_array
from data.fingerprint import Inventory
from data.listing.files import dataset_root, size_and_mtime
from data.listing.layouts import list_images
from data.listing.manifest import is_manifest
from data.listing.paths import Paths
from data.ranges import RangeProbe, find_ranges
from data.transforms import Preprocess
from registry.contract import check_length, check_sample, missing_method_error
from util.errors import DataError, UserError
from util.seeding import fork_rng

MAX_REPLACEMENT_TRIES = 100  # at most so many pictures are tried in place of one that cannot be used
Sample = dict[str, Any]  # "A", "B": (C, H, W) float in [-1, 1]; "path_A", "path_B": file names; "label": int


@dataclass(frozen=True)
class Spec:
    """What a data set says of its images; height and width are those of its first sample, in pixels."""

    input_nc: int
    output_nc: int
    height: int
    width: int
    classes: tuple[str, ...] = ()
    range_A: str = ""  # which numbers of its files become -1 and 1, as the flags of these names have it
    range_B: str = ""


class BaseDataset(Dataset):
    """A data set. Subclasses define __init__(o), __len__ and __getitem__(index) -> Sample.

    Inside __getitem__ the generators of random, numpy and torch are already seeded for (seed, epoch, index): draw
    from them freely. A is the source and B the target: `--direction` is dealt with here.
    """

    defaults: ClassVar[dict[str, Any]] = {}  # its own defaults for flags that others own
    paired: ClassVar[bool] = False  # whether B is the true translation of A, so that they can be compared
    sides: ClassVar[str] = ""  # of A and B, those it hands to preprocess by name, for --augment_A and --augment_B

    class Options:
        """Its own flags; subclasses make this a dataclass of option() fields."""

    def __init__(self, o: Any):
        self.o = o
        self.preprocess, self.read_options = Preprocess(o, self.paired, self.sides), ReadOptions.from_options(o)
        # channels of the folders' A and B sides, which --direction BtoA exchanges
        self.side_order = "AB" if o.direction == "AtoB" else "BA"  # what the folders' A and B are to the model
        self.channels = (o.input_nc, o.output_nc) if o.direction == "AtoB" else (o.output_nc, o.input_nc)

    def __len__(self) -> int:
        raise missing_method_error(self, "__len__(self)")

    def __getitem__(self, index: int) -> Sample:
        raise missing_method_error(self, "__getitem__(self, index)")

    def spec(self) -> Spec:
        """Return the channels and the size of its images, read off the first sample, and the range of their values."""
        check_length(self)
        self.check_headers()
        tries = MAX_REPLACEMENT_TRIES if self.o.on_bad_image == "skip" else 1
        # whatever it draws, the run's own generators stay untouched
        with RangeProbe(self.preprocess) as first, fork_rng(0):
            sample, _ = load_sample(self, 0, tries)
        if isinstance(sample, UserError):
            raise sample
        ranges = find_ranges(self, first, lambda index: load_sample(self, index, tries))
        if self.o.isTrain:
            recipe = (self.preprocess.steps, self.preprocess.load_size, self.preprocess.crop_size, self.read_options)
            self.cache = open_cache(self.o, 2 * len(self), recipe)
        check_sample(self, sample)
        height, width = sample["A"].shape[1:]
        return Spec(self.o.input_nc, self.o.output_nc, height, width, (), *ranges)

    def files(self, *parts: str) -> Paths:
        """Return the sorted image files under dataroot/parts; DataError if there is no folder or no image in it."""
        return self.register_files(list_images(str(Path(self.root, *parts)), self.root, self.o))[0]

    def register_files(self, *sides: Paths) -> list[Paths]:
        """Return lists of files as far as --max_dataset_size goes; they join the inventory and the start-up check.

        Several are sides of pairs, of one length.
        """
        for paths in sides:
            self.inventory.add(paths, paths.sizes, self.root)
        limited = [paths[: int(min(len(paths), self.o.max_dataset_size))] for paths in sides]
        self.header_groups.append(limited)
        return limited

    @cached_property
    def root(self) -> str:
        """The folder its folders lie in: dataroot, in a zip file the one folder that holds all, a manifest's folder."""
        root = str(Path(self.o.dataroot))
        return str(Path(root).parent) if is_manifest(root) else dataset_root(root, self.o.phase)

    @cached_property
    def notes(self) -> list[str]:
        """What people should know of its files, a line each."""
        return []

    @cached_property
    def header_groups(self) -> list[list[Paths]]:
        """The files whose headers are looked at before the first step; sides of pairs together."""
        return []

    def check_headers(self) -> None:
        """Look at the headers of all files before a training, once; DataError for those that are no pictures."""
        if self.header_check is None and self.o.isTrain:
            self.header_check = HeaderCheck(
                self.header_groups, self.root, self.o.on_bad_image == "skip", self.o.max_image_pixels
            )
            self.header_check.start()

    header_check: HeaderCheck | None = None
    cache: Cache | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "header_check"}  # its threads stay here

    @cached_property
    def inventory(self) -> Inventory:
        """The files it listed, by which a continued run knows that they are still the same."""
        return Inventory()

    def read(self, path: str, channels: int) -> Picture:
        """Return the picture in a file, upright: a PIL image (L or RGB) if of 8 bits a channel, else a Raster."""
        return open_image(path, channels, self.read_options)

    def load_image(self, path: str, channels: int) -> Picture:
        """Return the picture in a file as `read` does, or, from a cache, already as large as before the crop."""
        return self.load_images([(path, channels)], lambda: [self.read(path, channels)])[0]

    def load_images(self, requests: Sequence[tuple[str, int]], read_all: Callable[[], list[Picture]]) -> list[Picture]:
        """Return the pictures that `read_all` reads, one for each (path, channels); with a --cache, before the crop."""
        if self.cache is None:
            return read_all()
        keys = [
            CacheKey(path, f"{i} of {len(requests)} in {channels}", *size_and_mtime(path))
            for i, (path, channels) in enumerate(requests)
        ]
        arrays = [array for key in keys if (array := self.cache.get(key)) is not None]
        if len(arrays) < len(requests):
            arrays = [to_array(self.preprocess.scaled(picture)) for picture in read_all()]
            for key, array in zip(keys, arrays, strict=True):
                self.cache.put(key, array)
        return [Raster(array) for array in arrays]


def load_sample(dataset: BaseDataset, index: int, tries: int = 1) -> tuple[Sample | UserError, list[UserError]]:
    """Return sample `index`, or the error it ends with, and what kept earlier ones from being made.

    A picture that cannot be used is replaced by the next one in order, up to so many tries.
    """
    failed: list[UserError] = []
    for step in range(min(len(dataset), tries)):
        try:
            return dataset[(index + step) % len(dataset)], failed
        except DataError as problem:
            if problem.args[0] != "image":
                return problem, failed
            failed.append(problem)
    return failed.pop(), failed
