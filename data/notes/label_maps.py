"""Look at a fixed sample of files for label maps, masks and transparency, and note what reading would do to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data.decoding.decoders import DECODERS, NUMPY_EXTENSIONS, identify
from data.decoding.raster import Raster, to_array
from data.listing.files import open_binary, size_and_mtime
from data.listing.paths import Paths
from data.transforms import range_flag
from util.errors import DataError

SAMPLE_FILES = 16  # of each side, evenly spread
MAX_LABELS = 64  # values of a label map at most
MAX_GREYS = 32  # of a label map that is stored as RGB
MIN_COLOURS = 3  # of label maps in colours; images of two colours may be drawings
MAX_SAMPLED_PIXELS = 1 << 24  # larger files are not read for notes
BYTES_PER_PIXEL = 4  # assumed for files that do not state their size
COARSE_VALUES = 4096  # values that are compared first, because most images have too many
ONE_CHANNEL_MODES = ("1", "L", "P", "I", "F")  # of Pillow; also all that start with I;16
DARK_FRACTION, DARK_LABELS_FRACTION = 0.1, 0.25  # of 8 bits: files that use less of them get a hint


class SideFiles(NamedTuple):
    """Files of one side of a dataset; half: 0 for the left and 1 for the right half of files that hold both sides."""

    files: list[str]
    half: int | None = None


class StoredValues(NamedTuple):
    """The facts about the values in one file; labels: its values if they are few integers of one channel."""

    size: tuple[int, int]
    has_palette: bool = False
    is_label_map: bool = False
    labels: int = 0  # number of values
    is_small: bool = True  # whether it takes little time to read
    has_colours: bool = False  # whether the labels are colours
    loses_indices: bool = False  # whether the luminance of its colours differs from its palette indices
    has_array_alpha: bool = False  # whether it is an array whose fourth channel counts as transparency


def label_map_notes(dataset: Any) -> list[str]:
    """Return notes about palettes, label maps, transparency and dark masks among a dataset's files, one line each."""
    notes = []
    for side, files in _sample_sides(dataset).items():
        looks = _look_at_files(files, dataset.read_options.max_pixels, colours=dataset.o.isTrain)
        notes += [*_palette_note(dataset, side, looks), *_scaling_note(dataset, side, looks)]
        notes += [*_alpha_note(dataset, side, looks), *_dark_note(dataset, side, files, looks)]
    return notes


def _sample_sides(dataset: Any) -> dict[str, SideFiles]:
    """Return some files of each side of a dataset; {} if it does not register them in the order of its sides."""
    lists: list[Paths] = [paths for group in dataset.header_groups for paths in group]
    if dataset.sides == "A":
        return {"A": SideFiles(sample_files(lists))} if lists else {}
    if dataset.sides == "AB" and len(lists) == len(dataset.side_order):
        return {side: SideFiles(sample_files([paths])) for side, paths in zip(dataset.side_order, lists, strict=True)}
    if dataset.sides == "AB" and len(lists) == 1:
        return {side: SideFiles(sample_files(lists), half) for half, side in enumerate(dataset.side_order)}
    return {}


