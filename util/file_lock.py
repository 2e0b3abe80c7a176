"""Locks of processes on files: the operating system releases them when the process ends."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from util.errors import print_line


def acquire(
    path: Path, unnoticed: str, wait: bool = False, on_acquired: Callable[[int], None] | None = None
) -> FileLock | None:
    """Return the lock on a file, created if missing; None if another process holds it and `wait` is False.

    On a file system without locks it returns one too, with a printed note on what goes undetected (`unnoticed`).
    Forked processes do not hold it. on_acquired: called with the descriptor, which alone may be written on Windows.
    """
    lock = FileLock(path, -1 if wait else 0, thread_local=False, fallback_to_soft=False, on_acquired=on_acquired)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError as problem:
        if problem.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        print_line(f"note: this file system has no locks, so {unnoticed} would not be noticed")
    return lock


def remove(lock: FileLock) -> None:
    """Release a lock and delete its file; another process that waits for it creates a new one."""
    if os.name != "nt":  # where releasing deletes the file
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
