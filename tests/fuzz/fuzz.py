"""Read thousands of damaged image files; none may crash, hang, fill the memory, or raise an error of several lines.

Each image is a pure function of its number (tests/fuzz/mutations.py). Child processes read its header, as train.py does
before a training, and then the whole image in 1, 3 or 4 channels. A file counts as bad if the process dies, uses more
than 2 s of CPU time for it, or exceeds the limit of peak memory as the kernel counts it; if the error is not one line
that names the file; or if the image can be read but its header check refuses it or gives another size. Bad files are
kept, and the command that makes each again is printed.

Usage: python tests/fuzz/fuzz.py [--number 10000] [--first 0] [--workers 2] [--keep fuzz_found] | --only NUMBER
"""

import argparse
import ctypes
import multiprocessing
import os
import re
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

from data.decoding.header_check import read_header
from data.decoding.images import ReadOptions, open_image
from data.decoding.raster import to_array
from data.listing import zips
from tests.fuzz.mutations import mutated_file, sound_files
from util.errors import UserError, printable

CPU_LIMIT_S = 2.0  # CPU time for one image
WALL_LIMIT_S = 60.0  # wall time for one image; a process that takes longer waits for something that never comes
MAX_PIXELS = 25_000_000  # --max_image_pixels; time and memory are at most proportional to it
MAX_MEMORY_MB = 930  # of a process, beyond what it has at its start; an APNG takes up to 27 bytes per pixel
WARMUP_IMAGES = 500  # images after which a process has loaded all that it needs
CHANNEL_COUNTS = (3, 3, 1, 4)
COLUMN_WIDTHS = {"read": 8, "refused": 9, "bad": 6}
Reader = Callable[[str, int], str]


def read_image(path: str, channels: int) -> str:
    """Read a file; return "read", or "refused" after an error of one line that names it, else raise AssertionError."""
    try:
        size, refusal = read_header(path, MAX_PIXELS).size, ""
    except UserError as problem:
        size, refusal = None, check_error_line(problem, path)
    try:
        picture = open_image(path, channels, ReadOptions(max_pixels=MAX_PIXELS))
    except UserError as problem:
        check_error_line(problem, path)
        return "refused"
    assert not refusal, f"can be read, but its header is refused: {refusal}"
    # Width and height may be swapped: a PNG may have its orientation after the pixels, which the header check does not
    # reach, and readers interpret damaged EXIF differently.
    assert size in (None, picture.size, picture.size[::-1]), f"is of {picture.size}, by its header of {size}"
    array = to_array(picture)
    assert array.shape[2] == channels and array.size, f"has shape {array.shape}"
    return "read"


def check_error_line(problem: UserError, path: str) -> str:
    """Return an error's text; raise AssertionError if it is not one line that names the file or its zip file."""
    text = str(problem)
    file_name = path if problem.args[0] == "image" else re.sub(r"(?<=\.zip)/.*", "", path)
    assert "\n" not in text and printable(file_name) in text and "; " in text, f"the error is: {text!r}"
    return text


@dataclass
class FuzzReport:
    """The outcomes of all images."""

    outcomes: Counter = field(default_factory=Counter)  # of (format, "read" | "refused" | "bad")
    bad: list[tuple[int, str]] = field(default_factory=list)  # (number, message)
    slowest: tuple[float, int] = (0.0, -1)  # (seconds of CPU time, number)
    peak_mb: int = 0  # the largest peak of one image
    growth_mb: int = 0  # the largest growth of a process's memory from WARMUP_IMAGES images to its end


