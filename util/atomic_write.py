"""Replace a file in one step: whoever reads it sees the old text or the new, never a half."""

import errno
import os
from pathlib import Path


def replace_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write text as UTF-8 beside the target, then rename onto it; errors is what `open` calls so."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8", errors=errors)
    os.replace(beside, path)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":  # Windows has no handle of a folder to flush
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives do not flush folders
            raise
    finally:
        os.close(handle)
