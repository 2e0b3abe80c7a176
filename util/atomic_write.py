"""Replace a file atomically: a reader sees the old text or the new one, never a part."""

import errno
import os
from pathlib import Path


def replace_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write text as UTF-8 to a file beside the target, then rename it; errors is as in `open`."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8", errors=errors)
    os.replace(beside, path)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    if os.name == "nt":  # Windows cannot open a folder for flushing
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot flush folders
            raise
    finally:
        os.close(handle)
