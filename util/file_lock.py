"""Lock files with locks that the kernel releases when the process ends."""

import errno
import os
from pathlib import Path
from typing import IO, Any


def lock_file(file: IO[Any], unnoticed: str, wait: bool = False) -> bool:
    """Lock an open file; return False if another process holds the lock and `wait` is False.

    Returns True on a file system without locks, with a printed note on what goes undetected (`unnoticed`).
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as problem:
        if problem.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        print(f"note: this file system has no locks, so {unnoticed} would not be noticed")
    return True


def open_locked(path: Path, unnoticed: str, wait: bool = False) -> IO[bytes] | None:
    """Return a file opened for appending and locked, created if missing; None if another process holds the lock.

    The locked file is the one that has the name now, because a previous one may have been renamed or replaced.
    """
    while True:
        file = open(path, "a+b")
        try:
            if not lock_file(file, unnoticed, wait):
                file.close()
                return None
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:  # removed between open and stat
            pass
        except BaseException:
            file.close()
            raise
        file.close()
