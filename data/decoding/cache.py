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

from data.listing.paths import hash64
from util.cache_dir import cache_folder
from util.errors import printable
from util.value_range import DTYPES

# key, size and time of the file, start, height, width, channels, kind, checksum
SLOT_STRUCT = struct.Struct("<QqqQIIHHI")
HEADER_BYTES = 48  # bytes before the first place; the first eight say where the next picture goes
FORMAT_VERSION = 1  # of all this
MAX_SLOTS = 1 << 22  # places


class CacheKey(NamedTuple):
    """Which part of which file a picture is, and what tells the file from a later one of its name."""

    path: str
    part: str
    size: int
    mtime_ns: int  # nanoseconds

    @property
    def hash(self) -> int:
        """64 bits that stand for path and part; 0 is the key of an empty place."""
        return hash64(os.fsencode(f"{self.path}\0{self.part}")) or 1


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
        name = folder / hashlib.sha256(repr((FORMAT_VERSION, PIL.__version__, *recipe)).encode()).hexdigest()[:24]
        return Cache(capacity - _delete_oldest_caches(folder, name.name, capacity // 2), entries, name)
    except (OSError, AttributeError) as problem:  # AttributeError: a system without pwrite
        print(printable(f"note: no --cache {o.cache} ({problem})"))
        return None


def _delete_oldest_caches(folder: Path, name: str, limit: int) -> int:
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
        self.slots = min(MAX_SLOTS, 1 << max(10, (2 * entries - 1).bit_length()))
        self.index_file = _open_storage(name, f".{self.slots}.places")  # never cut: others may have it mapped
        self.data_file = _open_storage(name, f".{self.slots}.pictures")
        table = HEADER_BYTES + self.slots * SLOT_STRUCT.size
        for file, size in ((self.index_file, table), (self.data_file, capacity)):
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)  # a hole, which takes no room until it is written
        self.index = mmap.mmap(self.index_file, table, access=mmap.ACCESS_READ)
        self.data = mmap.mmap(self.data_file, 0, access=mmap.ACCESS_READ)
        self.verified: set[int] = set()  # keys of pictures whose checksum this process has seen to be right
        self.full = False

    def get(self, key: CacheKey) -> np.ndarray | None:
        """Return a picture (H, W, C), read-only, or None if it is not there, damaged, or of an earlier file."""
        key_hash = key.hash
        entry = self._read_entry(key_hash)
        if entry is None or entry[1:3] != (key.size, key.mtime_ns):
            return None
        _, _, _, start, height, width, channels, dtype_index, checksum = entry
        dtype = np.dtype(DTYPES[dtype_index])
        count = height * width * channels
        if start + count * dtype.itemsize > len(self.data):
            return None
        array = np.frombuffer(self.data, dtype, count, start).reshape(channels, height, width)
        if key_hash not in self.verified:
            if zlib.crc32(array.data) != checksum:
                return None
            self.verified.add(key_hash)
        return array.transpose(1, 2, 0)

    def put(self, key: CacheKey, array: np.ndarray) -> None:
        """Keep a picture (H, W, C), unless the cache is full."""
        if self.full or array.dtype.name not in DTYPES:
            return
        data = np.ascontiguousarray(array.transpose(2, 0, 1))  # as tensors lie, so that cutting one out is quick
        try:
            with _lock_file(self.index_file):
                self._write(key, data)
        except OSError:  # a full disk: what is kept stays, no more is
            self.full = True

    def _write(self, key: CacheKey, data: np.ndarray) -> None:
        start = max(1, int.from_bytes(os.pread(self.index_file, 8, 0), "little"))
        slot = self._find_slot(key.hash)
        if start + data.nbytes > self.capacity or slot is None:
            self.full = True
            return
        os.pwrite(self.index_file, (start + data.nbytes).to_bytes(8, "little"), 0)
        _write_all(self.data_file, data, start)
        channels, height, width = data.shape
        entry = SLOT_STRUCT.pack(key.hash, key.size, key.mtime_ns, start, height, width, channels,
                           DTYPES.index(data.dtype.name), zlib.crc32(data.data))  # fmt: skip
        offset = HEADER_BYTES + slot * SLOT_STRUCT.size
        os.pwrite(self.index_file, bytes(8), offset)  # of an earlier picture: not seen while it changes
        os.pwrite(self.index_file, entry[8:], offset + 8)
        os.pwrite(self.index_file, entry[:8], offset)  # its key last: from here on it is seen
        self.verified.discard(key.hash)

    def _read_entry(self, key_hash: int) -> tuple[int, ...] | None:
        slot = self._find_slot(key_hash)
        entry = (
            SLOT_STRUCT.unpack_from(self.index, HEADER_BYTES + slot * SLOT_STRUCT.size) if slot is not None else (0,)
        )
        return entry if entry[0] == key_hash else None

    def _find_slot(self, key_hash: int) -> int | None:
        """Return the slot of a key, or the free one where it would go; None if it has none."""
        for probe in range(64):
            slot = (key_hash + probe) % self.slots
            stored_hash = int.from_bytes(
                self.index[HEADER_BYTES + slot * SLOT_STRUCT.size : HEADER_BYTES + slot * SLOT_STRUCT.size + 8],
                "little",
            )
            if stored_hash in (0, key_hash):
                return slot
        return None


def _open_storage(name: Path | None, suffix: str) -> int:
    if name is not None:
        return os.open(f"{name}{suffix}", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pictures")
    with tempfile.TemporaryFile() as file:  # has no name either
        return os.dup(file.fileno())


@contextmanager
def _lock_file(file: int) -> Iterator[None]:
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
