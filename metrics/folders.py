"""Evaluate the images of two folders: pairs by name, sets whole, classes by sub-folder or name."""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.decoding.header_check import count_unused_frames
from data.decoding.images import open_image
from data.decoding.raster import to_array
from data.joined_pairs import fits_pair, proportions
from data.listing.files import is_folder, list_files
from data.listing.paths import PHASES
from data.ranges import SMALL_RANGE_FRACTION
from metrics.evaluation import Evaluation
from serialization import rank_exchange
from util import ranks
from util.errors import DataError, count_text
from util.size import Size
from util.value_range import ValueRange, dtype_range

BATCH = 16  # images of one size that are evaluated at once
RESULT = re.compile(r".*_(real|fake|rec|idt)(_.+)?")  # what test.py calls all of its images
MAX_TESTS_SHOWN = 3
GENERATED = re.compile(r"(?P<class>.+)_\d+(_fake)?")  # what test.py calls the images that it generates of a class


@dataclass
class Images:
    """The image files of a side.

    files: {name: path}; a name is the path below the folder without suffix and label, so that 1.jpg and 1_fake_B.png
    are a pair. labels: {name: number of its class}, empty without classes. value_range: which values become -1 and 1 in
    files of its dtype ("": of any); others have their full range. least, most: the limits of the values read so
    far, in [-1, 1]. several_frames: the files read so far of which only the first frame counts.
    """

    folder: str
    files: dict[str, str]
    labels: dict[str, int] = field(default_factory=dict)
    value_range: ValueRange | None = None
    least: float = 1.0
    most: float = -1.0
    several_frames: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, name: str) -> Tensor:
        """Return an image as `read_image` does, and keep what `value_notes` and `frame_notes` tell."""
        path = self.files[name]
        image = read_image(path, self.value_range)
        self.least, self.most = min(self.least, float(image.min())), max(self.most, float(image.max()))
        if count_unused_frames(path, {3}):
            self.several_frames.add(path)
        return image

    def value_notes(self) -> list[str]:
        """Return a note if the values that were read span little of their range."""
        share = (self.most - self.least) / 2
        if not 0 <= share < SMALL_RANGE_FRACTION:
            return []
        return [
            f"the values in {self.folder} span {share:.1%} of the range of their type, so all errors count as small"
            f" and metrics look good; --range LO,HI says which values are black and white"
        ]

    def frame_notes(self) -> list[str]:
        """Return a note if files that were read hold several frames."""
        if not self.several_frames:
            return []
        count = f"{len(self.several_frames)} of {count_text(len(self), 'image')} in {self.folder}"
        return [f"{count} hold several frames, such as {min(self.several_frames)}: the first is used"]


def list_side(folder: str, labels: Sequence[str] = (), of_test: bool = False) -> Images:
    """Return the images of a folder and its sub-folders; raise DataError if there are none, or two of a name.

    labels: of files called NAME_LABEL, or NAME_LABEL_1, NAME_LABEL_2, ..., only those of the first of these labels that
    there is count. of_test: whether test.py wrote the folder, so that one of them must be there if any label is.
    """
    if not is_folder(folder):
        raise DataError("folder", folder, "does not exist", "check the path")
    paths = [str(path) for path in list_files(folder)]
    patterns = [re.compile(rf"(.*)_{label}(_\d+)?") for label in labels]
    labelled = ([path for path in paths if pattern.fullmatch(PurePath(path).stem)] for pattern in patterns)
    pattern, chosen = next(((p, found) for p, found in zip(patterns, labelled, strict=True) if found), (None, paths))
    others = [path for path in paths if not RESULT.fullmatch(PurePath(path).stem)]
    if of_test and not pattern and len(others) < len(paths):
        why = f"holds results of test.py, and none is named NAME_{labels[0]}"
        raise DataError("folder", folder, why, "give the folder images/ of a whole test, or another --side")
    parts = [PurePath(path).relative_to(folder).parts for path in chosen]
    if pattern:
        _check_one_test(folder, parts)
    _check_one_side(folder, parts)
    files: dict[str, str] = {}
    for path in chosen:
        below = PurePath(path).relative_to(folder)
        found = pattern.fullmatch(below.stem) if pattern else None
        name = (below.parent / (found[1] + (found[2] or "") if found else below.stem)).as_posix()
        if name in files:
            why = f"has the name of {PurePath(files[name]).relative_to(folder)}"
            raise DataError("image", str(below), why, "keep one of them in the folder")
        files[name] = path
    if not files:
        raise DataError("folder", folder, "holds no images", "check the path")
    if pattern and not of_test and len(others) > len(files):
        why = f"holds {len(files)} images NAME_{labels[0]}, and others without such a label, such as {others[0]}"
        raise DataError("folder", folder, why, "keep the images of a test and others in folders of their own")
    return Images(folder, files)


