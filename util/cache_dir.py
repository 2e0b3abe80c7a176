"""Where what can be made again is kept for this user: small files that are written whole or not at all."""

import io
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def cache_folder() -> Path:
    """Return the folder `ganvas` in the user's cache, which may not exist yet."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "ganvas")
    usual = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(sys.platform, ".cache")
    return Path(os.path.expanduser("~"), usual, "ganvas")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file, {} if there is none or it is damaged: what it held can be made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, LookupError, EOFError, TypeError, SyntaxError, ArithmeticError, MemoryError,
            struct.error, zlib.error, NotImplementedError, zipfile.BadZipFile):  # fmt: skip
        return {}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], keep: int) -> None:
    """Write arrays to a file in one step, and leave but the `keep` newest in its folder; where nothing can, none is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with io.FileIO(handle, "w") as file, io.BufferedWriter(file) as buffered:
                np.savez(buffered, allow_pickle=False, **arrays)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        _tidy(path.parent, keep)
    except OSError:  # a full or unwritable disk: a later run does the work again
        return


def _tidy(folder: Path, keep: int) -> None:
    """Remove all but the newest files of a folder, among them those that a kill left half written."""
    newest = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: -p.stat().st_mtime_ns)
    for path in newest[keep:]:
        path.unlink(missing_ok=True)
