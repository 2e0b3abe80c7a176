"""Read thousands of spoilt picture files: none may crash, hang, fill the memory, or fail in more than one line.

Each picture is a pure function of its number (tests/fuzz/mutations.py), read by processes of their own: its header as
before a training, then whole, in 1, 3 or 4 channels. Bad are: a process that dies, more than 2 s of its own processor
time for one picture, a peak memory above the bound by the kernel's count, an error that is not one line naming the
file, and a sound picture that the look at headers refuses or measures otherwise. Bad files are kept, with the command
that makes each again.

Usage: python tests/fuzz/fuzz.py [--number 10000] [--first 0] [--workers 2] [--keep fuzz_found] | --only NUMBER
"""

import argparse
import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tqdm import tqdm

from data.decoding.header_check import header
from data.decoding.images import Reading as How
from data.decoding.images import open_image
from data.decoding.raster import pixels
from data.listing import zips
from tests.fuzz.mutations import mutated, sources
from util.errors import UserError, printable

SECONDS = 2.0  # of processor time that one picture may take
PATIENCE = 60.0  # of any time: then it waits for something that never comes
PIXELS = 25_000_000  # --max_image_pixels: time and memory are at most in proportion
MEMORY = 1000  # MB that a process may reach: 70 without any picture, and up to 27 bytes a pixel (APNG)
WARM = 500  # pictures after which a process has loaded what it needs
CHANNELS = (3, 3, 1, 4)
COLUMNS = {"read": 8, "refused": 9, "bad": 6}
Reader = Callable[[str, int], str]


def read(path: str, channels: int) -> str:
    """Return what becomes of a file: "read", or "refused" in one line that names it; raises AssertionError else."""
    try:
        size, refusal = header(path, PIXELS).size, ""
    except UserError as problem:
        size, refusal = None, one_line(problem, path)
    try:
        picture = open_image(path, channels, How(max_pixels=PIXELS))
    except UserError as problem:
        one_line(problem, path)
        return "refused"
    assert not refusal, f"can be read, but its header is refused: {refusal}"
    # a PNG may say after its pixels, and damaged EXIF to one reader and not to another, that it lies on its side
    assert size in (None, picture.size, picture.size[::-1]), f"is of {picture.size}, by its header of {size}"
    array = pixels(picture)
    assert array.shape[2] == channels and array.size, f"has shape {array.shape}"
    return "read"


def one_line(problem: UserError, path: str) -> str:
    """Return an error's text; AssertionError if it is not one line that names the file, or its zip file."""
    text = str(problem)
    named = path if problem.args[0] == "image" else (zips.split(path) or (path,))[0]
    assert "\n" not in text and printable(named) in text and "; " in text, f"the error is: {text!r}"
    return text


@dataclass
class Found:
    """What became of the pictures."""

    outcomes: Counter = field(default_factory=Counter)  # of (format, "read" | "refused" | "bad")
    bad: list[tuple[int, str]] = field(default_factory=list)  # (number, what happened)
    slowest: tuple[float, int] = (0.0, -1)  # (seconds of processor time, number)
    peak: int = 0  # MB at most over one picture
    growth: int = 0  # MB that a process holds more at its end than after WARM pictures


