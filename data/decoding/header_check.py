"""Check the headers of all images before training, and in the background if there are many."""

import os
import threading
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from data.decoding import high_bit_depth
from data.decoding.images import DEFAULT_READ_OPTIONS, open_lazily, unreadable_reason
from data.decoding.orientation import SIDEWAYS, read_orientation
from data.listing import demo, index
from data.listing.paths import Paths, hash64
from util.errors import DataError, Problem, format_problems, printable, raise_if_any

FOREGROUND_CHECK_S = 10.0  # seconds that training waits for the check
CHECK_THREADS = 8  # disks and network drives answer several requests at once
FILES_PER_CHUNK = 16  # files that a thread checks before it pauses or ends
BACKGROUND_PAUSE_S = 0.05  # seconds between two chunks during training, which needs the processor more
MAX_SKIPPED_IMAGES, MAX_SKIPPED_FRACTION = 5, 0.01  # images that may be skipped: the larger limit counts
NEW_SUBFILE_TYPE_TAG, REDUCED_COPY_BIT = 254, 1  # TIFF's NewSubfileType, and its bit for reduced copies of a page


def exceeds_skip_limit(failed: int, total: int) -> bool:
    """Return whether so many images are unusable that skipping them would hide a mistake."""
    return failed > max(MAX_SKIPPED_IMAGES, MAX_SKIPPED_FRACTION * total)


def size_mismatch_text(own: tuple[int, int], partner: str, other: tuple[int, int]) -> str:
    """Return the error text for an image whose partner has another size."""
    return f"is {own[0]}x{own[1]}, but its partner {partner} is {other[0]}x{other[1]}"


class ImageHeader(NamedTuple):
    """The facts that a file states before its pixels; size is None if it does not state it."""

    size: tuple[int, int] | None = None  # width and height of the upright image
    frames: int = 1  # only the first is used


def read_header(path: str, max_pixels: int = DEFAULT_READ_OPTIONS.max_pixels, whole: bool = False) -> ImageHeader:
    """Return the header of an image file; raise DataError if it is not an image or is too large.

    whole: also read the metadata that a PNG stores after its pixels, which requires decoding them.
    """
    if path.lower().endswith((".npy", ".npz")) or demo.is_demo(path):
        return ImageHeader()
    try:
        with open_lazily(path, max_pixels) as image:
            sideways = read_orientation(image, whole) in SIDEWAYS
            return ImageHeader(image.size[::-1] if sideways else image.size, count_frames(image))
    except DataError:
        raise
    except MemoryError:  # reading the pixels will raise it again
        return ImageHeader()
    except Exception as problem:  # Pillow raises many types
        # Pillow does not know this kind of TIFF, but tifffile may
        if isinstance(problem, UnidentifiedImageError) and high_bit_depth.is_tiff(path):
            return ImageHeader()
        raise DataError("image", path, unreadable_reason(path, problem), "delete or replace it") from problem


def count_frames_in_file(path: str) -> int:
    """Return the number of frames in a file; 1 if it is unknown."""
    try:
        return read_header(path).frames
    except DataError:  # a data set may list names that are not files
        return 1


def count_frames(image: Image.Image) -> int:
    """Return the number of frames in an opened file, without previews (MPO) and reduced copies (TIFF)."""
    try:
        if image.format in ("MPO", "JPEG") or not getattr(image, "is_animated", False):
            return 1
        if image.format == "TIFF":
            image.seek(1)
            if image.tag_v2.get(NEW_SUBFILE_TYPE_TAG, 0) & REDUCED_COPY_BIT:  # type: ignore[attr-defined]
                return 1
        return image.n_frames  # type: ignore[attr-defined]
    except Exception:  # damage after the first frame raises many types; only the first is needed
        return 1


