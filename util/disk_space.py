"""Check free disk space, retry a write when the disk is full, and build the error for a failed write."""

import errno
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from util.errors import EnvironmentFault, print_line

RETRY_WAIT_S = 5.0  # seconds before a write to a full disk is retried once
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
ERRNO_REMEDIES = {
    errno.ENOSPC: "free space on that disk or choose another --checkpoints_dir",
    errno.EDQUOT: "free space within your quota or choose another --checkpoints_dir",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "check its permissions"),
    errno.EROFS: "choose a folder that can be written to",
    errno.EIO: "check the disk",
    **dict.fromkeys((errno.ETIMEDOUT, errno.ESTALE), "check the network drive"),
    errno.EMFILE: "raise the limit of open files (ulimit -n) or lower --num_threads",
    errno.ENFILE: "close other programs or lower --num_threads",
}


def retry_when_full(write: Callable[[], None], path: Path) -> None:
    """Call write(); if the disk is full, print a note, wait and retry once. Raises the OSError of the last call."""
    try:
        write()
    except OSError as problem:
        if problem.errno not in DISK_FULL_ERRNOS:
            raise
        note = f"note: {path.name} cannot be written ({problem.strerror}); trying again in {RETRY_WAIT_S:g} s"
        print_line(note)
        time.sleep(RETRY_WAIT_S)
        write()


def write_error(path: Path, problem: OSError, needed: int = 0) -> EnvironmentFault:
    """Return the error for a file that cannot be written; for a full disk with the bytes needed and free."""
    why = f"cannot be written ({problem.strerror or problem})"
    free = free_bytes(path.parent)
    if problem.errno in DISK_FULL_ERRNOS and needed and free is not None:
        why += f": it needs {format_bytes(needed)}, {format_bytes(free)} are free"
    gone = problem.errno in (errno.ENOENT, errno.ENOTDIR)
    remedy = "restore its folder" if gone else ERRNO_REMEDIES.get(problem.errno or 0, "check the disk")
    return EnvironmentFault("file", path, why, remedy)


def check_free_space(folder: Path, needed: int, parts: str, reclaimed: int = 0) -> None:
    """Raise EnvironmentFault if a folder's disk has fewer than `needed` bytes free, counting `reclaimed` as free."""
    if is_short(folder, needed, reclaimed):
        free = format_bytes((free_bytes(folder) or 0) + reclaimed)
        why = f"has too little free space: the run needs {format_bytes(needed)} ({parts}), {free} are free"
        remedy = "free space, lower --keep_last or choose another --checkpoints_dir"
        raise EnvironmentFault("folder", folder, why, remedy)


def is_short(folder: Path, needed: int, reclaimed: int) -> bool:
    """Whether a folder's disk has fewer than `needed` bytes free, counting `reclaimed`; False if unknown."""
    free = free_bytes(folder)
    return free is not None and needed > free + reclaimed


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes of a folder's disk; None if unknown, as on some network drives."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


def tensor_bytes(thing: Any) -> int:
    """Return the bytes of all tensors in nested dictionaries, lists and tuples; each storage counts once."""
    sizes: dict[int, int] = {}
    pending = [thing]
    while pending:
        item = pending.pop()
        if hasattr(item, "untyped_storage"):  # a tensor; this module must not import torch, so that --help stays fast
            storage = item.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, Mapping):
            pending += item.values()
        elif isinstance(item, (list, tuple)):
            pending += item
    return sum(sizes.values())


def format_bytes(size: float) -> str:
    """Return a number of bytes as readable text: 912 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