def _check_one_test(folder: str, parts: Sequence[tuple[str, ...]]) -> None:
    """Raise DataError if a folder holds the results of several tests; parts: of each image's path below the folder."""
    found = {"/".join(each[: each.index("images")]) for each in parts if "images" in each[:-1]}
    tests = sorted(name for name in found if Path(folder, name, "metrics.json").is_file())
    if len(tests) > 1:
        why = (
            f"holds {len(tests)} tests: {', '.join(tests[:MAX_TESTS_SHOWN])}{', ...' * (len(tests) > MAX_TESTS_SHOWN)}"
        )
        raise DataError("folder", folder, why, f"give the folder of one of them, such as {Path(folder, tests[0])}")


def _check_one_side(folder: str, parts: Sequence[tuple[str, ...]]) -> None:
    """Raise DataError if a folder holds both sides of unpaired data; parts: of each image's path below the folder."""
    tops = {each[0] for each in parts if len(each) > 1}
    for phase in PHASES:
        if {f"{phase}A", f"{phase}B"} <= tops:
            why = f"holds the images of two sides, {phase}A and {phase}B"
            raise DataError("folder", folder, why, f"give one of them, such as {Path(folder, f'{phase}B')}")


def check_apart(real: Images, fake: Images) -> None:
    """Raise DataError if a file is among the real images and among the generated ones."""
    known = {os.path.realpath(path) for path in real.files.values()}
    if both := [path for path in fake.files.values() if os.path.realpath(path) in known]:
        why = f"holds {count_text(len(both), 'image')} that {real.folder} holds too, such as {both[0]}"
        raise DataError("folder", fake.folder, why, "give generated images and real ones a folder each")


