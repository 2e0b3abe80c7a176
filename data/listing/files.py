"""Find image files under a folder or in a zip file, each real file once, in the same order on every machine."""

import io
import os
import stat
from array import array
from typing import IO

import numpy as np
from tqdm import tqdm

from data.listing import demo, index, zips
from data.listing.paths import Paths
from util.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pbm", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".apng",
              ".mpo", ".npy", ".npz")  # fmt: skip
PHASES = ("train", "test", "val", "valid", "validation")
_EXTENSION_BYTES = tuple(os.fsencode(end) for end in EXTENSIONS)


def has_image_extension(name: str | bytes) -> bool:
    """Return whether a file name has the extension of an image and is not hidden."""
    name = os.fsencode(name)
    return name.lower().endswith(_EXTENSION_BYTES) and not name.startswith(b".")


def list_files(folder: str, refresh: bool = False) -> Paths:
    """Return the sorted paths of all images under a folder and its sub-folders, each real file once.

    Symbolic links are followed once; pipes and devices are skipped. The result is empty if the folder does not exist.
    The folder may be inside a zip file, or one of the generated folders of `demo`. A saved index of a large folder is
    used if no folder in it has changed; refresh: ignore the index.
    """
    if demo.is_demo(folder):
        names = [os.path.relpath(path, folder) for path in demo.list_paths(folder)]
        return Paths.from_names(names, [0] * len(names), folder)
    zip_parts = zips.split_zip_path(folder)
    if zip_parts:
        rows = [
            (name, size) for name, size in zips.list_members(*zip_parts) if has_image_extension(os.path.basename(name))
        ]
        return Paths.from_names([name for name, _ in rows], [size for _, size in rows], folder)
    known = None if refresh else index.load(folder)
    if known is not None:
        return known
    scan = _FolderScan(folder)
    index.save(scan.paths, scan.folders)
    return scan.paths


def list_folders(folder: str) -> list[str]:
    """Return the sorted names of the visible folders directly in a folder; [] if it does not exist."""
    if demo.is_demo(folder):
        return demo.list_folders(folder)
    zip_parts = zips.split_zip_path(folder)
    if zip_parts:
        return zips.list_folders(*zip_parts)
    if not os.path.isdir(folder):
        return []
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def is_folder(path: str) -> bool:
    """Return whether a path is a folder on disk, in a zip file or in `demo`."""
    if demo.is_demo(path):
        return bool(demo.list_paths(path) or demo.list_folders(path))
    zip_parts = zips.split_zip_path(path)
    return bool(zips.list_members(*zip_parts)) if zip_parts else os.path.isdir(path)


def is_file(path: str) -> bool:
    """Return whether a path is a file on disk or in a zip file."""
    zip_parts = zips.split_zip_path(path)
    return zips.has_member(*zip_parts) if zip_parts else os.path.isfile(path)


def dataset_root(dataroot: str, phase: str = "") -> str:
    """Return the folder that holds a dataset's folders: dataroot, or the one top folder of a zip file.

    A top folder named like a phase or side is itself one of the dataset's folders, so it is not entered.
    """
    zip_parts = zips.split_zip_path(dataroot)
    if zip_parts is None or zip_parts[1]:
        return dataroot
    top = zips.top_folder(zip_parts[0])
    is_phase_folder = top in ("", "A", "B") or top.rstrip("AB") in (*PHASES, phase)
    return dataroot if is_phase_folder else os.path.join(dataroot, top)


def path_or_buffer(path: str) -> str | io.BytesIO:
    """Return the path of an image file, or its unpacked bytes in memory if it is inside a zip file."""
    zip_parts = zips.split_zip_path(path)
    return zips.read_member(path, *zip_parts) if zip_parts else path


def size_and_mtime(path: str) -> tuple[int, int]:
    """Return size (bytes) and modification time (ns) of a file, or of its zip file; (0, 0) if there is no file."""
    zip_parts = zips.split_zip_path(path)
    try:
        status = os.stat(zip_parts[0] if zip_parts else path)
    except OSError:  # a generated image, or a missing one, which is reported when it is read
        return 0, 0
    return status.st_size, status.st_mtime_ns


