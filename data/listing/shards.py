"""Read images in tar shards in place, from disk or from a server; a path is written FOLDER/*.tar/trainA/1.png."""

import io
import math
import os
import threading
from bisect import bisect_left
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import IO, Any, Literal

from data.listing.paths import Paths
from data.listing.shard_index import Shard
from data.listing.shard_names import PHASE_FOLDER
from data.listing.shard_sources import DiskShards, ServerShards
from data.shards import cache
from data.shards.addresses import as_url, is_url
from data.shards.settings import settings
from data.shards.tars import BLOCK_BYTES, BadTar, parse_header
from util.disk_space import format_bytes
from util.errors import DataError, UserError

MAX_MEMBER_BYTES = 2**31  # of one image
LEAST_KEPT = 3  # shards of a size that must fit in the cache, so that one can be downloaded ahead
OPEN_FILES = 2  # shards that a thread keeps open; these are not deleted from the cache
_opened: dict[str, "Shards"] = {}
_local = threading.local()  # its files: the shards that this thread has open


class Shards:
    """The images in the shards that a pattern names, as in a folder; other members are not listed."""

    def __init__(self, pattern: str):
        self.file = pattern  # as the paths begin
        self.source = ServerShards(pattern) if is_url(pattern) else DiskShards(pattern)
        self.index = self.source.find_index()

    def _below(self, path: str) -> bytes:
        return os.fsencode(path[len(self.file) + 1 :].replace(os.sep, "/"))

    def _position(self, name: bytes) -> int:
        return bisect_left(range(len(self.index.paths)), name, key=self.index.paths.name)

    def _find(self, path: str) -> int | None:
        """Return the row of an image in the index, or None."""
        name = self._below(path)
        row = self._position(name)
        return row if row < len(self.index.paths) and self.index.paths.name(row) == name else None

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return what a path is; "" if there is nothing."""
        name = os.fsdecode(self._below(os.path.join(path, "")[:-1]))
        return "folder" if name in self.index.folders else "file" if self._find(path) is not None else ""

    def list_images(self, folder: str) -> Paths:
        """Return the sorted paths of all images under a folder and its sub-folders."""
        start = self._below(os.path.join(folder, ""))
        first, end = self._position(start), self._position(start[:-1] + b"0") if start else len(self.index.paths)
        every = self.index.paths[first:end]  # "0" follows "/"
        names = (every.name(i)[len(start) :] for i in range(len(every)))
        found = Paths.from_names(names, every.sizes, folder)
        found.marks = every.marks
        unused = self.index.paths.unused.split(b"\0")[:-1]
        found.unused = b"".join(name[len(start) :] + b"\0" for name in unused if name.startswith(start))
        return found

    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of all images directly in a folder; [] if it does not exist."""
        images = self.list_images(folder)
        names = (images.name(i) for i in range(len(images)))
        return [os.fsdecode(name) for name in names if b"/" not in name]

    def list_folders(self, folder: str) -> list[str]:
        """Return the sorted names of the folders directly in a folder."""
        start = os.fsdecode(self._below(os.path.join(folder, "")))
        below = (name[len(start) :] for name in self.index.folders if name.startswith(start) and name != start)
        return sorted(name for name in below if name and "/" not in name)

    @property
    def checks_late(self) -> bool:
        """Whether the images are on a server, so that they are only looked at when they are used."""
        return isinstance(self.source, ServerShards)

    @property
    def has_phases(self) -> bool:
        """Whether the names of shards or folders divide the images into phases."""
        return any(PHASE_FOLDER.fullmatch(part) for folder in self.index.folders for part in folder.split("/"))

    def top_folder(self, path: str) -> str:
        """Return the folder that holds all images, if the path is that of the shards; "" if there is none."""
        tops = self.list_folders(self.file) if len(path) <= len(self.file) + 1 else []
        ends = [self.index.paths.name(i) for i in (0, -1)] if len(tops) == 1 else []
        return tops[0] if ends and all(name.startswith(os.fsencode(f"{tops[0]}/")) for name in ends) else ""

    def labels(self, images: Paths) -> list[str]:
        """Return the class of each image that is listed by side, "" for one without; [] if none has one."""
        if not self.index.sided_classes or images.marks is None:
            return []
        names = [*self.index.classes, ""]
        return [names[number] for number in images.marks[:, 1].tolist()]

    def open(self, path: str) -> IO[bytes]:
        """Return the content of an image; raise DataError, naming it, if it cannot be read."""
        row = self._find(path)
        if row is None:
            raise DataError("image", path, f"is not in {self.file}", "name an image that is in it")
        index = self.index
        size, start = int(index.paths.sizes[row]), int(index.starts[row])
        shard = index.shards[index.marks[row, 0]]
        if size > MAX_MEMBER_BYTES:
            why = f"takes {size} bytes, more than the {MAX_MEMBER_BYTES} of one image"
            raise DataError("image", path, why, f"remove it from {shard.path}")
        try:
            file = self._open_shard(shard)
            file.seek(start - BLOCK_BYTES)
            header, content = file.read(BLOCK_BYTES), file.read(size)
            _, stated, _ = parse_header(header)
        except UserError:
            raise
        except (OSError, BadTar, ValueError) as problem:
            _forget(shard)
            why = f"cannot be read from {shard.path} ({problem})"
            raise DataError("image", path, why, "check the disk, or make the shards again") from problem
        if len(content) != size or stated != size:
            _forget(shard)
            why = f"is no longer at its place in {shard.path}, which was changed"
            raise DataError("image", path, why, "start again, which makes a new index")
        return io.BytesIO(content)

    def fetch_ahead(self, number: int) -> None:
        """Begin to download a shard of the index that will be needed next, if the cache has room for it."""
        shard = self.index.shards[number]
        if self.checks_late and LEAST_KEPT * shard.size <= settings.limit:
            threading.Thread(target=_fetch_quietly, args=(shard,), name="next shard", daemon=True).start()

    def cache_note(self) -> list[str]:
        """Return a note if shards on a server do not fit in the cache together, for images drawn from all of them."""
        size = sum(shard.size for shard in self.index.shards)
        if not self.checks_late or size <= settings.limit:
            return []
        flag, kept = f"--shard_cache_gb {math.ceil(size / 1e9)}", format_bytes(settings.limit)
        again = f"and {kept} are kept: they are downloaded again and again"
        return [f"note: B is drawn from shards of {format_bytes(size)}, {again}; {flag} keeps all"]

    def _open_shard(self, shard: Shard) -> Any:
        """Return a shard opened by this thread, which keeps the last ones open."""
        if getattr(_local, "process", 0) != os.getpid():  # a forked process would share file positions
            close_shards()
        if file := _local.files.pop(shard, None):
            _local.files[shard] = file  # the one used last is the last
            return file
        while len(_local.files) >= OPEN_FILES:
            _local.files.pop(next(iter(_local.files))).close()
        file = self.source.open(shard)
        if (size := os.fstat(file.fileno()).st_size) != shard.size:
            file.close()
            raise ValueError(f"it has {size} bytes, and {shard.size} when it was listed")
        _local.files[shard] = file
        return file

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return the size (bytes) of an image, and a number that changes with its shard; (0, 0) if there is none."""
        row = self._find(path)
        if row is None:
            return 0, 0
        version = self.index.shards[self.index.marks[row, 0]].version
        return int(self.index.paths.sizes[row]), int(version, 16) % 2**62


def open_shards(pattern: str, again: bool = False) -> Shards:
    """Return the shards that a pattern names, as far as they did not change; again: look for changes on disk."""
    shards = _opened.get(pattern)
    if shards is None and (same := _opened.get(as_url(pattern)) or _opened.get(str(Path(pattern)))):
        shards = _opened[pattern] = copy(same)  # the same address with one slash or two
        shards.file = pattern
    if shards is None or (again and shards.source.has_changed()):
        shards = _opened[pattern] = Shards(pattern)
    return shards


def is_open(pattern: str) -> bool:
    """Return whether this process has opened these shards before."""
    return pattern in _opened


def close_shards() -> None:
    """Close the shards that this thread has open."""
    _local.process, _local.files = os.getpid(), {}


def _fetch_quietly(shard: Shard) -> None:
    """Download a shard; a failure is reported when the shard is opened."""
    with suppress(UserError, OSError):
        cache.fetch_shard(shard.path, shard.size, shard.version)


def _forget(shard: Shard) -> None:
    """Close a shard that was damaged or changed, so that it is opened again."""
    if file := _local.files.pop(shard, None):
        file.close()
