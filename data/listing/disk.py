"""Find images in folders on disk: a file with symbolic links once, in the same order on every machine."""

import os
import stat
from array import array
from typing import IO, Literal

import numpy as np
from tqdm import tqdm

from data.listing.listing_cache import once
from data.listing.paths import COMPANION_EXTENSIONS, EXTENSIONS, HIDDEN_FOLDERS, Paths
from data.listing.shard_names import shard_folder
from util.errors import DataError

HIDDEN_BYTES = set(map(os.fsencode, HIDDEN_FOLDERS))
EXTENSION_BYTES = tuple(map(os.fsencode, EXTENSIONS))
COMPANION_BYTES = tuple(map(os.fsencode, COMPANION_EXTENSIONS))


class Disk:
    """The files of the file system."""

    checks_late = False

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return what a path is; "" if there is nothing, or a pipe or device."""
        return "file" if os.path.isfile(path) else "folder" if os.path.isdir(path) else ""

    @once
    def list_images(self, folder: str) -> Paths:
        """Return the sorted paths of all images under a folder; a file with links counts once, pipes do not count."""
        names, ends, sizes = bytearray(), array("q", [0]), array("q")
        identities, links = array("Q"), bytearray()  # device and inode of each file; 1 for each link
        unused: list[bytes] = []
        top, visited, pending = os.fsencode(os.path.join(folder, "")), set[tuple[int, int]](), [b""]
        # the progress bar appears after 3 s, and only on a terminal
        with tqdm(desc=f"listing {folder}", unit=" files", delay=3, disable=None, leave=False) as bar:
            while pending:
                name = pending.pop()
                if not name or name.endswith(b"/"):  # a folder; sorting each one gives the order of whole paths
                    pending += sorted(_list_entries(top, name, visited, unused), reverse=True)
                    continue
                bar.update()
                try:
                    status = os.lstat(top + name)
                except OSError:  # deleted since it was listed
                    continue
                try:
                    if linked := stat.S_ISLNK(status.st_mode):
                        status = os.stat(top + name)
                except OSError:  # a link to nothing
                    unused.append(name)
                    continue
                if stat.S_ISREG(status.st_mode):
                    alone = status.st_nlink == 1  # hard links count as separate files, so they get unique identities
                    identities.extend((status.st_dev, status.st_ino) if alone else (2**64 - 1, len(sizes)))
                    links.append(linked)
                    names += name
                    ends.append(len(names))
                    sizes.append(status.st_size)
        left_out = b"".join(name + b"\0" for name in sorted(unused))
        paths = Paths(folder, bytes(names), np.array(ends), np.array(sizes), left_out)
        if not any(links):
            return paths
        # Keep a file rather than a link to it, and the first of several links.
        order = np.argsort(np.frombuffer(links, dtype=np.uint8), kind="stable")
        _, first = np.unique(np.array(identities).reshape(-1, 2)[order], axis=0, return_index=True)
        return paths if len(first) == len(paths) else paths.take(np.sort(order[first]))

    @once
    def list_folders(self, folder: str) -> list[str]:
        """Return the sorted names of the visible folders directly in a folder; [] if it does not exist."""
        if not os.path.isdir(folder):
            return []
        folders = (entry.name for entry in os.scandir(folder) if entry.is_dir())
        return sorted(name for name in folders if not name.startswith(".") and name not in HIDDEN_FOLDERS)

    @once
    def shards_in(self, folder: str) -> str:
        """Return the pattern of the shards in a folder; "" for a folder of something else."""
        return shard_folder(folder, self.shards_in)

    @once
    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of all files and links directly in a folder; [] if it does not exist."""
        return sorted(e.name for e in os.scandir(folder) if not e.is_dir()) if os.path.isdir(folder) else []

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        return open(path, "rb")

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return size (bytes) and modification time (ns) of a file; (0, 0) if there is none."""
        try:
            status = os.stat(path)
        except OSError:  # it is reported when the file is read
            return 0, 0
        return status.st_size, status.st_mtime_ns


def _list_entries(top: bytes, below: bytes, visited: set[tuple[int, int]], unused: list[bytes]) -> list[bytes]:
    """Return the images and the folders (with a final /) in the folder `below` top; [] if it was visited before.

    Other files are added to `unused`, except those that are expected beside images.
    """
    path, names = top + below, []
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in visited:  # a link to a visited folder, perhaps to a parent
            return []
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(b".") or entry.name in HIDDEN_BYTES:
                    continue
                # isdir, unlike is_dir, does not raise for a link to itself
                if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                    names.append(below + entry.name + b"/")
                elif (lower := entry.name.lower()).endswith(EXTENSION_BYTES):
                    names.append(below + entry.name)
                elif not lower.endswith(COMPANION_BYTES) and (entry.is_file() or entry.is_symlink()):
                    unused.append(below + entry.name)
    except (FileNotFoundError, NotADirectoryError):  # the caller reports it with more context
        return []
    except OSError as problem:
        name = os.fsdecode(path.rstrip(b"/"))
        raise DataError("folder", name, f"cannot be read ({problem.strerror})", "check its permissions") from None
    return names
