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

from data.decoding.header_check import read_header
from data.decoding.images import ReadOptions, open_image
from data.decoding.raster import to_array
from data.listing import zips
from tests.fuzz.mutations import mutated_file, sound_files
from util.errors import UserError, printable

CPU_LIMIT_S = 2.0  # of processor time that one picture may take
WALL_LIMIT_S = 60.0  # of any time: then it waits for something that never comes
MAX_PIXELS = 25_000_000  # --max_image_pixels: time and memory are at most in proportion
MAX_MEMORY_MB = 1000  # MB that a process may reach: 70 without any picture, and up to 27 bytes a pixel (APNG)
WARMUP_IMAGES = 500  # pictures after which a process has loaded what it needs
CHANNEL_COUNTS = (3, 3, 1, 4)
COLUMN_WIDTHS = {"read": 8, "refused": 9, "bad": 6}
Reader = Callable[[str, int], str]


def read_image(path: str, channels: int) -> str:
    """Return what becomes of a file: "read", or "refused" in one line that names it; raises AssertionError else."""
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
    # a PNG may say after its pixels, and damaged EXIF to one reader and not to another, that it lies on its side
    assert size in (None, picture.size, picture.size[::-1]), f"is of {picture.size}, by its header of {size}"
    array = to_array(picture)
    assert array.shape[2] == channels and array.size, f"has shape {array.shape}"
    return "read"


def check_error_line(problem: UserError, path: str) -> str:
    """Return an error's text; AssertionError if it is not one line that names the file, or its zip file."""
    text = str(problem)
    file_name = path if problem.args[0] == "image" else (zips.split_zip_path(path) or (path,))[0]
    assert "\n" not in text and printable(file_name) in text and "; " in text, f"the error is: {text!r}"
    return text


@dataclass
class FuzzReport:
    """What became of the pictures."""

    outcomes: Counter = field(default_factory=Counter)  # of (format, "read" | "refused" | "bad")
    bad: list[tuple[int, str]] = field(default_factory=list)  # (number, what happened)
    slowest: tuple[float, int] = (0.0, -1)  # (seconds of processor time, number)
    peak_mb: int = 0  # MB at most over one picture
    growth_mb: int = 0  # MB that a process holds more at its end than after WARMUP_IMAGES pictures


def fuzz(
    first: int, count: int, workers: int, keep: Path, reader: Reader = read_image, seconds: float = CPU_LIMIT_S
) -> FuzzReport:
    """Read pictures `first` to `first + count` in some processes; bad ones are written to `keep`."""
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

        for start in range(first, first + count, share):
            start_reader(range(start, min(first + count, start + share)))
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
                    start_reader(process_state.remaining[1:])  # it died over this one; the others are for a new process
                process_state.remaining = process_state.remaining[1:]
                process_state.track_memory(row, report)
                record_outcome(row, report, keep)
                bar.update()
    return report


class ImageOutcome(NamedTuple):
    """What became of one picture."""

    number: int
    outcome: str
    message: str = ""
    seconds: float = 0.0
    peak_mb: int = 0
    held_mb: int = 0


@dataclass
class ReaderProcess:
    """A process and the numbers that it has still to read."""

    process: Any
    remaining: range
    done: int = 0
    held_mb: int = 0

    def track_memory(self, row: ImageOutcome, report: FuzzReport) -> None:
        """Follow the memory that it holds."""
        self.done += 1
        if self.done == WARMUP_IMAGES:
            self.held_mb = row.held_mb
        elif self.done > WARMUP_IMAGES and row.held_mb:
            report.growth_mb = max(report.growth_mb, row.held_mb - self.held_mb)


def record_outcome(row: ImageOutcome, report: FuzzReport, keep: Path) -> None:
    """Count a picture; keep a bad one's file."""
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
    """Read pictures and send a Row of each."""
    for name in (signal.SIGPROF, signal.SIGALRM):  # end this process, also within a C library
        signal.signal(name, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff's own words
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # what is free goes back, and what is held shows
    for done, number in enumerate(numbers, 1):
        _, ending, data = mutated_file(number)
        path = Path(folder, f"{number}{ending}")
        path.write_bytes(data)
        path_to_read = image_path(path)
        trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        before = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
        try:
            outcome, message = reader(path_to_read, channel_count(number)), ""
        except BaseException as problem:  # whatever escapes is what is looked for
            outcome, message = "bad", f"{type(problem).__name__}: {problem}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        cpu_seconds = time.process_time() - before
        zips._open_archives.clear()  # else 1,000 files stay open
        path.unlink()
        peak_mb = memory_mb("VmHWM")
        if peak_mb > MAX_MEMORY_MB and outcome != "bad":
            outcome, message = "bad", f"took {peak_mb} MB"
        held_mb = 0
        if done in (WARMUP_IMAGES, len(numbers)):
            trim(0)
            held_mb = memory_mb("VmRSS")
        results.send(ImageOutcome(number, outcome, message, cpu_seconds, peak_mb, held_mb))
    results.close()


def channel_count(number: int) -> int:
    """Return in how many channels a picture is asked for."""
    return CHANNEL_COUNTS[number // len(sound_files()) % len(CHANNEL_COUNTS)]


def image_path(path: Path) -> str:
    """Return what is asked for: the file, or the first picture in a zip file that can be opened."""
    if path.suffix != ".zip":
        return str(path)
    try:
        return f"{path}/{next(iter(zips.list_members(str(path))))[0]}"
    except (UserError, StopIteration):
        return f"{path}/train/1.png"


def memory_mb(name: str) -> int:
    """Return one of the kernel's figures on this process's memory."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(name + ":")) >> 10


def exit_reason(code: int, seconds: float) -> str:
    """Return why a process ended."""
    if code == -signal.SIGPROF:
        return f"took more than {seconds} s of processor time"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended the process with {code}"


def read_one(number: int, keep: Path) -> None:
    """Keep one picture, and read it in this process, with its traceback."""
    kind, ending, data = mutated_file(number)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{number}{ending}"
    path.write_bytes(data)
    print(f"{path} ({kind}), asked for {channel_count(number)} channels", flush=True)
    print(read_image(image_path(path), channel_count(number)))


def main() -> int:
    """Read the pictures and print the table; 1 if there was a bad one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10_000, help="how many pictures")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_found"), help="where bad files are written")
    parser.add_argument("--only", type=int, help="read one picture again, with a traceback")
    args = parser.parse_args()
    if args.only is not None:
        read_one(args.only, args.keep)
        return 0
    report = fuzz(args.first, args.number, args.workers, args.keep)
    print(f"{'format':<8}{'read':>8}{'refused':>9}{'bad':>6}")
    for kind in sound_files():
        print(f"{kind:<8}" + "".join(f"{report.outcomes[kind, what]:>{n}}" for what, n in COLUMN_WIDTHS.items()))
    print(f"{args.number} pictures from {args.first} on: {len(report.bad)} bad; "
          f"peak {report.peak_mb} MB of {MAX_MEMORY_MB}, {report.growth_mb} MB held more at the end, "
          f"slowest {report.slowest[0]:.2f} s ({report.slowest[1]})")  # fmt: skip
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