def add_classes(real: Images, fake: Images, stems: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Give the images the classes that the first sub-folders of the real ones name; return these in order.

    A generated image has the class of its sub-folder, or that in its name: CLASS_0001_fake.png. stems: {what its name
    has for CLASS: class}, which differ for a class that is no file name, such as a/b; None if that is not known.
    Where a real image lies in no sub-folder, or a generated one names none of the classes, there are no classes.
    """
    first = {name: PurePath(name).parts[0] if "/" in name else "" for name in real.files}
    if "" in first.values():
        return ()
    classes = tuple(sorted(set(first.values())))
    numbers = {word: number for number, word in enumerate(classes)}
    made = {name: _class_in(name, numbers, stems) for name in fake.files}
    if "" in made.values():
        return ()
    real.labels = {name: numbers[word] for name, word in first.items()}
    fake.labels = {name: numbers[word] for name, word in made.items()}
    return classes


def class_notes(real: Images, fake: Images) -> list[str]:
    """Return a note if the generated images seem to be of one class, and the real ones are of several."""
    classes, name = {PurePath(each).parts[0] for each in real.files if "/" in each}, Path(fake.folder).name
    if real.labels or name not in classes - {"images"} or len(classes) == 1:
        return []
    return [f"{name} is a class of {real.folder}, whose images all count; {Path(real.folder, name)} holds its own"]


def _class_in(name: str, classes: Mapping[str, int], stems: Mapping[str, str] | None) -> str:
    """Return the class of a generated image; "" if it is none of these."""
    path = PurePath(name)
    found = GENERATED.fullmatch(path.name)
    stem = found["class"] if found else ""
    named = stem if stems is None else stems.get(stem, "")
    folder = stem if stems and stem not in stems.values() else ""  # of the real images of a class that is no file name
    words = (path.parts[0] if len(path.parts) > 1 else "", named, folder if named else "")
    return next((word for word in words if word in classes), "")


def evaluate_sides(evaluation: Evaluation, real: Images, fake: Images, size: tuple[int, int] | None) -> list[str]:
    """Update an evaluation with two sides, and return notes on what does not count or is resized.

    size: (width, height) of all images; None keeps them, but real images become as large as the generated ones where
    these have one size and no metric is of pairs. Raises DataError for images that cannot be read, have no partner or
    not its size.
    """
    notes, paired = [], bool(evaluation.paired)
    if paired:
        common = [name for name in fake.files if name in real.files]
        if not common:
            example = next(iter(fake.files))
            why = f"no image has the name of one in {real.folder}, such as {example}"
            raise DataError("folder", fake.folder, why, "name pairs alike, or choose metrics of sets")
        alone = [len(side) - len(common) for side in (real, fake)]
        if any(alone):
            notes.append(f"{alone[0]} real and {alone[1]} generated images have no partner; metrics of pairs omit them")
        pairs, sizes = _only(evaluation, evaluation.paired), []
        for name in common[ranks.rank() :: ranks.world_size()]:
            target, made = (side.read(name) for side in (real, fake))
            sizes.append((_size(target), _size(made)))
            if target.shape != made.shape and not size:
                why = f"is not as large as its partner: {_size(made)} and {_size(target)}"
                joined = _joined_hint(real, fake, sizes)
                remedy = f"{joined}; else resize both with --size WxH" if joined else "resize both with --size WxH"
                raise DataError("image", fake.files[name], why, remedy)
            target, made = (resize(image, size) if size else image for image in (target, made))
            pairs.update(target, made, names=[name])
        sizes = _all_sizes(sizes)
        notes += _proportion_notes(real, fake, [(t, m) for t, m in sizes if not _has_proportions(t, [m])])
    sets = [name for name in evaluation.metrics if name not in evaluation.paired]
    if sets:
        notes += _evaluate_sets(_only(evaluation, sets), real, fake, size)
    _merge_processes(evaluation)
    notes += [*real.value_notes(), *real.frame_notes(), *fake.frame_notes()]  # a generator may make one colour
    return list(dict.fromkeys(notes))


def _merge_processes(evaluation: Evaluation) -> None:
    """Let the evaluation of process 0 hold what all processes have collected."""
    if ranks.world_size() == 1:
        return
    if parts := rank_exchange.gather({"rows": evaluation.partial(), "values": evaluation.values}):
        evaluation.merge([part["rows"] for part in parts])
        for part in parts:
            evaluation.values |= part["values"]


def _evaluate_sets(evaluation: Evaluation, real: Images, fake: Images, size: tuple[int, int] | None) -> list[str]:
    notes: list[str] = []
    sizes: dict[Size, None] = {}
    for is_own, images, labels in _batches(fake):
        sizes[_size(images)] = None
        if is_own:
            evaluation.update(None, resize(images, size) if size else images, labels)
    target = size or (next(iter(sizes)) if len(sizes) == 1 else None)
    if len(sizes) > 1 and not size:
        notes.append(f"generated images have {len(sizes)} sizes; --size WxH makes them and the real ones alike")
    resized, others = 0, []
    for is_own, images, labels in _batches(real):
        if not _has_proportions(_size(images), sizes):
            others += [(_size(images), next(iter(sizes)))] * len(images)
        if target and (images.shape[3], images.shape[2]) != target:
            resized += 0 if size else len(images)
            images = resize(images, target)
        if is_own:
            evaluation.update(images, None, labels)
    if resized and target:
        what = f"{count_text(resized, 'real image')} of {len(real)} resized to {target[0]}x{target[1]}"
        notes.append(f"{what}, the size of the generated ones")
    return notes + _proportion_notes(real, fake, others)


def _size(images: Tensor) -> Size:
    return Size(images.shape[3], images.shape[2])


def _all_sizes(own: Sequence[tuple[Size, Size]]) -> list[tuple[Size, Size]]:
    """Return in process 0 the sizes of the pairs of all processes, in the order of the pairs; [] in the others."""
    each = rank_exchange.gather([(target.width, target.height, made.width, made.height) for target, made in own])
    rows = [row for turn in zip_longest(*each) for row in turn if row]
    return [(Size(*row[:2]), Size(*row[2:])) for row in rows]


def _has_proportions(size: Size, others: Iterable[Size]) -> bool:
    """Return whether an image's width / height is, to a pixel, between the least and the greatest of others."""
    return fits_pair(Size(2 * size.width, size.height), _limits(others))


def _limits(sizes: Iterable[Size]) -> tuple[float, float]:
    known = proportions(list(sizes))
    return min(known), max(known)


def _proportion_notes(real: Images, fake: Images, sizes: Sequence[tuple[Size, Size]]) -> list[str]:
    """Return a note if there are real images of other proportions than the generated ones: (real, generated) sizes."""
    if not sizes:
        return []
    what = f"{count_text(len(sizes), 'real image')} of {len(real)}, such as one of {sizes[0][0]}"
    hint = _joined_hint(real, fake, sizes)
    text = f"{what}, differ from the generated ones ({sizes[0][1]}) in proportions, and are compared distorted"
    return [f"{text}; {hint}" if hint else text]


def _joined_hint(real: Images, fake: Images, sizes: Sequence[tuple[Size, Size]]) -> str:
    """Return what to do if the real images are pairs A|B: each half has the generated one's proportions; else ""."""
    if not all(fits_pair(target, _limits([made])) for target, made in sizes):
        return ""
    own = any(
        "_fake_" in path and Path("_real_".join(path.rsplit("_fake_", 1))).exists() for path in fake.files.values()
    )
    where = shlex.quote(fake.folder) if own else "a folder of the targets alone"
    return f"if {real.folder} holds pairs A|B, give --real {where}"


def _batches(side: Images) -> Iterator[tuple[bool, Tensor, Tensor | None]]:
    """Yield images of one size, (N, 3, H, W) in [-1, 1], with the numbers of their classes.

    Of several processes each measures its own of these batches, which are those of one process.
    """
    held: list[Tensor] = []
    names: list[str] = []
    numbers = count()

    def batch() -> tuple[bool, Tensor, Tensor | None]:
        labels = torch.tensor([side.labels[name] for name in names]) if side.labels else None
        return next(numbers) % ranks.world_size() == ranks.rank(), torch.cat(held), labels

    for name in side.files:
        image = side.read(name)
        if held and (len(held) == BATCH or held[0].shape != image.shape):
            yield batch()
            held, names = [], []
        held, names = [*held, image], [*names, name]
    if held:
        yield batch()


def read_image(path: str, value_range: ValueRange | None = None) -> Tensor:
    """Return an image as (1, 3, H, W) in [-1, 1], in sRGB; grey is repeated. Raise DataError if it cannot be read.

    value_range: which values become -1 and 1, if the file has its dtype, or that is "".
    """
    array = to_array(open_image(path, 3))
    kind = array.dtype.name
    if value_range is None or value_range.dtype not in ("", kind):
        value_range = dtype_range(kind)
    if value_range is None:
        raise DataError("image", path, f"has values of {kind}, whose range is not known", "give --range LO,HI")
    return torch.from_numpy(value_range.normalise(np.ascontiguousarray(array))).permute(2, 0, 1)[None]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images resized to (width, height), bicubic with antialiasing."""
    if images.shape[2:] == (size[1], size[0]):
        return images
    return F.interpolate(images, (size[1], size[0]), mode="bicubic", antialias=True).clamp(-1, 1)


def _only(evaluation: Evaluation, names: Sequence[str]) -> Evaluation:
    """Return an evaluation that updates these of another's metrics, and keeps the values of images in it."""
    part = Evaluation((), evaluation.settings)
    part.metrics = {name: evaluation.metrics[name] for name in names}
    part.values = evaluation.values
    return part
