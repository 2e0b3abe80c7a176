"""A cache of pictures as they are after reading and scaling, shared by all processes that load for a run.

Two files, mapped into memory: pictures, and their places in it. In RAM (--cache ram) they have no name, so that nothing
is left after the last process; in a folder (--cache disk) later runs find them. A place is written after its picture,
and believed only for a file of the same size and time of change; each process holds a picture against its checksum when
it first meets it. A full cache keeps what it has: epochs go round, so that throwing out would only replace.
"""

import hashlib
import mmap
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL

from data.listing.paths import bits
from util.cache_dir import cache_folder
from util.errors import printable
from util.value_range import KINDS

PLACE = struct.Struct("<QqqQIIHHI")  # key, size and time of the file, start, height, width, channels, kind, checksum
HEAD = 48  # bytes before the first place; the first eight say where the next picture goes
VERSION = 1  # of all this
LARGEST_TABLE = 1 << 22  # places


class Origin(NamedTuple):
    """Which part of which file a picture is, and what tells the file from a later one of its name."""

    path: str
    part: str
    size: int
    changed: int  # nanoseconds

    @property
    def key(self) -> int:
        """64 bits that stand for path and part; 0 is the key of an empty place."""
        return bits(os.fsencode(f"{self.path}\0{self.part}")) or 1


def open_cache(o: Any, entries: int, recipe: tuple[Any, ...]) -> "Cache | None":
    """Return the cache that --cache asks for, None for off and, saying so, where there can be none.

    recipe: all that decides, beside the file, what its scaled picture is.
    """
    if o.cache == "off":
        return None
    capacity = int(o.cache_gb * 1e9)
    try:
        if o.cache == "ram":
            return Cache(capacity, entries)
        folder = Path(o.cache_dir or cache_folder())
        folder.mkdir(parents=True, exist_ok=True)
        name = folder / hashlib.sha256(repr((VERSION, PIL.__version__, *recipe)).encode()).hexdigest()[:24]
        return Cache(capacity - _make_room(folder, name.name, capacity // 2), entries, name)
    except (OSError, AttributeError) as problem:  # AttributeError: a system without pwrite
        print(printable(f"note: no --cache {o.cache} ({problem})"))
        return None


def _make_room(folder: Path, name: str, limit: int) -> int:
    """Delete the least recently used caches of other recipes until they take no more than a limit; return what is left.

    Whoever has one open keeps it: a file without a name stays as long as it is used.
    """
    others: dict[str, list[Path]] = {}
    for suffix in ("places", "pictures"):
        for path in folder.glob(f"*.{suffix}"):
            if not path.name.startswith(name):
                others.setdefault(path.name.rpartition(".")[0], []).append(path)
    sizes = {stem: sum(path.stat().st_blocks * 512 for path in paths) for stem, paths in others.items()}
    for stem in sorted(others, key=lambda stem: max(path.stat().st_mtime_ns for path in others[stem])):
        if sum(sizes.values()) > limit:
            for path in others[stem]:
                path.unlink(missing_ok=True)
            del sizes[stem]
    return sum(sizes.values())


class Cache:
    """Arrays (H, W, C) by origin, for any number of processes, any of which may be killed at any moment.

    capacity: bytes of pictures; entries: how many there will be. name: a path without extension, None for a cache in
    memory, which processes share that come by fork. Raises OSError where the files cannot be made.
    """

    def __init__(self, capacity: int, entries: int, name: Path | None = None):
        self.capacity = capacity
        self.slots = min(LARGEST_TABLE, 1 << max(10, (2 * entries - 1).bit_length()))
        self.places_file = _opened(name, f".{self.slots}.places")  # never cut: others may have it mapped
        self.pictures_file = _opened(name, f".{self.slots}.pictures")
        table = HEAD + self.slots * PLACE.size
        for file, size in ((self.places_file, table), (self.pictures_file, capacity)):
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)  # a hole, which takes no room until it is written
        self.places = mmap.mmap(self.places_file, table, access=mmap.ACCESS_READ)
        self.pictures = mmap.mmap(self.pictures_file, 0, access=mmap.ACCESS_READ)
        self.verified: set[int] = set()  # keys of pictures whose checksum this process has seen to be right
        self.full = False

    def get(self, origin: Origin) -> np.ndarray | None:
        """Return a picture (H, W, C), read-only, or None if it is not there, damaged, or of an earlier file."""
        key = origin.key
        place = self._place(key)
        if place is None or place[1:3] != (origin.size, origin.changed):
            return None
        _, _, _, start, height, width, channels, kind, checksum = place
        dtype = np.dtype(KINDS[kind])
        count = height * width * channels
        if start + count * dtype.itemsize > len(self.pictures):
            return None
        array = np.frombuffer(self.pictures, dtype, count, start).reshape(channels, height, width)
        if key not in self.verified:
            if zlib.crc32(array.data) != checksum:
                return None
            self.verified.add(key)
        return array.transpose(1, 2, 0)

    def put(self, origin: Origin, array: np.ndarray) -> None:
        """Keep a picture (H, W, C), unless the cache is full."""
        if self.full or array.dtype.name not in KINDS:
            return
        data = np.ascontiguousarray(array.transpose(2, 0, 1))  # as tensors lie, so that cutting one out is quick
        try:
            with _locked(self.places_file):
                self._write(origin, data)
        except OSError:  # a full disk: what is kept stays, no more is
            self.full = True

    def _write(self, origin: Origin, data: np.ndarray) -> None:
        start = max(1, int.from_bytes(os.pread(self.places_file, 8, 0), "little"))
        slot = self._slot(origin.key)
        if start + data.nbytes > self.capacity or slot is None:
            self.full = True
            return
        os.pwrite(self.places_file, (start + data.nbytes).to_bytes(8, "little"), 0)
        _write_all(self.pictures_file, data, start)
        channels, height, width = data.shape
        place = PLACE.pack(origin.key, origin.size, origin.changed, start, height, width, channels,
                           KINDS.index(data.dtype.name), zlib.crc32(data.data))  # fmt: skip
        at = HEAD + slot * PLACE.size
        os.pwrite(self.places_file, bytes(8), at)  # of an earlier picture: not seen while it changes
        os.pwrite(self.places_file, place[8:], at + 8)
        os.pwrite(self.places_file, place[:8], at)  # its key last: from here on it is seen
        self.verified.discard(origin.key)

    def _place(self, key: int) -> tuple[int, ...] | None:
        slot = self._slot(key)
        place = PLACE.unpack_from(self.places, HEAD + slot * PLACE.size) if slot is not None else (0,)
        return place if place[0] == key else None

    def _slot(self, key: int) -> int | None:
        """Return the slot of a key, or the free one where it would go; None if it has none."""
        for probe in range(64):
            slot = (key + probe) % self.slots
            found = int.from_bytes(self.places[HEAD + slot * PLACE.size : HEAD + slot * PLACE.size + 8], "little")
            if found in (0, key):
                return slot
        return None


def _opened(name: Path | None, suffix: str) -> int:
    if name is not None:
        return os.open(f"{name}{suffix}", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pictures")
    with tempfile.TemporaryFile() as file:  # has no name either
        return os.dup(file.fileno())


@contextmanager
def _locked(file: int) -> Iterator[None]:
    import fcntl

    fcntl.lockf(file, fcntl.LOCK_EX)  # of this process alone: forked ones do not share it
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)


def _write_all(file: int, data: np.ndarray, start: int) -> None:
    rest = data.reshape(-1).view(np.uint8).data
    while rest:
        written = os.pwrite(file, rest, start)
        rest, start = rest[written:], start + written
