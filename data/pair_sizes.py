"""Measure joined pairs: the sizes of their halves, and which files are single images rather than pairs."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

from data.decoding.header_check import CHECK_THREADS, read_header
from data.listing.demo import Demo
from data.listing.files import find_storage
from data.listing.paths import Paths
from registry.suggestions import models_by_dataset_mode
from util.errors import DataError
from util.size import Size

MAX_MEASURED_FILES = 200  # files measured at most in training, evenly spread over the data set
PROPORTION_TOLERANCE = 0.02  # relative: sizes are whole pixels, and images are scaled to almost equal sizes


def measure(
    paths: Sequence[str], max_pixels: int, read: Callable[[str], Size | None] | None = None
) -> list[Size | None]:
    """Return the size of each image as its header states it, None for one that cannot be read.

    read: returns the size of a file whose header does not state it.
    """

    def size(path: str) -> Size | None:
        try:
            known = read_header(path, max_pixels).size
            return Size(*known) if known else read(path) if read else None
        except DataError:  # it is reported when its pixels are read
            return None

    with ThreadPoolExecutor(CHECK_THREADS) as threads:
        return list(threads.map(size, paths))


def measured_sample(paths: Paths) -> Paths:
    """Return up to MAX_MEASURED_FILES of the paths, evenly spread; one of generated images, which have one size."""
    number = min(len(paths), MAX_MEASURED_FILES)
    if number and isinstance(find_storage(paths[0]), Demo):
        number = 1
    return paths.take(i * len(paths) // number for i in range(number))


def halves(sizes: Sequence[Size | None]) -> list[Size | None]:
    """Return the sizes of the left halves of images."""
    return [size and Size(size.width // 2, size.height) for size in sizes]


def proportions(sizes: Sequence[Size | None]) -> tuple[float, ...]:
    """Return (least, greatest) width / height of the known sizes; () if none is known."""
    known = [size.width / size.height for size in sizes if size]
    return (min(known), max(known)) if known else ()


def describe_sizes(sizes: Sequence[Size | None]) -> str:
    """Return the size of the images, such as "256x256", with "and others" if they differ; "" if it is unknown."""
    known = list(dict.fromkeys(size for size in sizes if size))
    return f"{known[0]}{' and others' if known[1:] else ''}" if known else ""


def fits_pair(size: Size | None, trained: tuple[float, float] | None) -> bool:
    """Return whether a file of this size may hold A|B: its halves have the proportions of the trained images.

    trained: the least and greatest width / height, or None if they are unknown: then the file must be wider than high.
    A size that is unknown fits.
    """
    if size is None:
        return True
    if trained is None:
        return size.width > size.height
    width = size.width // 2
    margin = max(PROPORTION_TOLERANCE, 1 / max(width, 1))  # 1 pixel of small images is more
    return trained[0] * (1 - margin) <= width / size.height <= trained[1] * (1 + margin)


def describe_proportions(limits: tuple[float, float]) -> str:
    """Return the text for two limits of width / height, such as "1.33:1"."""
    return " to ".join(dict.fromkeys(f"{limit:.3g}:1" for limit in limits))


def pair_question(paths: Sequence[str], sizes: Sequence[Size | None]) -> list[str]:
    """Return a line that asks whether files are pairs if some are not wider than high, else no line."""
    odd = [(path, size) for path, size in zip(paths, sizes, strict=True) if size and size.width <= size.height]
    if not odd:
        return []
    models = models_by_dataset_mode()
    others = sorted(name for mode in models.keys() - {"aligned", "single"} for name in models[mode])
    (path, size), which = odd[0], f"{len(odd)} of {len(sizes)} files{' measured' * (len(sizes) == MAX_MEASURED_FILES)}"
    said = f"{which} are not wider than high, such as {PurePath(path).name} ({size}), and each is cut into two halves"
    models_text = f"; models for images that are not pairs: {', '.join(others)} (--model)" if others else ""
    return [f"question: are these pairs of A|B? {said}{models_text}"]
