"""A look at the headers of all pictures before a training, and beside it while they are many."""

import os
import threading
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from data.decoding import high_bit_depth
from data.decoding.images import USUAL, opened, reason
from data.decoding.orientation import SIDEWAYS, orientation
from data.listing import demo, index
from data.listing.paths import Paths, bits
from util.errors import DataError, Problem, printable, refuse, told

PATIENCE = 10.0  # seconds that training waits for it
THREADS = 8  # disks and network drives answer several at once
CHUNK = 16  # files looked at before a thread looks up
REST = 0.05  # seconds between two chunks beside the training, which needs the processor more
HANDFUL, SHARE = 5, 0.01  # pictures that may be skipped at most, whichever is more
NEW_SUBFILE_TYPE, REDUCED = 254, 1  # a tag of TIFF, and its bit for smaller copies of another page


def too_many(bad: int, of: int) -> bool:
    """Whether so many pictures cannot be used that leaving them out would hide a mistake."""
    return bad > max(HANDFUL, SHARE * of)


def unlike(own: tuple[int, int], partner: str, other: tuple[int, int]) -> str:
    """Return what is wrong with a picture whose partner is of another size."""
    return f"is of {own[0]}x{own[1]}, its partner {partner} of {other[0]}x{other[1]}"


class Header(NamedTuple):
    """What a file says of its picture before its pixels are read; size None: it does not tell."""

    size: tuple[int, int] | None = None  # width and height of the upright picture
    frames: int = 1  # of which the first is used


def header(path: str, max_pixels: int = USUAL.max_pixels, whole: bool = False) -> Header:
    """Return what a file says of its picture; DataError if it is none, or too large.

    whole: also what a PNG says after its pixels, which are decoded for it.
    """
    if path.lower().endswith((".npy", ".npz")) or demo.is_demo(path):
        return Header()
    try:
        with opened(path, max_pixels) as image:
            sideways = orientation(image, whole) in SIDEWAYS
            return Header(image.size[::-1] if sideways else image.size, frames(image))
    except DataError:
        raise
    except MemoryError:  # whoever reads it will see
        return Header()
    except Exception as problem:  # whatever Pillow raises
        if isinstance(problem, UnidentifiedImageError) and high_bit_depth.is_tiff(
            path
        ):  # of a kind that Pillow does not know
            return Header()
        raise DataError("image", path, reason(path, problem), "delete or replace it") from problem


def frames_of(path: str) -> int:
    """Return how many pictures a file holds; 1 of what cannot be told."""
    try:
        return header(path).frames
    except DataError:  # a data set may name what is no file
        return 1


def frames(image: Image.Image) -> int:
    """Return how many pictures an opened file holds; a preview (MPO) or a smaller copy (TIFF) is none."""
    try:
        if image.format in ("MPO", "JPEG") or not getattr(image, "is_animated", False):
            return 1
        if image.format == "TIFF":
            image.seek(1)
            if image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & REDUCED:  # type: ignore[attr-defined]
                return 1
        return image.n_frames  # type: ignore[attr-defined]
    except Exception:  # what follows the first picture is damaged, in any of the ways Pillow meets it: nobody needs it
        return 1


