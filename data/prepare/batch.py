"""Write many files in parallel and count them; each file is written completely or not at all."""

import argparse
import contextlib
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from util.disk_space import DISK_FULL_ERRNOS, ERRNO_REMEDIES
from util.errors import DataError, EnvironmentFault, OptionError, count_text, print_line

MAX_LISTED_NAMES = 10  # names listed in a message
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """A file to write: write(path) creates it under a temporary name. The source is deleted only if `move_source`."""

    target: Path
    source: Path
    write: Callable[[Path], object]
    move_source: bool = False


def format_names(names: Iterable[object]) -> str:
    """Return the first ten names and the number of the others: "a, b and 3 more"."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - MAX_LISTED_NAMES} more" if len(texts) > MAX_LISTED_NAMES else ""
    return ", ".join(texts[:MAX_LISTED_NAMES]) + more


def map_in_threads(
    work: Callable[[Item], Result], items: list[Item], threads: int, label: str
) -> Iterator[tuple[Item, Result | DataError]]:
    """Yield (item, work(item)) in order from `threads` threads, with a bar on a terminal; yields DataErrors, too."""
    bar = tqdm(total=len(items), desc=label, unit="file", disable=None, dynamic_ncols=True, leave=False)
    prints_progress = not sys.stderr.isatty() and len(items) >= 1000
    pending: deque[tuple[Item, Future]] = deque()
    upcoming = iter(items)
    with ThreadPoolExecutor(threads) as pool, bar:
        try:
            for number in range(1, len(items) + 1):
                next_items = islice(upcoming, 4 * threads - len(pending))  # bounded, so that results do not pile up
                pending.extend((item, pool.submit(work, item)) for item in next_items)
                item, future = pending.popleft()
                problem = future.exception()
                if problem is not None and not isinstance(problem, DataError):
                    raise problem
                bar.update()
                if prints_progress and number * 10 // len(items) > (number - 1) * 10 // len(items):
                    print_line(f"{label}: {number} of {len(items)}")
                yield item, problem or future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def skippable_error(problem: DataError, more: str) -> DataError:
    """Return the error for a bad image, with --on_bad_image added to its remedy and `more` in brackets."""
    thing, name, why, remedy = problem.args
    return DataError(thing, name, why, f"{remedy}, or use --on_bad_image skip ({more})")


def check_targets(tasks: list[Task]) -> None:
    """Raise DataError if two tasks have the same target, OptionError if a target is a source."""
    sources = {os.path.realpath(task.source) for task in tasks}
    by_target: dict[Path, Task] = {}
    for task in tasks:
        if task.target in by_target:
            why = f"'{by_target[task.target].source}' and '{task.source}' would both be written to it"
            raise DataError("file", task.target, why, "rename one")
        if os.path.realpath(task.target) in sources:
            raise OptionError("file", task.target, "would overwrite an input image", "write elsewhere")
        by_target[task.target] = task


def run_tasks(tasks: list[Task], o: argparse.Namespace, folder: Path, skipped: list[str] | None = None) -> None:
    """Write the files of all tasks and print their number; existing files are kept unless o.overwrite.

    skipped: lines about images already known to be bad. Raises DataError for a bad image unless o.on_bad_image is
    "skip".
    """
    # Select the files to write.
    check_targets(tasks)
    failed = list(skipped or [])
    todo = [task for task in tasks if o.overwrite or not os.path.lexists(task.target)]
    existing = len(tasks) - len(todo)

    # Write them, or list them.
    if o.dry_run:
        for task in todo[:MAX_LISTED_NAMES]:
            print_line(f"would write {task.target}")
        if len(todo) > MAX_LISTED_NAMES:
            print_line(f"would write {len(todo) - MAX_LISTED_NAMES} more")
    written = 0
    for _, problem in () if o.dry_run else map_in_threads(_run_task, todo, o.num_threads, "writing"):
        if problem is None:
            written += 1
        elif o.on_bad_image == "stop":
            raise skippable_error(problem, f"{count_text(written, 'file')} written before it")
        else:
            failed.append(f"{problem.args[1]}: {problem.args[2]}")

    # Report.
    for line in failed[:MAX_LISTED_NAMES]:
        print_line(f"skipped: {line}")
    if failed and not written and not existing and not o.dry_run:
        raise DataError("folder", folder, f"nothing was written: all {len(failed)} are bad", "see the lines above")
    count = f"{len(todo)} would be written" if o.dry_run else f"{written} written"
    notes = [f"{existing} already existed (--overwrite replaces them)"] if existing else []
    notes += [f"{len(failed)} skipped"] if failed else []
    print_line(f"{count} to {folder}{''.join(f', {note}' for note in notes)}")


def _run_task(task: Task) -> None:
    """Run one task; other processes see the old file or the complete new one."""
    name = hashlib.blake2b(os.fsencode(task.target.name), digest_size=8).hexdigest()  # the name may have 255 bytes
    temporary = task.target.with_name(f".{name}.tmp")
    try:
        task.target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # left by a killed command
        task.write(temporary)
        os.replace(temporary, task.target)
        if task.move_source:
            task.source.unlink()
    except DataError as problem:
        thing, name, why, remedy = problem.args
        if name != str(temporary):
            raise
        raise DataError(thing, task.target, why, remedy) from problem
    except OSError as problem:
        code = problem.errno or 0
        room = "free space there or write elsewhere"
        remedy = room if code in DISK_FULL_ERRNOS else ERRNO_REMEDIES.get(code, "write elsewhere")
        if problem.filename == str(task.source):
            raise DataError("image", task.source, f"cannot be read ({problem.strerror})", "check the file") from problem
        why = f"cannot be written ({problem.strerror or problem})"
        raise EnvironmentFault("file", task.target, why, remedy) from problem
    finally:
        with contextlib.suppress(OSError):  # an earlier error is more important
            temporary.unlink(missing_ok=True)
