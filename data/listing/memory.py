"""Images in memory that are read like files, for callers from Python."""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePath
from typing import IO, Literal

from data.listing.paths import Paths

MEMORY_ROOT = "<memory>"
_folders: dict[str, dict[str, bytes]] = {}  # folder: {name: content of an image file}
_numbers = itertools.count()


@contextmanager
def memory_folder(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the path of a folder that holds these files, {name: content}, until the end of the block."""
    folder = f"{MEMORY_ROOT}/{next(_numbers)}"
    _folders[folder] = dict(files)
    try:
        yield folder
    finally:
        del _folders[folder]


class Memory:
    """The files of all `memory_folder` blocks."""

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return what a path is; "" if there is nothing."""
        folder, name = _split(path)
        return "file" if name in _folders.get(folder, ()) else "folder" if path in _folders else ""

    def list_images(self, folder: str) -> Paths:
        """Return the sorted paths of the images in a folder."""
        files = _folders.get(folder, {})
        return Paths.from_names(sorted(files), [len(files[name]) for name in sorted(files)], folder)

    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of the images in a folder."""
        return sorted(_folders.get(folder, ()))

    def list_folders(self, folder: str) -> list[str]:
        """Return [], because a folder holds no others."""
        return []

    def open(self, path: str) -> IO[bytes]:
        """Return an image file; raise FileNotFoundError if there is none."""
        folder, name = _split(path)
        try:
            return BytesIO(_folders[folder][name])
        except KeyError:
            raise FileNotFoundError(2, os.strerror(2), path) from None

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return the size of a file in bytes, and 0."""
        folder, name = _split(path)
        return len(_folders.get(folder, {}).get(name, b"")), 0


def _split(path: str) -> tuple[str, str]:
    pure = PurePath(path)
    return pure.parent.as_posix(), pure.name
