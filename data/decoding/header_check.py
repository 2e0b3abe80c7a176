"""Check the headers of all images before training, and in the background if there are many."""

import os
import threading
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.decoding import sound_files
from data.decoding.decoders import NUMPY_EXTENSIONS, identify, unreadable_reason
from data.decoding.images import DEFAULT_READ_OPTIONS, REPLACE_REMEDY
from data.decoding.orientation import SIDEWAYS, read_orientation
from data.listing.files import find_storage, open_binary
from data.listing.paths import Paths, hash64
from util.errors import DataError, Problem, format_problems, print_line, raise_if_any

MAX_PIXELS = DEFAULT_READ_OPTIONS.max_pixels  # of an image, by default
FOREGROUND_CHECK_S = 10.0  # seconds that training waits for the check
CHECK_THREADS = 8  # disks and network drives answer several requests at once
BACKGROUND_PAUSE_S = 0.003  # seconds between two files during training, which needs the processor more
SAVE_EVERY = 20_000  # files checked in the background between two saves of what is known
MAX_COMPARED_PAGES = 64  # of a TIFF
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
    frames: int = 1
    kind: str = ""  # of DECODERS
    can_stack: bool = False  # whether it has several pages of one channel and one size, which may become channels

    def has_unused_frames(self, channels: Collection[int]) -> bool:
        """Whether only the first of several frames is used; channels: the numbers that the sides of the run have.

        Pages of a TIFF become channels if there are as many; with 8 bits, grey and RGB take the first page.
        """
        pages_are_channels = self.can_stack and self.frames in channels and (self.frames != 3 or self.kind == "TIFF")
        return self.frames > 1 and not pages_are_channels


def read_header(path: str, max_pixels: int = MAX_PIXELS, whole: bool = False) -> ImageHeader:
    """Return the header of an image file; raise DataError if it is not an image or is too large.

    whole: also read the metadata that a PNG stores after its pixels, which requires decoding them.
    """
    if path.lower().endswith(NUMPY_EXTENSIONS):
        return ImageHeader()
    try:
        with open_binary(path) as file:
            source = identify(file, path, max_pixels)
            image = source.image
            if image is None:  # a kind of TIFF that Pillow does not know
                return ImageHeader()
            sideways = read_orientation(image, whole) in SIDEWAYS
            size, frames = image.size[::-1] if sideways else image.size, count_frames(image)
            return ImageHeader(size, frames, source.kind, frames > 1 and _pages_can_stack(image, frames))
    except DataError:
        raise
    except MemoryError:  # reading the pixels will raise it again
        return ImageHeader()
    except Exception as problem:  # Pillow raises many types
        raise DataError("image", path, unreadable_reason(path, problem), REPLACE_REMEDY) from problem


def count_unused_frames(path: str, channels: Collection[int]) -> int:
    """Return the number of frames in a file of which only the first is used; 0 if all are, or if it is unknown."""
    try:
        header = read_header(path)
    except DataError:  # a data set may list names that are not files
        return 0
    return header.frames if header.has_unused_frames(channels) else 0


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


def _pages_can_stack(image: Image.Image, frames: int) -> bool:
    """Return whether a TIFF's pages have one channel each and, as far as they are compared, one size and type."""
    if image.format != "TIFF" or len(image.getbands()) != 1:
        return False
    kinds = set()
    try:
        for page in range(min(frames, MAX_COMPARED_PAGES)):
            image.seek(page)
            kinds.add((image.size, image.mode))
    except Exception:  # damage after the first page raises many types
        return False
    return len(kinds) == 1