class HeaderCheck:
    """Check headers in threads: several for FOREGROUND_CHECK_S seconds, then one that pauses between chunks.

    groups: lists of files. Several lists in one group are the sides of pairs, whose sizes must be equal.
    """

    def __init__(self, groups: Sequence[Sequence[Paths]], root: str, skip_bad: bool,
                 max_pixels: int = DEFAULT_READ_OPTIONS.max_pixels):  # fmt: skip
        self.groups, self.root, self.skip_bad, self.max_pixels = groups, root, skip_bad, max_pixels
        self.total = sum(len(sides[0]) for sides in groups)
        self.problems: list[tuple[int, Problem]] = []
        self.frame_counts: dict[str, int] = {}  # number of frames of files with several
        self.done, self.reported = threading.Event(), threading.Event()  # all files checked; late problems reported
        self.in_background, self.stopped = threading.Event(), threading.Event()
        self._chunk_numbers, self._chunks_left, self._lock = count(), 0, threading.Lock()

    def start(self) -> None:
        """Check files for FOREGROUND_CHECK_S seconds, then go on in the background.

        Raises DataError for bad files, after listing them, unless they may be skipped.
        """
        if not self.total or demo.is_demo(self.root):
            self.done.set()
            return
        # Select the files that no earlier run has found sound.
        self._keys = (
            np.concatenate([_file_keys(sides) for sides in self.groups])
            if self.total >= index.MIN_INDEXED_FILES
            else None
        )
        self._pending = np.arange(self.total)
        if self._keys is not None:
            self._pending = np.flatnonzero(~np.isin(self._keys, index.load_sound_keys(self.root)))
        self._chunks_left = -(-len(self._pending) // FILES_PER_CHUNK)
        # Check them in threads.
        Image.init()  # import Pillow's formats here: workers may be forked while a thread imports
        if not self._chunks_left:
            self.done.set()
        threads = min(CHECK_THREADS, self._chunks_left)
        for number in range(threads):
            threading.Thread(target=self._run_thread, args=(number == 0,), name="check", daemon=True).start()
        # Wait for a limited time and report.
        self.done.wait(FOREGROUND_CHECK_S)
        with self._lock:  # from here on, the thread that checks the last file reports the problems
            self.in_background.set()
            problems, finished = self._sorted_problems(), self.done.is_set()
        self._raise_or_print(problems)
        if finished and self.frame_counts:
            print(self._multi_frame_note(), flush=True)

    def stop(self) -> None:
        """Stop the check soon, without waiting for a disk that may not answer."""
        self.stopped.set()

    def _raise_or_print(self, problems: list[Problem]) -> None:
        if self.skip_bad and not exceeds_skip_limit(len(problems), self.total):
            if problems:
                said = f"note: {len(problems)} of {self.total} images cannot be read and are skipped"
                print(said, *format_problems(problems), sep="\n", flush=True)
            return
        if problems:
            self.stop()
        remedy = "delete or replace it, or use --on_bad_image skip"
        if self.skip_bad:
            remedy = "delete or replace them: --on_bad_image skip accepts only a few"
        raise_if_any("image", problems, f"of {self.total} images", remedy)

    def _run_thread(self, runs_in_background: bool) -> None:
        for number in self._chunk_numbers:
            chunk = self._pending[number * FILES_PER_CHUNK : (number + 1) * FILES_PER_CHUNK]
            if not len(chunk):
                return
            for position in chunk:
                problem = self._check_file(int(position))
                if problem:
                    self.problems.append((int(position), problem))
                if self.stopped.is_set():
                    return
            self._finish_chunk()
            if self.in_background.is_set():
                if not runs_in_background:
                    return
                self.stopped.wait(BACKGROUND_PAUSE_S)

    def _finish_chunk(self) -> None:
        with self._lock:
            self._chunks_left -= 1
            if self._chunks_left:
                return
        self._save_sound_keys()
        with self._lock:
            self.done.set()
            in_background = self.in_background.is_set()
        if in_background and self.frame_counts:
            tqdm.write(self._multi_frame_note())
        if in_background and self.problems:
            problems = self._sorted_problems()
            named = ", ".join(f"{name} ({why})" for name, why in problems[:3]) + (", ..." if len(problems) > 3 else "")
            tqdm.write(printable(f"note: {len(problems)} of {self.total} images cannot be read: {named}"))
        self.reported.set()

    def _check_file(self, position: int) -> Problem | None:
        """Return the problem that the headers of a file or pair show, or None."""
        for sides in self.groups:
            if position < len(sides[0]):
                break
            position -= len(sides[0])
        paths = [side[position] for side in sides]
        try:
            headers = [read_header(path, self.max_pixels) for path in paths]
            if len({each.size for each in headers}) > 1:  # read whole PNGs: the orientation may come last
                headers = [read_header(path, self.max_pixels, whole=True) for path in paths]
        except DataError as problem:
            return str(problem.args[1]), str(problem.args[2])
        self.frame_counts |= {path: each.frames for path, each in zip(paths, headers, strict=True) if each.frames > 1}
        own, other = headers[0].size, headers[-1].size
        return (paths[0], size_mismatch_text(own, paths[-1], other)) if own and other and own != other else None

    def _multi_frame_note(self) -> str:
        """Return the note about files that hold several frames."""
        path = min(self.frame_counts)
        files = sum(len(side) for sides in self.groups for side in sides)
        return printable(f"note: {len(self.frame_counts)} of {files} images hold several frames, such as '{path}' "
                         f"({self.frame_counts[path]}): the first is used")  # fmt: skip

    def _sorted_problems(self) -> list[Problem]:
        return [problem for _, problem in sorted(self.problems)]

    def _save_sound_keys(self) -> None:
        if self._keys is not None:
            bad = np.array([position for position, _ in self.problems], dtype=np.int64)
            index.save_sound_keys(self.root, np.delete(self._keys, bad))


def _file_keys(sides: Sequence[Paths]) -> np.ndarray:
    """Return (N,) uint64 hashes of the names and sizes of each file or pair."""
    keys = np.empty(len(sides[0]), dtype=np.uint64)
    for i in range(len(keys)):
        keys[i] = hash64(b"/".join(b"%s %d" % (os.fsencode(side[i]), side.sizes[i]) for side in sides))
    return keys
