"""Find picture files: under a folder or in a zip file, each real file once, in an order that is the same everywhere."""

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
_ENDINGS = tuple(os.fsencode(end) for end in EXTENSIONS)


def is_readable(name: str | bytes) -> bool:
    """Whether a file name is that of a picture, by its extension."""
    name = os.fsencode(name)
    return name.lower().endswith(_ENDINGS) and not name.startswith(b".")


def list_files(folder: str, anew: bool = False) -> Paths:
    """Return the paths of all pictures under a folder, sorted, sub-folders included, each real file once.

    Links are followed once; pipes and devices are left out. Empty if the folder does not exist. The folders of `demo`
    exist without files, unless there is a real one of that name. A folder inside a zip file is one too. What was
    remembered of many files is used while no folder has changed, unless `anew`.
    """
    if demo.is_demo(folder):
        found = [os.path.relpath(path, folder) for path in demo.names(folder)]
        return Paths.of(found, [0] * len(found), folder)
    inside = zips.split(folder)
    if inside:
        rows = [(name, size) for name, size in zips.names(*inside) if is_readable(os.path.basename(name))]
        return Paths.of([name for name, _ in rows], [size for _, size in rows], folder)
    known = None if anew else index.load(folder)
    if known is not None:
        return known
    scan = _Scan(folder)
    index.save(scan.paths, scan.folders)
    return scan.paths


def list_folders(folder: str) -> list[str]:
    """Return the names of the folders directly in a folder, sorted, hidden ones left out; [] if it does not exist."""
    if demo.is_demo(folder):
        return demo.folders(folder)
    inside = zips.split(folder)
    if inside:
        return zips.folders(*inside)
    if not os.path.isdir(folder):
        return []
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def is_folder(path: str) -> bool:
    """Whether there is a folder of pictures at a path, on the disk, in a zip file or in `demo`."""
    if demo.is_demo(path):
        return bool(demo.names(path) or demo.folders(path))
    inside = zips.split(path)
    return bool(zips.names(*inside)) if inside else os.path.isdir(path)


def is_file(path: str) -> bool:
    """Whether there is a file at a path, on the disk or in a zip file."""
    inside = zips.split(path)
    return zips.holds(*inside) if inside else os.path.isfile(path)


def start_of(dataroot: str, phase: str = "") -> str:
    """Return the folder that a data set's folders lie in: dataroot, or in a zip file its one folder that holds all.

    One that is called as a phase or side is already what a data set looks for.
    """
    inside = zips.split(dataroot)
    if inside is None or inside[1]:
        return dataroot
    top = zips.top_folder(inside[0])
    own = top in ("", "A", "B") or top.rstrip("AB") in (*PHASES, phase)
    return dataroot if own else os.path.join(dataroot, top)


def open_file(path: str) -> str | io.BytesIO:
    """Return what a picture's file can be opened by: its path, or what a zip file holds, unpacked in memory."""
    inside = zips.split(path)
    return zips.member(path, *inside) if inside else path


def identity(path: str) -> tuple[int, int]:
    """Return size in bytes and time of change of a file, or of the zip file it is in; zeros where there is no file."""
    inside = zips.split(path)
    try:
        state = os.stat(inside[0] if inside else path)
    except OSError:  # of a generated picture; of a missing one who reads it will tell
        return 0, 0
    return state.st_size, state.st_mtime_ns


def binary(path: str) -> IO[bytes]:
    """Return a picture's file, opened; raises OSError or DataError if it cannot be read."""
    file = open_file(path)
    return open(file, "rb") if isinstance(file, str) else file


def first_bytes(path: str, count: int) -> bytes:
    """Return how a file begins; raises OSError or DataError if it cannot be read."""
    with binary(path) as file:
        return file.read(count)


class _Scan:
    """One walk through a folder: the pictures found, and each folder that was looked into with its time of change.

    Sorting the entries of each folder, with a / after folders' names, gives the order of whole paths.
    """

    def __init__(self, folder: str):
        self.top = os.fsencode(os.path.join(folder, ""))
        self.folders: list[tuple[bytes, int]] = []
        self._seen: set[tuple[int, int]] = set()
        self._names, self._ends, self._sizes = bytearray(), array("q", [0]), array("q")
        self._devices, self._inodes, self._links = array("Q"), array("Q"), bytearray()
        pending = [b""]
        # tqdm shows itself after a few seconds, and only on a terminal
        with tqdm(desc=f"listing {folder}", unit=" files", delay=3, disable=None, leave=False) as bar:
            while pending:
                name = pending.pop()
                if name and not name.endswith(b"/"):
                    self._take(name)
                    bar.update()
                else:
                    pending += sorted(self._entries(name), reverse=True)
        self.paths = self._each_once(folder)

    def _entries(self, below: bytes) -> list[bytes]:
        """Return what is in a folder: pictures, and folders, which end in a /; [] if it was seen already."""
        path, found = self.top + below, []
        try:
            here = os.stat(path)
            if (here.st_dev, here.st_ino) in self._seen:  # a link back up: not again
                return []
            self._seen.add((here.st_dev, here.st_ino))
            self.folders.append((below, here.st_mtime_ns))
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    if _leads_to_folder(entry):
                        found.append(below + entry.name + b"/")
                    elif entry.name.lower().endswith(_ENDINGS):
                        found.append(below + entry.name)
        except (FileNotFoundError, NotADirectoryError):  # said better by who asked
            return []
        except OSError as problem:
            name = os.fsdecode(path.rstrip(b"/"))
            raise DataError("folder", name, f"cannot be read ({problem.strerror})", "check its permissions") from None
        return found

    def _take(self, name: bytes) -> None:
        """Note a file, if it is one: no pipe, no device, no link that leads nowhere."""
        try:
            state = os.lstat(self.top + name)
            linked = stat.S_ISLNK(state.st_mode)
            if linked:
                state = os.stat(self.top + name)
        except OSError:  # a dangling link, or gone meanwhile
            return
        if not stat.S_ISREG(state.st_mode):
            return
        alone = state.st_nlink == 1  # hard links are files of their own
        self._devices.append(state.st_dev if alone else 2**64 - 1)
        self._inodes.append(state.st_ino if alone else len(self._sizes))
        self._links.append(linked)
        self._names += name
        self._ends.append(len(self._names))
        self._sizes.append(state.st_size)

    def _each_once(self, folder: str) -> Paths:
        """Return the files found: of links to one file the first, or the file itself where it is among them."""
        found = Paths(folder, bytes(self._names), np.array(self._ends), np.array(self._sizes))
        if not any(self._links):
            return found
        devices, inodes = np.array(self._devices), np.array(self._inodes)
        links = np.frombuffer(self._links, dtype=np.uint8)
        order = np.lexsort((links, inodes, devices))  # stable: equal ones stay in the order of their names
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(devices[order]) != 0) | (np.diff(inodes[order]) != 0)
        kept = np.sort(order[first])
        return found if len(kept) == len(found) else found.take(kept)


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
