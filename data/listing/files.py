"""Choose where a path is stored (on disk, in memory, in a zip file or in `demo`), and ask it for files."""

import os
import re
from pathlib import PurePath
from typing import IO, Literal, Protocol

from data.listing.demo import DEMO_ROOT, Demo
from data.listing.disk import Disk
from data.listing.memory import MEMORY_ROOT, Memory
from data.listing.paths import Paths, has_image_extension
from data.listing.zips import Zip, open_zip

PHASES = ("train", "test", "val", "valid", "validation")
PHASE_FOLDERS = {phase + side for phase in PHASES for side in ("", "A", "B")}
# first bytes of JPEG, PNG, GIF, WebP, TIFF and NumPy files
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"\x93NUMPY")


class Storage(Protocol):
    """What holds image files; every path and folder is given in full, as users write it."""

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return what a path is; "" if there is nothing."""

    def list_images(self, folder: str) -> Paths:
        """Return the sorted paths of all images under a folder and its sub-folders; none if it does not exist."""

    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of all files directly in a folder, hidden ones too; [] if it does not exist."""

    def list_folders(self, folder: str) -> list[str]:
        """Return the sorted names of the visible folders directly in a folder; [] if it does not exist."""

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading; raise OSError or DataError if it cannot be read."""

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return size (bytes) and modification time (ns) of a file, or of its zip file; (0, 0) if there is no file."""


def find_storage(path: str) -> Storage:
    """Return the storage of a path; real folders named `demo` or images.zip take precedence over what they hide."""
    if DEMO_ROOT in path and PurePath(path).parts[:1] == (DEMO_ROOT,) and not os.path.exists(DEMO_ROOT):
        return Demo()
    if path.startswith(MEMORY_ROOT):
        return Memory()
    for end in re.finditer(r"\.zip(?=[/\\]|\Z)", path, re.IGNORECASE):
        if os.path.isfile(path[: end.end()]):
            return open_zip(path[: end.end()])
    return Disk()


def list_files(folder: str) -> Paths:
    """Return the sorted paths of all images under a folder and its sub-folders, or the path of an image itself."""
    storage = find_storage(folder)
    paths = storage.list_images(folder)
    if len(paths) or not is_image(folder):
        return paths
    above, name = os.path.split(folder)
    return Paths.from_names([name], [storage.size_and_mtime(folder)[0]], above)


def is_image(path: str) -> bool:
    """Return whether a path is a file that has the extension or the first bytes of an image."""
    if find_storage(path).entry_type(path) != "file":
        return False
    if has_image_extension(os.path.basename(path)):
        return True
    try:
        return read_first_bytes(path, 8).startswith(IMAGE_SIGNATURES)
    except OSError:  # no permission
        return False


def list_folders(folder: str) -> list[str]:
    """Return the sorted names of the visible folders directly in a folder; [] if it does not exist."""
    return find_storage(folder).list_folders(folder)


def is_folder(path: str) -> bool:
    """Return whether a path is a folder on disk, in a zip file or in `demo`."""
    return find_storage(path).entry_type(path) == "folder"


def dataset_root(dataroot: str, phase: str = "") -> str:
    """Return the folder that holds a dataset's folders: dataroot, or the one top folder of a zip file.

    A top folder named like a phase or side is itself one of the dataset's folders, so it is not entered.
    """
    storage = find_storage(dataroot)
    top = storage.top_folder(dataroot) if isinstance(storage, Zip) else ""
    is_entered = top not in ("", "A", "B") and top.rstrip("AB") not in (*PHASES, phase)
    return os.path.join(dataroot, top) if is_entered else dataroot


def size_and_mtime(path: str) -> tuple[int, int]:
    """Return size (bytes) and modification time (ns) of a file, or of its zip file; (0, 0) if there is no file."""
    return find_storage(path).size_and_mtime(path)


def open_binary(path: str) -> IO[bytes]:
    """Open an image file for reading, wherever it is; raise OSError or DataError if it cannot be read."""
    return find_storage(path).open(path)


def read_first_bytes(path: str, count: int) -> bytes:
    """Return the first `count` bytes of a file; raise OSError or DataError if it cannot be read."""
    with open_binary(path) as file:
        return file.read(count)
