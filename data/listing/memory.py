"""Images in memory that are read like files, for callers from Python."""

import errno
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePath
from typing import IO, Literal

from data.listing.paths import Paths

MEMORY_ROOT = "<memory>"
_folders: dict[str, dict[str, bytes]] = {}  # folder: {path below it: content of an image file}
_numbers = itertools.count()


@contextmanager
def memory_folder(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the path of a folder that holds these files, {path below it: content}, until the end of the block."""
    folder = f"{MEMORY_ROOT}/{next(_numbers)}"
    _folders[folder] = dict(files)
    try:
        yield folder
    finally:
        del _folders[folder]


def replace_file(path: str, content: bytes) -> None:
    """Give a file of a `memory_folder` block another content."""
    files, name = _find(path)
    files[name] = content


class Memory:
    """The files of all `memory_folder` blocks."""

    checks_late = False

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return what a path is; "" if there is nothing."""
        files, name = _find(path)
        return "file" if name in files else "folder" if _below(path) else ""

    def list_images(self, folder: str) -> Paths:
        """Return the sorted paths of the images under a folder."""
        files = _below(folder)
        return Paths.from_names(sorted(files), [len(files[name]) for name in sorted(files)], folder)

    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of the images directly in a folder."""
        return sorted(name for name in _below(folder) if "/" not in name)

    def list_folders(self, folder: str) -> list[str]:
        """Return the sorted names of the folders directly in a folder."""
        return sorted({name.partition("/")[0] for name in _below(folder) if "/" in name})

    def open(self, path: str) -> IO[bytes]:
        """Return an image file; raise FileNotFoundError if there is none."""
        files, name = _find(path)
        if name not in files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return BytesIO(files[name])

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return the size of a file in bytes, and 0."""
        files, name = _find(path)
        return len(files.get(name, b"")), 0


def _find(path: str) -> tuple[dict[str, bytes], str]:
    """Return the files of the block that a path belongs to, and the path below its folder."""
    root, number, *inner = (*PurePath(path).parts, "")
    return _folders.get(f"{root}/{number}", {}), "/".join(inner).rstrip("/")


def _below(folder: str) -> dict[str, bytes]:
    files, inner = _find(folder)
    start = f"{inner}/" if inner else ""
    return {name.removeprefix(start): content for name, content in files.items() if name.startswith(start)}