def sample_files(lists: Sequence[Paths]) -> list[str]:
    """Return up to SAMPLE_FILES paths, evenly spread over the lists together."""
    lists = [paths.at_hand for paths in lists]
    ends = np.cumsum([0, *map(len, lists)])
    total = int(ends[-1])
    chosen = sorted({number * (total - 1) // (SAMPLE_FILES - 1) for number in range(SAMPLE_FILES)}) if total else []
    owners = np.searchsorted(ends, chosen, side="right") - 1
    return [lists[owner][index - int(ends[owner])] for owner, index in zip(owners, chosen, strict=True)]


def _look_at_files(files: SideFiles, max_pixels: int, colours: bool) -> dict[str, StoredValues]:
    """Return what the files hold; after the first that is no label map, only palettes are looked for.

    colours: whether label maps in colours are looked for, which takes longer.
    """
    looks: dict[str, StoredValues] = {}
    may_be_labels = True
    for path in files.files:
        try:
            looks[path] = _look_at_file(path, files.half, max_pixels, may_be_labels, colours)
        except Exception:  # decoders raise many types; the file is reported when it is used
            continue
        may_be_labels = may_be_labels and looks[path].is_label_map
    return looks


def _look_at_file(path: str, half: int | None, max_pixels: int, may_be_labels: bool, colours: bool) -> StoredValues:
    with open_binary(path) as file:
        source = identify(file, path, max_pixels)
        image = source.image
        size = image.size if image is not None else (0, 0)
        has_palette = image is not None and image.mode == "P"
        one_channel = image is None or image.mode in ONE_CHANNEL_MODES or image.mode.startswith("I;16")
        pixels = size[0] * size[1] if image is not None else size_and_mtime(path)[0] // BYTES_PER_PIXEL
        is_small, is_array = pixels <= MAX_SAMPLED_PIXELS, path.lower().endswith(NUMPY_EXTENSIONS)
        is_colour = image is not None and image.mode == "RGB" and source.kind == "8 bits" and colours
        if not (one_channel or is_colour) or not is_small or not (may_be_labels or has_palette or is_array):
            return StoredValues(size, has_palette, is_small=is_small)
        picture, _ = DECODERS[source.kind](source, 3 if is_colour else 1)
        array = to_array(picture)
    array = _half(array, half)
    if is_array and isinstance(picture, Raster) and array.shape[2] == 4 and picture.has_alpha:
        return StoredValues((array.shape[1], array.shape[0]), has_array_alpha=True)
    if is_colour:
        count = _count_colours(array)
        return StoredValues((array.shape[1], array.shape[0]), False, count > 0, count, has_colours=count > 0)
    count = _count_labels(array) if array.shape[2] == 1 else 0
    # an animation or a photograph may be a GIF, whose palette says nothing
    is_label_map = bool(count) or (has_palette and image.format != "GIF")
    loses_indices = has_palette and bool((np.asarray(image.convert("RGB").convert("L")) != np.asarray(image)).any())
    size = array.shape[1], array.shape[0]
    return StoredValues(size, has_palette, is_label_map, count, loses_indices=loses_indices)


def _count_labels(array: np.ndarray) -> int:
    """Return the number of different values if they are at most MAX_LABELS integers, else 0."""
    flat = array.reshape(-1)
    for step in dict.fromkeys((max(1, flat.size // COARSE_VALUES), 1)):
        values = np.unique(flat[::step])
        if len(values) > MAX_LABELS or (values.dtype.kind == "f" and (values % 1).any()):
            return 0
    return len(values)


def _count_colours(array: np.ndarray) -> int:
    """Return the number of colours of an image (H, W, 3) uint8; 0 if they are more than MAX_LABELS, or of a sketch.

    A sketch is black and white, or has many greys, or some that are neighbours.
    """
    flat = array.reshape(-1, 3)
    coarse = flat[:: max(1, len(flat) // COARSE_VALUES)]
    if len(np.unique(coarse, axis=0)) > MAX_LABELS:
        return 0
    colours = np.unique(flat.astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32))
    are_grey = (colours >> 16 == colours & 255).all() and (colours >> 8 & 255 == colours & 255).all()
    greys = colours & 255
    is_smooth = len(greys) > MAX_GREYS or (len(greys) > 1 and np.diff(greys).min() == 1 and greys[-1] > MAX_LABELS)
    is_sketch = are_grey and (len(greys) < 3 or is_smooth)
    return len(colours) if len(colours) <= MAX_LABELS and not is_sketch else 0


def _channels(dataset: Any, side: str) -> int:
    return dict(zip(dataset.side_order, dataset.channels))[side]


def _channels_flag(side: str, number: int) -> str:
    """Return the flag that gives a side so many channels."""
    flag = {"A": "--input_nc", "B": "--output_nc"}.get(side)
    return f"{flag} {number}" if flag else f"a {number} in --inputs (A1:{number})"


def _palette_note(dataset: Any, side: str, looks: dict[str, StoredValues]) -> list[str]:
    """Return a note if palette indices get lost, because the networks see one channel."""
    affected = [path for path, look in looks.items() if look.loses_indices]
    if _channels(dataset, side) != 1 or not affected:
        return []
    colours = f"{_channels_flag(side, 3)} keeps the colours; " if dataset.o.isTrain else ""
    what = f"note: images of {side} have a palette, such as '{affected[0]}', and one channel is the luminance of its"
    return [f"{what} colours, not their indices; {colours}save indices as grey images to use them"]


def _alpha_note(dataset: Any, side: str, looks: dict[str, StoredValues]) -> list[str]:
    """Return a note if the fourth channel of arrays, perhaps near infrared, is taken for transparency."""
    affected = [path for path, look in looks.items() if look.has_array_alpha]
    if _channels(dataset, side) not in (1, 3) or not affected:
        return []
    what = f"note: arrays of {side}, such as '{affected[0]}', have 4 channels of 8 bits: the fourth is taken for"
    kept = f"; {_channels_flag(side, 4)} keeps it as a channel" if dataset.o.isTrain else ""
    return [f"{what} transparency (--background){kept}"]


def _scaling_note(dataset: Any, side: str, looks: dict[str, StoredValues]) -> list[str]:
    """Return a note if training would mix the values of label maps by scaling them."""
    flag = f"interpolation_{side[0]}"
    smooth = dataset.preprocess.filters[side[0]] is not Image.Resampling.NEAREST
    is_scaled = any(dataset.preprocess.scaled_size(look.size) != look.size for look in looks.values())
    if not looks or not dataset.o.isTrain or flag in dataset.o.given or not smooth or not is_scaled:
        return []
    kind = _kind_of_maps(looks)
    what = f"note: the images of {side} look like label maps ({kind}), and scaling mixes neighbouring values"
    return [f"{what}; --{flag} nearest keeps them"] if kind else []


def resampling_note(paths: Sequence[Path], flag: str) -> str:
    """Return a note if a script would mix the values of label maps by scaling them, else ""; flag: what keeps them."""
    every = max(1, len(paths) // SAMPLE_FILES)
    looks = _look_at_files(SideFiles([str(path) for path in paths[::every]]), MAX_SAMPLED_PIXELS, colours=True)
    kind = _kind_of_maps(looks)
    what = f"note: these images look like label maps ({kind}), and scaling mixes neighbouring values"
    return f"{what}; {flag} keeps them" if kind else ""


def _kind_of_maps(looks: dict[str, StoredValues]) -> str:
    """Return what label maps hold, such as "a palette"; "" if some of the files are none."""
    if not looks or not all(look.is_label_map for look in looks.values()):
        return ""
    if any(look.has_palette for look in looks.values()):
        return "a palette"
    most = max(look.labels for look in looks.values())
    if any(look.has_colours for look in looks.values()):
        return f"{most} colours at most" if most >= MIN_COLOURS else ""
    return f"one channel, {most} values at most"


def _dark_note(dataset: Any, side: str, files: SideFiles, looks: dict[str, StoredValues]) -> list[str]:
    """Return a hint if all images of 8 bits use little of their range, as masks of 0 and 1 do; in tests for inputs."""
    o = dataset.o
    has_range = bool(range_flag(o, side))
    if has_range or not looks or not (o.isTrain or side != "B") or not all(look.is_small for look in looks.values()):
        return []
    limit = 255 * (DARK_LABELS_FRACTION if all(look.is_label_map for look in looks.values()) else DARK_FRACTION)
    own = _channels(dataset, side)
    channels = own if files.half is None else dataset.joined_channels
    lo, hi = 255, 0
    for path in looks:
        try:
            array = _half(to_array(dataset.read(path, channels)), files.half)
        except DataError:  # it is reported when it is used
            continue
        lo, hi = min(lo, int(array.min())), max(hi, int(array.max()))
        if array.dtype != np.uint8 or hi - lo >= limit:
            return []
    if hi < lo:  # none could be read
        return []
    if hi == lo:
        if not o.isTrain:
            return []
        what = f"hint: the images of {side} have one value everywhere, {lo} ({len(looks)} were read)"
        may_be_clear = dataset.read_options.background == (lo, lo, lo)
        return [what + "; --background none shows the colours of transparent images" * may_be_clear]
    what = f"hint: the images of {side} hold only {lo} to {hi} ({len(looks)} were read) of the range 0 to 255"
    return [
        f"{what}; {'' if o.isTrain else 'if the run was trained on all of it, '}--range_{side[0]} auto uses all of it"
    ]


def _half(array: np.ndarray, half: int | None) -> np.ndarray:
    """Return the left (0) or right (1) half of an image, or all of it (None)."""
    middle = array.shape[1] // 2
    return array if half is None else array[:, middle:] if half else array[:, :middle]