def fuzz(
    first: int, count: int, workers: int, keep: Path, reader: Reader = read_image, seconds: float = CPU_LIMIT_S
) -> FuzzReport:
    """Read the images `first` to `first + count - 1` in `workers` processes; write bad ones to `keep`."""
    report, share = FuzzReport(), -(-count // workers)
    running: dict[Any, ReaderProcess] = {}
    with tempfile.TemporaryDirectory() as folder, tqdm(total=count, unit=" pictures", disable=None) as bar:

        def start_reader(numbers: range) -> None:
            if numbers:
                results, sender = multiprocessing.Pipe(duplex=False)
                arguments = sender, numbers, folder, reader, seconds
                process = multiprocessing.get_context("fork").Process(target=run_reader, args=arguments)
                process.start()
                sender.close()
                running[results] = ReaderProcess(process, numbers)

        # Start the workers.
        for start in range(first, first + count, share):
            start_reader(range(start, min(first + count, start + share)))

        # Collect their results; replace a worker that died.
        while running:
            for results in cast(list[Any], wait(list(running))):
                process_state = running[results]
                try:
                    row: ImageOutcome = results.recv()
                except EOFError:
                    running.pop(results).process.join()
                    if not process_state.remaining:
                        continue
                    code = process_state.process.exitcode
                    row = ImageOutcome(
                        process_state.remaining[0],
                        "bad",
                        exit_reason(code, seconds),
                        seconds if code == -signal.SIGPROF else 0,
                    )
                    start_reader(process_state.remaining[1:])  # the first one killed the worker; a new one continues
                process_state.remaining = process_state.remaining[1:]
                process_state.track_memory(row, report)
                record_outcome(row, report, keep)
                bar.update()
    return report


class ImageOutcome(NamedTuple):
    """The outcome of one image."""

    number: int
    outcome: str
    message: str = ""
    seconds: float = 0.0
    peak_mb: int = 0
    held_mb: int = 0


@dataclass
class ReaderProcess:
    """A worker process and the numbers that it has not read yet."""

    process: Any
    remaining: range
    done: int = 0
    held_mb: int = 0

    def track_memory(self, row: ImageOutcome, report: FuzzReport) -> None:
        """Update the growth of the memory that the process holds."""
        self.done += 1
        if self.done == WARMUP_IMAGES:
            self.held_mb = row.held_mb
        elif self.done > WARMUP_IMAGES and row.held_mb:
            report.growth_mb = max(report.growth_mb, row.held_mb - self.held_mb)


def record_outcome(row: ImageOutcome, report: FuzzReport, keep: Path) -> None:
    """Count an outcome; keep the file of a bad one."""
    kind, ending, data = mutated_file(row.number)
    report.outcomes[kind, row.outcome] += 1
    report.slowest = max(report.slowest, (row.seconds, row.number))
    report.peak_mb = max(report.peak_mb, row.peak_mb)
    if row.outcome == "bad":
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{row.number}{ending}").write_bytes(data)
        report.bad.append((row.number, row.message))
        command = f"python tests/fuzz/fuzz.py --only {row.number}"
        tqdm.write(printable(f"{keep / f'{row.number}{ending}'}: {row.message[:300]}; {command}"))


def run_reader(results: Connection, numbers: range, folder: str, reader: Reader, seconds: float) -> None:
    """Read images and send an ImageOutcome for each."""
    for name in (signal.SIGPROF, signal.SIGALRM):  # the default action also ends a process inside a C library
        signal.signal(name, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hides libtiff's messages
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # returns free memory, so that VmRSS shows leaks
    trim(0)
    start_mb = memory_mb("VmRSS")  # what a process that has done other things leaves to its children is much
    for done, number in enumerate(numbers, 1):
        # Write the file.
        _, ending, data = mutated_file(number)
        path = Path(folder, f"{number}{ending}")
        path.write_bytes(data)
        path_to_read = image_path(path)
        trim(0)

        # Read it within the limits.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak memory
        before = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
        try:
            outcome, message = reader(path_to_read, channel_count(number)), ""
        except BaseException as problem:  # any exception that escapes is a finding
            outcome, message = "bad", f"{type(problem).__name__}: {problem}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        cpu_seconds = time.process_time() - before

        # Send the outcome.
        zips._open_zips.clear()  # otherwise 1,000 files stay open
        path.unlink()
        peak_mb = memory_mb("VmHWM") - start_mb
        if peak_mb > MAX_MEMORY_MB and outcome != "bad":
            outcome, message = "bad", f"took {peak_mb} MB"
        held_mb = 0
        if done in (WARMUP_IMAGES, len(numbers)):
            trim(0)
            held_mb = memory_mb("VmRSS")
        results.send(ImageOutcome(number, outcome, message, cpu_seconds, peak_mb, held_mb))
    results.close()


def channel_count(number: int) -> int:
    """Return the number of channels in which image `number` is read."""
    return CHANNEL_COUNTS[number // len(sound_files()) % len(CHANNEL_COUNTS)]


def image_path(path: Path) -> str:
    """Return the path to read: the file, or the first image in a zip file that can be opened."""
    if path.suffix != ".zip":
        return str(path)
    try:
        archive = zips.open_zip(str(path)).archive
        return f"{path}/{min(name for name in archive.NameToInfo if not zips.HIDDEN.search(name))}"
    except (UserError, ValueError):
        return f"{path}/train/1.png"


def memory_mb(name: str) -> int:
    """Return a value of /proc/self/status, for example VmRSS, in MB."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(name + ":")) >> 10


def exit_reason(code: int, seconds: float) -> str:
    """Return why a process ended; code: its exit code, the negative number of a signal."""
    if code == -signal.SIGPROF:
        return f"took more than {seconds} s of CPU time"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended the process with {code}"


def read_one(number: int, keep: Path) -> None:
    """Write one image to `keep` and read it in this process, with its traceback."""
    kind, ending, data = mutated_file(number)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{number}{ending}"
    path.write_bytes(data)
    print(f"{path} ({kind}), read in {channel_count(number)} channels", flush=True)
    print(read_image(image_path(path), channel_count(number)))


def main() -> int:
    """Read the images and print a table; return 1 if one was bad, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10_000, help="number of images")
    parser.add_argument("--first", type=int, default=0, help="number of the first image")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="number of processes")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_found"), help="where bad files are written")
    parser.add_argument("--only", type=int, help="read one image again, with a traceback")
    args = parser.parse_args()
    if args.only is not None:
        read_one(args.only, args.keep)
        return 0
    report = fuzz(args.first, args.number, args.workers, args.keep)
    print(f"{'format':<8}{'read':>8}{'refused':>9}{'bad':>6}")
    for kind in sound_files():
        print(f"{kind:<8}" + "".join(f"{report.outcomes[kind, what]:>{n}}" for what, n in COLUMN_WIDTHS.items()))
    print(
        f"{args.number} images from {args.first} on: {len(report.bad)} bad; "
        f"peak {report.peak_mb} MB of {MAX_MEMORY_MB}, {report.growth_mb} MB growth, "
        f"slowest {report.slowest[0]:.2f} s ({report.slowest[1]})"
    )
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