def fuzz(first: int, count: int, workers: int, keep: Path, reader: Reader = read, seconds: float = SECONDS) -> Found:
    """Read pictures `first` to `first + count` in some processes; bad ones are written to `keep`."""
    found, share = Found(), -(-count // workers)
    running: dict[Any, Reading] = {}
    with tempfile.TemporaryDirectory() as folder, tqdm(total=count, unit=" pictures", disable=None) as bar:

        def begin(numbers: range) -> None:
            if numbers:
                results, theirs = multiprocessing.Pipe(duplex=False)
                arguments = theirs, numbers, folder, reader, seconds
                process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
                process.start()
                theirs.close()
                running[results] = Reading(process, numbers)

        for start in range(first, first + count, share):
            begin(range(start, min(first + count, start + share)))
        while running:
            for results in cast(list[Any], wait(list(running))):
                reading = running[results]
                try:
                    row: Row = results.recv()
                except EOFError:
                    running.pop(results).process.join()
                    if not reading.left:
                        continue
                    code = reading.process.exitcode
                    row = Row(reading.left[0], "bad", died(code, seconds), seconds if code == -signal.SIGPROF else 0)
                    begin(reading.left[1:])  # it died over this one; the others are for a new process
                reading.left = reading.left[1:]
                reading.note(row, found)
                note(row, found, keep)
                bar.update()
    return found


class Row(NamedTuple):
    """What became of one picture."""

    number: int
    outcome: str
    said: str = ""
    seconds: float = 0.0
    peak: int = 0
    held: int = 0


@dataclass
class Reading:
    """A process and the numbers that it has still to read."""

    process: Any
    left: range
    done: int = 0
    held: int = 0

    def note(self, row: Row, found: Found) -> None:
        """Follow the memory that it holds."""
        self.done += 1
        if self.done == WARM:
            self.held = row.held
        elif self.done > WARM and row.held:
            found.growth = max(found.growth, row.held - self.held)


def note(row: Row, found: Found, keep: Path) -> None:
    """Count a picture; keep a bad one's file."""
    kind, ending, data = mutated(row.number)
    found.outcomes[kind, row.outcome] += 1
    found.slowest = max(found.slowest, (row.seconds, row.number))
    found.peak = max(found.peak, row.peak)
    if row.outcome == "bad":
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{row.number}{ending}").write_bytes(data)
        found.bad.append((row.number, row.said))
        again = f"python tests/fuzz/fuzz.py --only {row.number}"
        tqdm.write(printable(f"{keep / f'{row.number}{ending}'}: {row.said[:300]}; {again}"))


def work(results: Connection, numbers: range, folder: str, reader: Reader, seconds: float) -> None:
    """Read pictures and send a Row of each."""
    for name in (signal.SIGPROF, signal.SIGALRM):  # end this process, also within a C library
        signal.signal(name, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff's own words
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # what is free goes back, and what is held shows
    for done, number in enumerate(numbers, 1):
        _, ending, data = mutated(number)
        path = Path(folder, f"{number}{ending}")
        path.write_bytes(data)
        asked = inside(path)
        trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        before = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            outcome, said = reader(asked, channels_of(number)), ""
        except BaseException as problem:  # whatever escapes is what is looked for
            outcome, said = "bad", f"{type(problem).__name__}: {problem}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        used = time.process_time() - before
        zips._open.clear()  # else 1,000 files stay open
        path.unlink()
        peak = in_mb("VmHWM")
        if peak > MEMORY and outcome != "bad":
            outcome, said = "bad", f"took {peak} MB"
        held = 0
        if done in (WARM, len(numbers)):
            trim(0)
            held = in_mb("VmRSS")
        results.send(Row(number, outcome, said, used, peak, held))
    results.close()


def channels_of(number: int) -> int:
    """Return in how many channels a picture is asked for."""
    return CHANNELS[number // len(sources()) % len(CHANNELS)]


def inside(path: Path) -> str:
    """Return what is asked for: the file, or the first picture in a zip file that can be opened."""
    if path.suffix != ".zip":
        return str(path)
    try:
        return f"{path}/{next(iter(zips.names(str(path))))[0]}"
    except (UserError, StopIteration):
        return f"{path}/train/1.png"


def in_mb(name: str) -> int:
    """Return one of the kernel's figures on this process's memory."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(name + ":")) >> 10


def died(code: int, seconds: float) -> str:
    """Return why a process ended."""
    if code == -signal.SIGPROF:
        return f"took more than {seconds} s of processor time"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended the process with {code}"


def one(number: int, keep: Path) -> None:
    """Keep one picture, and read it in this process, with its traceback."""
    kind, ending, data = mutated(number)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{number}{ending}"
    path.write_bytes(data)
    print(f"{path} ({kind}), asked for {channels_of(number)} channels", flush=True)
    print(read(inside(path), channels_of(number)))


def main() -> int:
    """Read the pictures and print the table; 1 if there was a bad one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10_000, help="how many pictures")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_found"), help="where bad files are written")
    parser.add_argument("--only", type=int, help="read one picture again, with a traceback")
    given = parser.parse_args()
    if given.only is not None:
        one(given.only, given.keep)
        return 0
    found = fuzz(given.first, given.number, given.workers, given.keep)
    print(f"{'format':<8}{'read':>8}{'refused':>9}{'bad':>6}")
    for kind in sources():
        print(f"{kind:<8}" + "".join(f"{found.outcomes[kind, what]:>{n}}" for what, n in COLUMNS.items()))
    print(f"{given.number} pictures from {given.first} on: {len(found.bad)} bad; peak {found.peak} MB of {MEMORY}, "
          f"{found.growth} MB held more at the end, slowest {found.slowest[0]:.2f} s ({found.slowest[1]})")  # fmt: skip
    return 1 if found.bad else 0


if __name__ == "__main__":
    sys.exit(main())
