"""Store many paths compactly: one block of bytes and the offset of each name, instead of a list of strings."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pbm", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".apng",
              ".mpo", ".npy", ".npz")  # fmt: skip

PHASES = ("train", "test", "val", "valid", "validation")
HIDDEN_FOLDERS = ("__MACOSX", "@eaDir")  # Apple's in zip files, and Synology's with thumbnails
LABEL_MAP_KINDS = ("label", "inst", "img")  # train_label, train_inst, train_img: of label maps and their photographs
PHASE_FOLDERS = {phase + side for phase in PHASES for side in ("", "A", "B")}
# files that are expected beside images, and so are not worth a note
COMPANION_EXTENSIONS = (".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".html", ".htm", ".yaml", ".yml",
                        ".log", ".ini", ".db", ".py", ".sh", ".pkl", ".lnk", ".url")  # fmt: skip


def has_image_extension(name: str) -> bool:
    """Return whether a file name has the extension of an image and is not hidden."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def hash64(name: bytes) -> int:
    """Return a 64-bit hash of a name."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


@dataclass(eq=False, repr=False)
class Paths(Sequence[str]):
    """Paths of files below a root, and the sizes of the files in bytes.

    unused: the names of the files that a listing left out, because they have no extension of an image or are links to
    nothing; sorted, each with a final NUL.
    marks: (N, 2) int32 for files in shards, else None: the numbers of the shard and of the class; -1 without a class.
    A million names take about 30 MB in one object, which processes share after a fork and which pickles quickly. A
    list of a million strings takes 120 MB, and each worker copies it as soon as it reads it (reference counts).
    """

    root: str
    names: bytes
    offsets: np.ndarray
    sizes: np.ndarray
    unused: bytes = b""
    marks: np.ndarray | None = None

    @classmethod
    def from_names(cls, names: Iterable[str | bytes], sizes: Sequence[int] | np.ndarray, root: str = "") -> "Paths":
        """Return the Paths of these names below a root."""
        block, offsets = bytearray(), [0]
        for name in names:
            block += os.fsencode(name)
            offsets.append(len(block))
        return cls(root, bytes(block), np.array(offsets, dtype=np.int64), np.asarray(sizes, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Paths": ...
    def __getitem__(self, index: int | slice) -> "str | Paths":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(range(start, stop, step))
            stop = max(start, stop)
            marks = None if self.marks is None else self.marks[start:stop]
            return Paths(self.root, self.names, self.offsets[start : stop + 1], self.sizes[start:stop], marks=marks)
        return os.path.join(self.root, os.fsdecode(self.name(index)))

    def name(self, index: int) -> bytes:
        """Return the name below the root, as the bytes that the file system uses."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        index %= len(self)
        return self.names[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: Iterable[int]) -> "Paths":
        """Return the paths at these indices, in this order."""
        chosen = np.fromiter(indices, dtype=np.int64)
        taken = Paths.from_names((self.name(int(i)) for i in chosen), self.sizes[chosen], self.root)
        return replace(taken, unused=self.unused, marks=None if self.marks is None else self.marks[chosen])

    @property
    def at_hand(self) -> "Paths":
        """The paths that may be looked at before training: all, or of shards on a server those in the first one."""
        if self.marks is None or not len(self) or not self.root.startswith("http"):
            return self
        return self.take(np.flatnonzero(self.marks[:, 0] == self.marks[0, 0]))

    def keys(self, fold: bool = False) -> np.ndarray:
        """Return (N,) uint64: a hash of each name without its extension, to match partners and to split by.

        fold: ignore upper and lower case.
        """
        names, digests = self.names.lower() if fold else self.names, bytearray()
        for index in range(len(self)):
            name = os.path.splitext(names[self.offsets[index] : self.offsets[index + 1]])[0]
            digests += hashlib.blake2b(name, digest_size=8).digest()  # hash64 of the name
        return np.frombuffer(digests, dtype="<u8")

    def __reduce__(self) -> tuple[Any, ...]:
        first, last = (int(self.offsets[end]) for end in (0, -1))  # a slice is pickled without the names outside it
        return Paths, (self.root, self.names[first:last], self.offsets - first, self.sizes, b"", self.marks)

    def __repr__(self) -> str:
        return f"Paths({self.root!r}, {len(self)} files)"