class Check:
    """Threads that look at files: all at once for PATIENCE seconds, then one that mostly rests, until all are seen.

    groups: lists of files; several in one group are sides of pairs, which must be of one size.
    """

    def __init__(self, groups: Sequence[Sequence[Paths]], root: str, skips: bool,
                 max_pixels: int = USUAL.max_pixels):  # fmt: skip
        self.groups, self.root, self.skips, self.max_pixels = groups, root, skips, max_pixels
        self.total = sum(len(sides[0]) for sides in groups)
        self.problems: list[tuple[int, Problem]] = []
        self.moving: dict[str, int] = {}  # files of several frames: how many
        self.done, self.told = threading.Event(), threading.Event()  # all seen, and what was found late is said
        self.beside, self.stopped = threading.Event(), threading.Event()
        self._numbers, self._left, self._lock = count(), 0, threading.Lock()

    def begin(self) -> None:
        """Look at the files for PATIENCE seconds; DataError, after a list of them, if there are bad ones."""
        if not self.total or demo.is_demo(self.root):
            self.done.set()
            return
        self._keys = np.concatenate([_keys(sides) for sides in self.groups]) if self.total >= index.WORTH else None
        self._todo = np.arange(self.total)
        if self._keys is not None:
            self._todo = np.flatnonzero(~np.isin(self._keys, index.looked_at(self.root)))
        self._left = -(-len(self._todo) // CHUNK)
        Image.init()  # no imports in threads: workers may be forked meanwhile
        if not self._left:
            self.done.set()
        threads = min(THREADS, self._left)
        for number in range(threads):
            threading.Thread(target=self._work, args=(number == 0,), name="check", daemon=True).start()
        self.done.wait(PATIENCE)
        with self._lock:  # from here on, whoever sees the last file tells what was found
            self.beside.set()
            found, seen = self._sorted(), self.done.is_set()
        self._judge(found)
        if seen and self.moving:
            print(self._several(), flush=True)

    def stop(self) -> None:
        """End it soon, without waiting for a disk that may not answer."""
        self.stopped.set()

    def _judge(self, found: list[Problem]) -> None:
        if self.skips and not too_many(len(found), self.total):
            if found:
                said = f"note: {len(found)} of {self.total} pictures cannot be read and are skipped"
                print(said, *told(found), sep="\n", flush=True)
            return
        if found:
            self.stop()
        refuse("image", found, f"of {self.total} pictures", "delete or replace it, or use --on_bad_image skip"
               if not self.skips else "delete or replace them: --on_bad_image skip is for a few")  # fmt: skip

    def _work(self, goes_on: bool) -> None:
        for number in self._numbers:
            chunk = self._todo[number * CHUNK : (number + 1) * CHUNK]
            if not len(chunk):
                return
            for place in chunk:
                problem = self._look(int(place))
                if problem:
                    self.problems.append((int(place), problem))
                if self.stopped.is_set():
                    return
            self._finished()
            if self.beside.is_set():
                if not goes_on:
                    return
                self.stopped.wait(REST)

    def _finished(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._remember()
        with self._lock:
            self.done.set()
            beside = self.beside.is_set()
        if beside and self.moving:
            tqdm.write(self._several())
        if beside and self.problems:
            found = self._sorted()
            named = ", ".join(f"{name} ({why})" for name, why in found[:3]) + (", ..." if len(found) > 3 else "")
            tqdm.write(printable(f"note: {len(found)} of {self.total} pictures cannot be read: {named}"))
        self.told.set()

    def _look(self, place: int) -> Problem | None:
        """Return what is wrong with a file or pair, by its header."""
        for sides in self.groups:
            if place < len(sides[0]):
                break
            place -= len(sides[0])
        paths = [side[place] for side in sides]
        try:
            found = [header(path, self.max_pixels) for path in paths]
            if len({each.size for each in found}) > 1:  # before it is said: more exactly
                found = [header(path, self.max_pixels, whole=True) for path in paths]
        except DataError as problem:
            return str(problem.args[1]), str(problem.args[2])
        self.moving |= {path: each.frames for path, each in zip(paths, found, strict=True) if each.frames > 1}
        own, other = found[0].size, found[-1].size
        return (paths[0], unlike(own, paths[-1], other)) if own and other and own != other else None

    def _several(self) -> str:
        """Return the line on files that hold more than one picture."""
        path = min(self.moving)
        files = sum(len(side) for sides in self.groups for side in sides)
        return printable(f"note: {len(self.moving)} of {files} pictures hold several frames, such as '{path}' "
                         f"({self.moving[path]}): the first is used")  # fmt: skip

    def _sorted(self) -> list[Problem]:
        return [problem for _, problem in sorted(self.problems)]

    def _remember(self) -> None:
        if self._keys is not None:
            bad = np.array([place for place, _ in self.problems], dtype=np.int64)
            index.remember_sound(self.root, np.delete(self._keys, bad))


def _keys(sides: Sequence[Paths]) -> np.ndarray:
    """Return (N,) uint64: 64 bits of the names and sizes of each file or pair."""
    found = np.empty(len(sides[0]), dtype=np.uint64)
    for i in range(len(found)):
        found[i] = bits(b"/".join(b"%s %d" % (os.fsencode(side[i]), side.sizes[i]) for side in sides))
    return found
