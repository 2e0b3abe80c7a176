"""A cache of decoded and scaled images, shared by all processes that load data for a run.

The cache consists of two memory-mapped files: the image data, and an index of slots that point into it. With --cache
ram the files have no name, so nothing remains after the last process has ended. With --cache disk they are in a folder,
where later runs find them. A slot is written after its image and is valid only for a file of the same size and
modification time. Each process verifies the checksum of an image on first use. A full cache keeps its images: every
epoch reads all images once, so evicting one to store another gains nothing.
"""

import hashlib
import mmap
import os
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
from util.errors import print_line
from util.value_range import DTYPES

# key_hash is 0 in a free slot; dtype is an index of DTYPES, checksum a CRC-32
SLOT = np.dtype("<u8, <i8, <i8, <u8, <u4, <u4, <u2, <u2, <u4")
SLOT.names = ("key_hash", "size", "mtime_ns", "start", "height", "width", "channels", "dtype", "checksum")
HEADER_BYTES = 48  # bytes before the first slot; the first 8 hold the offset where the next image is written
FORMAT_VERSION = 1  # version of the file format
MAX_SLOTS = 1 << 22


class CacheKey(NamedTuple):
    """Identify one part of one file, and the version of the file by its size and modification time."""

    path: str
    part: str
    size: int
    mtime_ns: int

    @property
    def hash(self) -> int:
        """A 64-bit hash of path and part; never 0, which marks a free slot."""
        return hash64(os.fsencode(f"{self.path}\0{self.part}")) or 1


def open_cache(o: Any, entries: int, recipe: tuple[Any, ...]) -> "Cache | None":
    """Return the cache that --cache asks for; None if it is off or, after a note, if it cannot be created.

    recipe: everything besides the file itself that determines the scaled image; it names the cache on disk.
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
    except (OSError, AttributeError) as problem:  # AttributeError: the system has no pwrite
        print_line(f"note: no --cache {o.cache} ({problem})")
        return None


def _delete_oldest_caches(folder: Path, name: str, limit: int) -> int:
    """Delete the least recently written caches of other recipes until they take at most `limit` bytes.

    Returns the bytes that remain. A process that has a deleted cache open keeps it, because an unlinked file exists
    until it is closed.
    """
    others: dict[str, list[os.stat_result]] = {}
    for path in (*folder.glob("*.places"), *folder.glob("*.pictures")):
        if not path.name.startswith(name):
            others.setdefault(path.stem, []).append(path.stat())
    sizes = {stem: sum(each.st_blocks * 512 for each in files) for stem, files in others.items()}
    for stem in sorted(others, key=lambda stem: max(each.st_mtime_ns for each in others[stem])):
        if sum(sizes.values()) > limit:
            for suffix in ("places", "pictures"):
                (folder / f"{stem}.{suffix}").unlink(missing_ok=True)
            del sizes[stem]
    return sum(sizes.values())


class Cache:
    """Image arrays (H, W, C) by CacheKey, shared by any number of processes that may be killed at any time.

    capacity: bytes of image data. entries: expected number of images. name: a path without extension, or None for a
    cache in memory, which only forked processes share. Raises OSError if the files cannot be created.
    """

    def __init__(self, capacity: int, entries: int, name: Path | None = None):
        self.capacity = capacity
        self.slots = min(MAX_SLOTS, 1 << max(10, (2 * entries - 1).bit_length()))
        self.index_file = _open_storage(name, f".{self.slots}.places")  # never truncated: others may have it mapped
        self.data_file = _open_storage(name, f".{self.slots}.pictures")
        table = HEADER_BYTES + self.slots * SLOT.itemsize
        for file, size in ((self.index_file, table), (self.data_file, capacity)):
            if os.fstat(file).st_size < size:
                os.ftruncate(file, size)  # sparse: takes no disk space until it is written
        self.index = np.frombuffer(mmap.mmap(self.index_file, table, access=mmap.ACCESS_READ), SLOT, -1, HEADER_BYTES)
        self.data = mmap.mmap(self.data_file, 0, access=mmap.ACCESS_READ)
        self.verified: set[int] = set()  # key hashes of the images that this process has verified
        self.full = False

    def get(self, key: CacheKey) -> np.ndarray | None:
        """Return an image (H, W, C), read-only; None if it is missing, damaged, or of an earlier file version."""
        key_hash = key.hash
        slot = self._find_slot(key_hash)
        entry: tuple[Any, ...] = self.index[slot].tolist() if slot is not None else ()
        if entry[:3] != (key_hash, key.size, key.mtime_ns):
            return None
        start, height, width, channels, dtype_index, checksum = entry[3:]
        dtype, count = np.dtype(DTYPES[dtype_index]), height * width * channels
        if start + count * dtype.itemsize > len(self.data):
            return None
        array = np.frombuffer(self.data, dtype, count, start).reshape(channels, height, width)
        if key_hash not in self.verified:
            if zlib.crc32(array.data) != checksum:
                return None
            self.verified.add(key_hash)
        return array.transpose(1, 2, 0)

    def put(self, key: CacheKey, array: np.ndarray) -> None:
        """Store an image (H, W, C), unless the cache is full."""
        if self.full or array.dtype.name not in DTYPES:
            return
        data = np.ascontiguousarray(array.transpose(2, 0, 1))  # (C, H, W) as in a tensor, so that cropping is fast
        try:
            with _lock_file(self.index_file):
                self._write(key, data)
        except OSError:  # the disk is full: keep the stored images and add no more
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
        facts = start, height, width, channels, DTYPES.index(data.dtype.name), zlib.crc32(data.data)
        entry = np.array((key.hash, key.size, key.mtime_ns, *facts), SLOT).tobytes()
        offset = HEADER_BYTES + slot * SLOT.itemsize
        os.pwrite(self.index_file, bytes(8), offset)  # clear the key: readers ignore the slot while it changes
        os.pwrite(self.index_file, entry[8:], offset + 8)
        os.pwrite(self.index_file, entry[:8], offset)  # the key last: readers see the slot from here on
        self.verified.discard(key.hash)

    def _find_slot(self, key_hash: int) -> int | None:
        """Return the slot of a key, or the free slot it would take; None if the 64 slots probed are taken."""
        for probe in range(64):
            slot = (key_hash + probe) % self.slots
            if self.index[slot]["key_hash"] in (0, key_hash):
                return slot
        return None


def _open_storage(name: Path | None, suffix: str) -> int:
    if name is not None:
        return os.open(f"{name}{suffix}", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pictures")
    with tempfile.TemporaryFile() as file:  # has no name either, like a memfd
        return os.dup(file.fileno())


@contextmanager
def _lock_file(file: int) -> Iterator[None]:
    import fcntl  # not on Windows, where open_cache finds no pwrite

    fcntl.lockf(file, fcntl.LOCK_EX)  # a lock per process: forked processes do not share it
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)


def _write_all(file: int, data: np.ndarray, start: int) -> None:
    rest = data.reshape(-1).view(np.uint8).data
    while rest:
        written = os.pwrite(file, rest, start)
        rest, start = rest[written:], start + written