class HeaderCheck:
    """Check headers in threads: several for FOREGROUND_CHECK_S seconds, then one that pauses between files.

    groups: lists of files. Several lists in one group are the sides of pairs, whose sizes must be equal. channels: the
    numbers of channels of the lists in order, or of the halves of their images.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Paths]],
        root: str,
        skip_bad: bool,
        max_pixels: int = MAX_PIXELS,
        channels: Collection[int] = (),
    ):
        self.groups, self.root, self.skip_bad, self.max_pixels = groups, root, skip_bad, max_pixels
        lists = sum(len(sides) for sides in groups)
        of_lists = iter([{own} for own in channels] if len(channels) == lists else [set(channels)] * lists)
        self.channels = [[next(of_lists) for _ in sides] for sides in groups]
        self.total = sum(len(sides[0]) for sides in groups)
        self.problems: list[tuple[int, Problem]] = []  # with the position of the file or pair
        self.frame_counts: dict[str, int] = {}  # number of frames of files of which only the first is used
        self.stacks: list[str] = []  # files whose three pages are read as colours, but may be slices
        self.done, self.reported = threading.Event(), threading.Event()  # all files checked; late problems reported
        self.in_background, self.stopped = threading.Event(), threading.Event()
        self._noted: set[int] = set()  # positions of the files in these two: the next run tells them again
        self._lock = threading.Lock()

    def start(self) -> None:
        """Check files for FOREGROUND_CHECK_S seconds, then go on in the background.

        Raises DataError for bad files, after listing them, unless they may be skipped.
        """
        if not self.total or find_storage(self.root).checks_late:
            self.done.set()
            return
        # Select the files that no earlier run has found sound.
        self._keys = _file_keys(self.groups, self.total) if self.total >= sound_files.MIN_REMEMBERED_FILES else None
        pending = np.arange(self.total)
        if self._keys is not None:
            pending = np.flatnonzero(~np.isin(self._keys, sound_files.load_sound_keys(self.root)))
        self._sound = np.ones(self.total, dtype=bool)  # False: bad, or not checked
        self._sound[pending] = False
        # Check them in threads.
        Image.init()  # import Pillow's formats here: workers may be forked while a thread imports
        self._positions, self._left = iter(pending.tolist()), len(pending)  # threads may share a list's iterator
        if not self._left:
            self.done.set()
        for number in range(min(CHECK_THREADS, len(pending))):
            threading.Thread(target=self._run_thread, args=(number == 0,), name="check", daemon=True).start()
        # Wait for a limited time and report.
        self.done.wait(FOREGROUND_CHECK_S)
        with self._lock:  # from here on, the thread that checks the last file reports the problems
            self.in_background.set()
            problems, finished = self._sorted_problems(), self.done.is_set()
        if not finished:  # the run may end before the check does
            self._remember()
        self._raise_or_print(problems)
        if finished:
            self._print_frame_notes()

    def stop(self) -> None:
        """Stop the check soon, without waiting for a disk that may not answer."""
        self.stopped.set()

    def _raise_or_print(self, problems: list[Problem]) -> None:
        if problems and self.skip_bad and not exceeds_skip_limit(len(problems), self.total):
            said = f"note: {len(problems)} of {self.total} images cannot be read and are skipped"
            print_line(said, *format_problems(problems))
        elif problems:
            self.stop()
            several = "delete or replace them: --on_bad_image skip accepts only a few"
            remedy = several if self.skip_bad else "delete or replace it, or use --on_bad_image skip"
            raise_if_any("image", problems, f"of {self.total} images", remedy)

    def _run_thread(self, runs_in_background: bool) -> None:
        for position in self._positions:
            if problem := self._check_file(position):
                self.problems.append((position, problem))
            self._sound[position] = problem is None and position not in self._noted
            if self.stopped.is_set():
                if runs_in_background:
                    self._remember()
                return
            with self._lock:
                self._left -= 1
                left = self._left
            if not left:
                self._finish()
            if self.in_background.is_set():
                if not runs_in_background:
                    return
                if left and left % SAVE_EVERY == 0:
                    self._remember()
                self.stopped.wait(BACKGROUND_PAUSE_S)

    def _finish(self) -> None:
        """Save which files are sound, and report what `start` no longer does."""
        self._remember()
        with self._lock:
            self.done.set()
            in_background = self.in_background.is_set()
        if in_background:
            self._print_frame_notes()
        if in_background and self.problems:
            problems = self._sorted_problems()
            named = ", ".join(f"{name} ({why})" for name, why in problems[:3]) + (", ..." if len(problems) > 3 else "")
            print_line(f"note: {len(problems)} of {self.total} images cannot be read: {named}")
        self.reported.set()

    def _remember(self) -> None:
        """Save which files are known to be sound, so that later runs do not check them."""
        if self._keys is not None:
            sound = self._sound.copy()  # a mask that changes while NumPy selects by it would overrun the result
            sound_files.save_sound_keys(self.root, self._keys[sound])

    def _check_file(self, position: int) -> Problem | None:
        """Return the problem that the headers of a file or pair show, or None."""
        group, place = 0, position
        while place >= len(self.groups[group][0]):
            place -= len(self.groups[group][0])
            group += 1
        sides, channels = self.groups[group], self.channels[group]
        paths = [side[place] for side in sides]
        try:
            headers = [read_header(path, self.max_pixels) for path in paths]
            if len({each.size for each in headers}) > 1:  # read whole PNGs: the orientation may come last
                headers = [read_header(path, self.max_pixels, whole=True) for path in paths]
        except DataError as problem:
            return str(problem.args[1]), str(problem.args[2])
        for path, header, own in zip(paths, headers, channels, strict=True):
            if header.has_unused_frames(own):
                self.frame_counts[path] = header.frames
            elif header.frames == 3 and own == {3}:
                self.stacks.append(path)
            else:
                continue
            self._noted.add(position)
        known = [(path, header.size) for path, header in zip(paths, headers, strict=True) if header.size]
        unequal = [(path, size) for path, size in known if size != known[0][1]]
        return (known[0][0], size_mismatch_text(known[0][1], *unequal[0])) if unequal else None

    def _print_frame_notes(self) -> None:
        files = sum(len(side) for sides in self.groups for side in sides)
        if self.frame_counts:
            path, several = min(self.frame_counts), f"{len(self.frame_counts)} of {files} images hold several frames"
            print_line(f"note: {several}, such as '{path}' ({self.frame_counts[path]}): the first is used")
        if self.stacks:
            several = f"{len(self.stacks)} of {files} images have 3 pages, such as '{min(self.stacks)}'"
            print_line(f"note: {several}: they are read as 3 channels; if they are slices, save one image per file")

    def _sorted_problems(self) -> list[Problem]:
        return [problem for _, problem in sorted(self.problems)]


def _file_keys(groups: Sequence[Sequence[Paths]], total: int) -> np.ndarray:
    """Return (total,) uint64 hashes of the names and sizes of each file or pair."""
    rows = ([(side[i], side.sizes[i]) for side in sides] for sides in groups for i in range(len(sides[0])))
    names = (b"/".join(b"%s %d" % (os.fsencode(path), size) for path, size in row) for row in rows)
    return np.fromiter(map(hash64, names), np.uint64, total)
