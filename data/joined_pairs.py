"""Measure joined pairs: the sizes of their halves, and which files are single images rather than pairs."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

from data.decoding.header_check import CHECK_THREADS, read_header
from data.listing.files import is_demo
from data.listing.paths import Paths
from data.names.class_names import shorten
from util.errors import DataError
from util.size import Size

MAX_MEASURED_FILES = 200  # files measured at most in training, evenly spread over the data set
PROPORTION_TOLERANCE = 0.02  # relative: sizes are whole pixels, and images are scaled to almost equal sizes
MAX_SIDE_FOLDERS = 4  # in which wide images may be the sides of pairs; pairs of many places have more
LEAST_PAIR_WIDTH = 1.9  # of a height: photographs are narrower, two squares side by side are not


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
    paths = paths.at_hand
    number = min(len(paths), MAX_MEASURED_FILES)
    if number and is_demo(paths[0]):
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


def pair_question(paths: Paths, sizes: Sequence[Size | None]) -> tuple[str, bool]:
    """Return a question if files of A|B look like single images, else "", and whether they can hardly be pairs.

    They can hardly be pairs if some are not wider than high, or if they are photographs in several folders, like
    classes. Other photographs are as wide as pairs of upright images.
    """
    known = [(path, size) for path, size in zip(paths, sizes, strict=True) if size]
    odd = [(path, size) for path, size in known if size.width <= size.height]
    narrow = [(path, size) for path, size in known if size.width < LEAST_PAIR_WIDTH * size.height]
    folders = sorted({PurePath(os.path.relpath(path, paths.root)).parts[0] for path, _ in known})
    are_classes = 1 < len(folders) < len(known) and len(narrow) == len(known)
    looks_joined = not odd and 2 * len(narrow) <= len(known)
    if looks_joined and 1 < len(folders) <= MAX_SIDE_FOLDERS and len(folders) < len(known):
        said = f"they are in folders like sides or classes ({shorten(folders)}), such as {known[0][0]}"
        return f"are these pairs of A|B? {said}, and each is cut into {_halves_text(known[0][1])}", True
    if looks_joined:
        return "", False
    measured = " measured" * (len(sizes) == MAX_MEASURED_FILES)
    of_all = f"{len(odd or narrow)} of {len(sizes)} files{measured} are" if len(sizes) > 1 else "1 file is"
    path, size = (odd or narrow)[0]
    said = f"{of_all} narrower than two squares, such as {PurePath(path).name} ({size})"
    if odd:
        said = f"{of_all} not wider than high, such as {PurePath(path).name} ({size})"
    elif are_classes:
        said = f"they are in folders like classes ({shorten(folders)}), such as {path} ({size})"
    return f"are these pairs of A|B? {said}, and each is cut into {_halves_text(size)}", bool(odd) or are_classes


def _halves_text(size: Size) -> str:
    return f"a left half A and a right half B, here {describe_sizes(halves([size]))}"


def twice_as_wide(paths: Paths, max_pixels: int) -> Size | None:
    """Return the size of the images if all that are measured are exactly twice as wide as high, like A|B; else None.

    None for generated images, which are what every model asks for.
    """
    if paths and is_demo(paths[0]):
        return None
    sizes = measure(measured_sample(paths), max_pixels)
    return sizes[0] if sizes and all(size and size.width == 2 * size.height for size in sizes) else None
