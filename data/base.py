"""The contract of a data set: numbered samples, each a pure function of (seed, epoch, index)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import Dataset

from data.images import is_readable, list_files, open_image
from data.transforms import Preprocess
from util.contract import check_length, check_sample, lacking
from util.errors import DataError
from util.inventory import Inventory
from util.seeding import seeded

Sample = dict[str, Any]  # "A", "B": (C, H, W) float in [-1, 1]; "path_A", "path_B": file names; "label": int


@dataclass(frozen=True)
class Spec:
    """What a data set says of its images; height and width are those of its first sample, in pixels."""

    input_nc: int
    output_nc: int
    height: int
    width: int
    classes: tuple[str, ...] = ()


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
        self.preprocess = Preprocess(o, self.paired, self.sides)
        # channels of the folders' A and B sides, which --direction BtoA exchanges
        self.channels = (o.input_nc, o.output_nc) if o.direction == "AtoB" else (o.output_nc, o.input_nc)

    def __len__(self) -> int:
        raise lacking(self, "__len__(self)")

    def __getitem__(self, index: int) -> Sample:
        raise lacking(self, "__getitem__(self, index)")

    def spec(self) -> Spec:
        """Return the channels and the size of its images, read off the first sample."""
        check_length(self)
        with seeded(0):  # whatever it draws, the run's own generators stay untouched
            sample = self[0]
        check_sample(self, sample)
        height, width = sample["A"].shape[1:]
        return Spec(self.o.input_nc, self.o.output_nc, height, width)

    def files(self, *parts: str) -> list[str]:
        """Return the sorted image files under dataroot/parts; DataError if there is no folder or no image in it."""
        folder = str(Path(self.o.dataroot, *parts))
        found = self.listed(folder)
        if not found:
            raise DataError("folder", folder, *_what_is_there(folder, self.o.dataroot, "/".join(parts)))
        limit = self.o.max_dataset_size
        return found if limit >= len(found) else found[: int(limit)]

    def listed(self, folder: str) -> list[str]:
        """Return the sorted image files under a folder, and take them into the inventory."""
        found, sizes = list_files(folder)
        self.inventory.add(found, sizes, self.o.dataroot)
        return found

    @cached_property
    def inventory(self) -> Inventory:
        """The files it listed, by which a continued run knows that they are still the same."""
        return Inventory()

    def read(self, path: str, channels: int):
        """Return the picture in a file as a PIL image of 1 (grey) or 3 (RGB) channels, upright."""
        return open_image(path, channels)


def _what_is_there(folder: str, dataroot: str, wanted: str) -> tuple[str, str]:
    """Return (why, remedy) for a folder without images: what it holds, or what stands where it should be."""
    root = Path(dataroot)
    layout = f"expected images in {wanted or 'it'}; see --dataroot, --phase and --dataset_mode"
    if not root.is_dir():
        why = "is a file, not a folder" if root.exists() else "there is no such folder"
        return (f"--dataroot {dataroot}: {why}" if str(root) != folder else why), "give --dataroot a folder of images"
    if not Path(folder).is_dir():
        beside = sorted(p.name for p in root.iterdir() if p.is_dir())[:8]
        there = ", ".join(repr(name) for name in beside) or "no folders"
        return f"there is no such folder ({dataroot} has {there})", layout
    names = sorted(p.name for p in Path(folder).iterdir() if p.is_file())
    if not names:
        return "holds no files", layout
    bad = [name for name in names if not is_readable(name)]
    return f"holds no images, but {len(bad)} other files such as {bad[0]!r}", layout
