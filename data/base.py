"""The contract of a data set: numbered samples, each a pure function of (seed, epoch, index)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import Dataset

from data.decoding.cache import Cache, Origin, open_cache
from data.decoding.header_check import Check
from data.decoding.images import Reading, open_image
from data.decoding.raster import Picture, Raster, pixels
from data.fingerprint import Inventory
from data.listing.files import identity, start_of
from data.listing.layouts import listed
from data.listing.manifest import is_manifest
from data.listing.paths import Paths
from data.ranges import Seen, find_ranges
from data.transforms import Preprocess
from registry.contract import check_length, check_sample, lacking
from util.errors import DataError, UserError
from util.seeding import seeded

NEIGHBOURS = 100  # at most so many pictures are tried in place of one that cannot be used
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
        self.preprocess, self.reading = Preprocess(o, self.paired, self.sides), Reading.of(o)
        # channels of the folders' A and B sides, which --direction BtoA exchanges
        self.order = "AB" if o.direction == "AtoB" else "BA"  # what the folders' A and B are to the model
        self.channels = (o.input_nc, o.output_nc) if o.direction == "AtoB" else (o.output_nc, o.input_nc)

    def __len__(self) -> int:
        raise lacking(self, "__len__(self)")

    def __getitem__(self, index: int) -> Sample:
        raise lacking(self, "__getitem__(self, index)")

    def spec(self) -> Spec:
        """Return the channels and the size of its images, read off the first sample, and the range of their values."""
        check_length(self)
        self.look_through()
        tries = NEIGHBOURS if self.o.on_bad_image == "skip" else 1
        with Seen(self.preprocess) as first, seeded(0):  # whatever it draws, the run's own generators stay untouched
            sample, _ = usable(self, 0, tries)
        if isinstance(sample, UserError):
            raise sample
        ranges = find_ranges(self, first, lambda index: usable(self, index, tries))
        if self.o.isTrain:
            recipe = (self.preprocess.words, self.preprocess.load, self.preprocess.crop, self.reading)
            self.cache = open_cache(self.o, 2 * len(self), recipe)
        check_sample(self, sample)
        height, width = sample["A"].shape[1:]
        return Spec(self.o.input_nc, self.o.output_nc, height, width, (), *ranges)

    def files(self, *parts: str) -> Paths:
        """Return the sorted image files under dataroot/parts; DataError if there is no folder or no image in it."""
        return self.taken(listed(str(Path(self.root, *parts)), self.root, self.o))[0]

    def taken(self, *sides: Paths) -> list[Paths]:
        """Return lists of files as far as --max_dataset_size goes; they join the inventory and the start-up check.

        Several are sides of pairs, of one length.
        """
        for paths in sides:
            self.inventory.add(paths, paths.sizes, self.root)
        used = [paths[: int(min(len(paths), self.o.max_dataset_size))] for paths in sides]
        self.checked.append(used)
        return used

    @cached_property
    def root(self) -> str:
        """The folder its folders lie in: dataroot, in a zip file the one folder that holds all, a manifest's folder."""
        root = str(Path(self.o.dataroot))
        return str(Path(root).parent) if is_manifest(root) else start_of(root, self.o.phase)

    @cached_property
    def notes(self) -> list[str]:
        """What people should know of its files, a line each."""
        return []

    @cached_property
    def checked(self) -> list[list[Paths]]:
        """The files whose headers are looked at before the first step; sides of pairs together."""
        return []

    def look_through(self) -> None:
        """Look at the headers of all files before a training, once; DataError for those that are no pictures."""
        if self.check is None and self.o.isTrain:
            self.check = Check(self.checked, self.root, self.o.on_bad_image == "skip", self.o.max_image_pixels)
            self.check.begin()

    check: Check | None = None
    cache: Cache | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "check"}  # its threads stay here

    @cached_property
    def inventory(self) -> Inventory:
        """The files it listed, by which a continued run knows that they are still the same."""
        return Inventory()

    def read(self, path: str, channels: int) -> Picture:
        """Return the picture in a file, upright: a PIL image (L or RGB) if of 8 bits a channel, else a Raster."""
        return open_image(path, channels, self.reading)

    def picture(self, path: str, channels: int) -> Picture:
        """Return the picture in a file as `read` does, or, from a cache, already as large as before the crop."""
        return self.scaled([(path, channels)], lambda: [self.read(path, channels)])[0]

    def scaled(self, wanted: Sequence[tuple[str, int]], make: Callable[[], list[Picture]]) -> list[Picture]:
        """Return the pictures that `make` reads, one for each (path, channels); with a --cache, before the crop."""
        if self.cache is None:
            return make()
        origins = [
            Origin(path, f"{i} of {len(wanted)} in {channels}", *identity(path))
            for i, (path, channels) in enumerate(wanted)
        ]
        kept = [array for origin in origins if (array := self.cache.get(origin)) is not None]
        if len(kept) < len(wanted):
            kept = [pixels(self.preprocess.scaled(picture)) for picture in make()]
            for origin, array in zip(origins, kept, strict=True):
                self.cache.put(origin, array)
        return [Raster(array) for array in kept]


def usable(dataset: BaseDataset, index: int, tries: int = 1) -> tuple[Sample | UserError, list[UserError]]:
    """Return sample `index`, or the error it ends with, and what kept earlier ones from being made.

    A picture that cannot be used is replaced by the next one in order, up to so many tries.
    """
    bad: list[UserError] = []
    for step in range(min(len(dataset), tries)):
        try:
            return dataset[(index + step) % len(dataset)], bad
        except DataError as problem:
            if problem.args[0] != "image":
                return problem, bad
            bad.append(problem)
    return bad.pop(), bad
