"""The user's cache folder, and atomic writing of disposable .npz files in it."""

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
    """Return the folder `ganvas` in the user's cache; it may not exist yet."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "ganvas")
    usual = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(sys.platform, ".cache")
    return Path(os.path.expanduser("~"), usual, "ganvas")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file; {} if it is missing or damaged, because its content can be recomputed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, LookupError, EOFError, TypeError, SyntaxError, ArithmeticError, MemoryError,
            struct.error, zlib.error, NotImplementedError, zipfile.BadZipFile):  # fmt: skip
        return {}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], keep: int) -> None:
    """Write arrays to a file atomically and keep only the folder's `keep` newest files; ignore OSError."""
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
    except OSError:  # a full or unwritable disk: a later run recomputes the arrays
        return


def _tidy(folder: Path, keep: int) -> None:
    """Remove all but the newest files of a folder, including temporary files of killed processes."""
    newest = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: -p.stat().st_mtime_ns)
    for path in newest[keep:]:
        path.unlink(missing_ok=True)
