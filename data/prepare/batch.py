"""Write many files: several at once, counted, each of them whole or not there at all."""

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

from util.disk_space import FULL, REMEDIES
from util.errors import DataError, EnvironmentFault, OptionError, say

SHOWN = 10  # names in a message
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Task:
    """A file to write: write(path) makes it under another name, from source, which stays; or goes, if it `moves`."""

    target: Path
    source: Path
    write: Callable[[Path], None]
    moves: bool = False


def some(names: Iterable[object]) -> str:
    """Return the first ten of some names, and how many more there are: "a, b and 3 more"."""
    every = [str(name) for name in names]
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")


def each(
    work: Callable[[Item], Result], items: list[Item], threads: int, label: str
) -> Iterator[tuple[Item, Result | DataError]]:
    """Yield (item, work(item)) in order, `threads` at once, with a bar on a terminal; a DataError is yielded too."""
    bar = tqdm(total=len(items), desc=label, unit="file", disable=None, dynamic_ncols=True, leave=False)
    plain = not sys.stderr.isatty() and len(items) >= 1000
    waiting: deque[tuple[Item, Future]] = deque()
    coming = iter(items)
    with ThreadPoolExecutor(threads) as pool, bar:
        try:
            for number in range(1, len(items) + 1):
                soon = islice(coming, 4 * threads - len(waiting))  # bounded, so that results do not pile up
                waiting.extend((item, pool.submit(work, item)) for item in soon)
                item, future = waiting.popleft()
                problem = future.exception()
                if problem is not None and not isinstance(problem, DataError):
                    raise problem
                bar.update()
                if plain and number * 10 // len(items) > (number - 1) * 10 // len(items):
                    say(f"{label}: {number} of {len(items)}")
                yield item, problem or future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def or_skip(problem: DataError, more: str) -> DataError:
    """Return an error of a bad picture that names --on_bad_image too, and says something more."""
    thing, name, why, remedy = problem.args
    return DataError(thing, name, why, f"{remedy}, or use --on_bad_image skip ({more})")


def check_targets(tasks: list[Task]) -> None:
    """Raise DataError if two files would be of one name, OptionError if one would be written over a source."""
    sources = {os.path.realpath(task.source) for task in tasks}
    taken: dict[Path, Task] = {}
    for task in tasks:
        if task.target in taken:
            why = f"'{taken[task.target].source}' and '{task.source}' would both become this"
            raise DataError("file", task.target, why, "rename one")
        if os.path.realpath(task.target) in sources:
            raise OptionError("file", task.target, "would be written over a picture that is read", "write elsewhere")
        taken[task.target] = task


def carry_out(tasks: list[Task], o: argparse.Namespace, folder: Path, left_out: list[str] | None = None) -> None:
    """Write all files below a folder, and say how many; what is there already stays, unless o.overwrite.

    left_out: what is already known to be bad. Raises DataError for a bad picture unless o.on_bad_image is "skip".
    """
    check_targets(tasks)
    bad = list(left_out or [])
    there = [] if o.overwrite else [task for task in tasks if os.path.lexists(task.target)]
    kept = {task.target for task in there}
    todo = [task for task in tasks if task.target not in kept]
    if o.dry_run:
        for task in todo[:SHOWN]:
            say(f"would write {task.target}")
        if len(todo) > SHOWN:
            say(f"would write {len(todo) - SHOWN} more")
    written = 0
    for _, problem in () if o.dry_run else each(_done, todo, o.num_threads, "writing"):
        if problem is None:
            written += 1
        elif o.on_bad_image == "stop":
            raise or_skip(problem, f"{written} files were written before it")
        else:
            bad.append(f"{problem.args[1]}: {problem.args[2]}")
    for line in bad[:SHOWN]:
        say(f"left out: {line}")
    if bad and not written and not there and not o.dry_run:
        raise DataError("folder", folder, f"nothing was written: all {len(bad)} are bad", "see the lines above")
    count = f"{len(todo)} would be written" if o.dry_run else f"{written} written"
    notes = [f"{len(there)} were there already (--overwrite makes them anew)"] if there else []
    notes += [f"{len(bad)} left out"] if bad else []
    say(f"{count} to {folder}{''.join(f', {note}' for note in notes)}")


def _done(task: Task) -> None:
    """Do one task: whoever looks sees the old file or the new one."""
    name = hashlib.blake2b(os.fsencode(task.target.name), digest_size=8).hexdigest()  # the target's may be 255 bytes
    beside = task.target.with_name(f".{name}.tmp")
    try:
        task.target.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)  # of a command that was killed
        task.write(beside)
        os.replace(beside, task.target)
        if task.moves:
            task.source.unlink()
    except OSError as problem:
        code = problem.errno or 0
        room = "free space there, or write elsewhere"
        remedy = room if code in FULL else REMEDIES.get(code, "write elsewhere")
        if problem.filename == str(task.source):
            raise DataError("image", task.source, f"cannot be read ({problem.strerror})", "look after it") from problem
        raise EnvironmentFault("file", task.target, f"cannot be written ({problem.strerror or problem})",
                               remedy) from problem  # fmt: skip
    finally:
        with contextlib.suppress(OSError):  # what went wrong before is told; there is nothing more to say of this
            beside.unlink(missing_ok=True)
