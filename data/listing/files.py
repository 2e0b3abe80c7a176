"""Choose where a path is stored (on disk, in memory, in a zip file, in shards, in `demo`); ask it for its files."""

import os
import re
from pathlib import PurePath
from typing import IO, Literal, Protocol

from data.listing.demo import DEMO_ROOT, Demo
from data.listing.disk import Disk
from data.listing.memory import MEMORY_ROOT, Memory
from data.listing.paths import PHASE_FOLDERS as PHASE_FOLDERS
from data.listing.paths import PHASES as PHASES
from data.listing.paths import Paths, has_image_extension
from data.listing.shard_names import SHARD_END, is_pattern
from data.listing.shards import Shards, is_open, open_shards
from data.listing.zips import Zip, open_zip
from data.shards.addresses import is_url

# first bytes of JPEG, PNG, GIF, WebP, TIFF and NumPy files
IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"\x93NUMPY")


class Storage(Protocol):
    """What holds image files; every path and folder is given in full, as users write it.

    checks_late: whether an image is only looked at when it is used, because it is sound or has to be downloaded first.
    """

    @property
    def checks_late(self) -> bool: ...

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
        """Return size (bytes) and modification time (ns) of a file, or of its archive; (0, 0) if there is no file."""


def find_storage(path: str) -> Storage:
    """Return the storage of a path; real folders named `demo`, images.zip or x.tar take precedence over what they hide.

    Raises DataError for a zip file or shards that cannot be read, EnvironmentFault for a server that does not answer.
    """
    if DEMO_ROOT in path and PurePath(path).parts[:1] == (DEMO_ROOT,) and not os.path.exists(DEMO_ROOT):
        return Demo()
    if path.startswith(MEMORY_ROOT):
        return Memory()
    for end in re.finditer(r"\.zip(?=[/\\]|\Z)", path, re.IGNORECASE):
        if os.path.isfile(path[: end.end()]):
            return open_zip(path[: end.end()])
    for end in SHARD_END.finditer(path):
        shards = path[: end.end()]
        if is_open(shards) or os.path.isfile(shards) or (is_pattern(shards) and not os.path.isdir(shards)):
            return open_shards(shards)
    return Disk()


def is_demo(path: str) -> bool:
    """Return whether a path is in the generated dataset."""
    return isinstance(find_storage(path), Demo)


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
    """Return the folder that holds a dataset's folders: dataroot, or the one top folder of a zip file or of shards.

    A top folder named like a phase or side is itself one of the dataset's folders, so it is not entered. For a folder
    of shards it is their pattern, FOLDER/*.tar.
    """
    storage = find_storage(dataroot)
    if isinstance(storage, Disk):
        shards = os.path.join(dataroot, "*.tar") if is_url(dataroot) else storage.shards_in(dataroot)
        dataroot, storage = (shards, find_storage(shards)) if shards else (dataroot, storage)
    if isinstance(storage, Shards):
        storage = open_shards(storage.file, again=True)
    top = storage.top_folder(dataroot) if isinstance(storage, Zip | Shards) else ""
    is_entered = top not in ("", "A", "B") and top.rstrip("AB") not in (*PHASES, phase)
    return os.path.join(dataroot, top) if is_entered else dataroot


def size_and_mtime(path: str) -> tuple[int, int]:
    """Return size (bytes) and modification time (ns) of a file, or of its archive; (0, 0) if there is no file."""
    return find_storage(path).size_and_mtime(path)


def open_binary(path: str) -> IO[bytes]:
    """Open an image file for reading, wherever it is; raise OSError or DataError if it cannot be read."""
    return find_storage(path).open(path)


def read_first_bytes(path: str, count: int) -> bytes:
    """Return the first `count` bytes of a file; raise OSError or DataError if it cannot be read."""
    with open_binary(path) as file:
        return file.read(count)
