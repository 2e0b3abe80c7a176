"""Locks on files, which the kernel lets go of however a process ends."""

import errno
import os
from pathlib import Path
from typing import IO, Any


def lock_file(file: IO[Any], unnoticed: str, wait: bool = False) -> bool:
    """Lock an open file; return False if another process holds it and is not to be waited for.

    Where a file system has no locks the answer is True, and a note says what would not be noticed (`unnoticed`).
    """
    try:
        import fcntl
    except ImportError:  # Windows: there is no lock of this kind
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
    """Return a file opened for appending and locked, made if need be; None if another process holds it.

    What is locked is the file that bears the name now: the one before may have been renamed or replaced meanwhile.
    """
    while True:
        file = open(path, "a+b")
        try:
            if not lock_file(file, unnoticed, wait):
                file.close()
                return None
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:  # taken away between the two
            pass
        except BaseException:
            file.close()
            raise
        file.close()
