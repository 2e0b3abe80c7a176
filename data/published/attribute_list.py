"""Lists of the attributes of images: CelebA's list_attr_celeba.txt, and the same table with commas."""

import io
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data.listing.files import find_storage
from data.names.class_names import shorten
from util.errors import DataError, OptionError
from util.spelling import name_hint, path_hint

HELD_OUT, SHARE_HELD_OUT = 1999, 10  # images that training leaves to tests: so many, of short lists a tenth
SHUFFLE_SEED = 1234  # of the authors' code, by which these are chosen
VALUES = {"1": 1, "-1": 0, "0": 0}


@dataclass(frozen=True)
class AttributeList:
    """The chosen attributes of a list: their names, and for each image 0 or 1 for each of them, (attributes,) uint8."""

    path: str
    names: tuple[str, ...]
    rows: dict[str, np.ndarray]

    def values_of(self, images: Iterable[str]) -> np.ndarray:
        """Return (N, attributes) uint8 for these images; 0 for those that the list does not name."""
        nothing = np.zeros(len(self.names), np.uint8)
        return np.stack([self.rows.get(name, nothing) for name in images])

    def held_out(self) -> set[str]:
        """Return the images that training leaves to tests, as in the authors' code."""
        names = list(self.rows)
        random.Random(SHUFFLE_SEED).shuffle(names)
        return set(names[: min(HELD_OUT, len(names) // SHARE_HELD_OUT)])


def read_attributes(path: str, root: str, names: str) -> AttributeList:
    """Return the attributes `names` (comma-separated) of a list; path: as it is, or below root.

    Raises DataError for a file that is no such list or ends too early, OptionError for an attribute that it lacks.
    """
    places = [path, os.path.join(root, path)]
    found = next((place for place in places if find_storage(place).entry_type(place) == "file"), None)
    if found is None:
        raise DataError("file", path, "there is no such list", path_hint(path) or "give the list with --attr_path")
    storage = find_storage(found)
    wanted = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    return _read(found, wanted, storage.size_and_mtime(found))


@lru_cache(maxsize=2)  # fixed samples, metrics and each call from Python read it again
def _read(path: str, wanted: tuple[str, ...], version: Any) -> AttributeList:
    lines = _lines(path)
    stated = int(lines.pop(0)) if lines and lines[0].isdigit() else None
    separator = "," if lines and "," in lines[0] else None
    rows = [[word.strip() for word in line.split(separator)] for line in lines]
    if len(rows) < 2:
        raise _not_a_list(path, "has no rows of images")
    names, first = rows[0], 2 + (stated is not None)  # the number of the first row's line
    names = names[1:] if len(names) == len(rows[1]) else names  # a name for the column of files
    places = _places(path, names, wanted)
    table: dict[str, np.ndarray] = {}
    for number, (file, *values) in enumerate(rows[1:], first):
        if len(values) != len(names):
            raise _not_a_list(path, f"has {len(values)} values in line {number} and {len(names)} names of attributes")
        try:
            own = np.array([VALUES[values[place]] for place in places], np.uint8)
        except KeyError as problem:
            raise _not_a_list(path, f"has the value {problem} in line {number}, not 1, 0 or -1") from None
        if not np.array_equal(table.setdefault(file, own), own):
            why = f"names {file} again in line {number}, with other values"
            raise DataError("file", path, why, "remove one of these rows")
    if stated is not None and stated != len(rows) - 1:
        why = f"states {stated} images in its first line and has rows of {len(rows) - 1}"
        raise DataError("file", path, why, "copy it again, or correct the number")
    return AttributeList(path, wanted, table)


def _lines(path: str) -> list[str]:
    try:
        with io.TextIOWrapper(find_storage(path).open(path), encoding="utf-8-sig") as text:
            return [line for line in map(str.strip, text) if line]
    except (OSError, ValueError) as problem:
        raise _not_a_list(path, f"cannot be read as text ({problem})") from problem


def _places(path: str, names: list[str], wanted: tuple[str, ...]) -> list[int]:
    """Return the columns of the wanted attributes; raise OptionError for one that is not there."""
    if not wanted:
        raise OptionError("option", "--selected_attrs", "names no attribute", f"choose of {shorten(names)}")
    for name in wanted:
        if name not in names:
            why = f"{os.path.basename(path)} has no attribute '{name}'"
            raise OptionError("option", "--selected_attrs", why, f"{name_hint(name, names)}choose of {shorten(names)}")
    return [names.index(name) for name in wanted]


def _not_a_list(path: str, why: str) -> DataError:
    layout = "give the number of images, a line of names, and a row FILE 1 -1 ... for each image; or CSV"
    return DataError("file", path, why, layout)