def open_binary(path: str) -> IO[bytes]:
    """Open an image file for reading, also inside a zip file; raise OSError or DataError if it cannot be read."""
    file = path_or_buffer(path)
    return open(file, "rb") if isinstance(file, str) else file


def read_first_bytes(path: str, count: int) -> bytes:
    """Return the first `count` bytes of a file; raise OSError or DataError if it cannot be read."""
    with open_binary(path) as file:
        return file.read(count)


class _FolderScan:
    """One walk through a folder: the images found, and the visited folders with their modification times.

    Sorting the entries of each folder, with a / after folder names, gives the order of whole paths.
    """

    def __init__(self, folder: str):
        self.top = os.fsencode(os.path.join(folder, ""))
        self.folders: list[tuple[bytes, int]] = []
        self._visited: set[tuple[int, int]] = set()
        self._names, self._name_ends, self._sizes = bytearray(), array("q", [0]), array("q")
        self._devices, self._inodes, self._links = array("Q"), array("Q"), bytearray()
        pending = [b""]
        # the progress bar appears after 3 s, and only on a terminal
        with tqdm(desc=f"listing {folder}", unit=" files", delay=3, disable=None, leave=False) as bar:
            while pending:
                name = pending.pop()
                if name and not name.endswith(b"/"):
                    self._add_file(name)
                    bar.update()
                else:
                    pending += sorted(self._list_entries(name), reverse=True)
        self.paths = self._without_duplicates(folder)

    def _list_entries(self, below: bytes) -> list[bytes]:
        """Return the images and the folders (with a final /) in a folder; [] if it was visited before."""
        path, names = self.top + below, []
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in self._visited:  # a link to a visited folder, perhaps to a parent
                return []
            self._visited.add((status.st_dev, status.st_ino))
            self.folders.append((below, status.st_mtime_ns))
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    if _is_folder_entry(entry):
                        names.append(below + entry.name + b"/")
                    elif entry.name.lower().endswith(_EXTENSION_BYTES):
                        names.append(below + entry.name)
        except (FileNotFoundError, NotADirectoryError):  # the caller reports it with more context
            return []
        except OSError as problem:
            name = os.fsdecode(path.rstrip(b"/"))
            raise DataError("folder", name, f"cannot be read ({problem.strerror})", "check its permissions") from None
        return names

    def _add_file(self, name: bytes) -> None:
        """Add a path if it is a regular file: not a pipe, a device or a dangling link."""
        try:
            status = os.lstat(self.top + name)
            linked = stat.S_ISLNK(status.st_mode)
            if linked:
                status = os.stat(self.top + name)
        except OSError:  # a dangling link, or a file deleted since it was listed
            return
        if not stat.S_ISREG(status.st_mode):
            return
        alone = status.st_nlink == 1  # hard links count as separate files, so they get unique keys
        self._devices.append(status.st_dev if alone else 2**64 - 1)
        self._inodes.append(status.st_ino if alone else len(self._sizes))
        self._links.append(linked)
        self._names += name
        self._name_ends.append(len(self._names))
        self._sizes.append(status.st_size)

    def _without_duplicates(self, folder: str) -> Paths:
        """Return the files found; of several links to one file keep the file itself, or else the first link."""
        paths = Paths(folder, bytes(self._names), np.array(self._name_ends), np.array(self._sizes))
        if not any(self._links):
            return paths
        devices, inodes = np.array(self._devices), np.array(self._inodes)
        links = np.frombuffer(self._links, dtype=np.uint8)
        order = np.lexsort((links, inodes, devices))  # stable: equal entries stay in the order of their names
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(devices[order]) != 0) | (np.diff(inodes[order]) != 0)
        indices = np.sort(order[first])
        return paths if len(indices) == len(paths) else paths.take(indices)


def _is_folder_entry(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
