"""Remember between runs which files of a large dataset passed the header check, so that they are not checked again."""

import hashlib
import os
import threading
from pathlib import Path

import numpy as np

from util.cache_dir import cache_folder

MIN_REMEMBERED_FILES = 10_000  # of a dataset; the headers of fewer files are checked in half a second
MAX_KEYS = 4_000_000  # of a dataset, 8 bytes each
MAX_DATASETS = 32  # files kept, one per dataset folder


def load_sound_keys(root: str) -> np.ndarray:
    """Return the sorted keys, (N,) uint64, of files under a root that passed the header check."""
    try:
        with np.load(_sound_file(root), allow_pickle=False) as file:
            keys = file["keys"]
    except Exception:  # a missing file, or damage, which raises many types: all headers are checked again
        return np.empty(0, dtype=np.uint64)
    return keys if keys.dtype == np.uint64 and keys.ndim == 1 else np.empty(0, dtype=np.uint64)


def save_sound_keys(root: str, keys: np.ndarray) -> None:
    """Add the keys of files under a root that passed the header check to those of earlier checks, if all fit."""
    path = _sound_file(root)
    beside = path.with_name(f"{path.stem}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        known = _sorted_once(np.concatenate([load_sound_keys(root), keys]))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, "wb") as file:
                np.savez(file, keys=known if len(known) <= MAX_KEYS else _sorted_once(keys))
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        # Keep the newest files; this also removes temporary files of killed processes.
        for old in sorted(path.parent.iterdir(), key=lambda p: -p.stat().st_mtime_ns)[MAX_DATASETS:]:
            old.unlink()
    except OSError:  # a full or unwritable disk: a later run checks the headers again
        return


def _sorted_once(keys: np.ndarray) -> np.ndarray:
    """Return the different keys in order.

    np.unique does the same, but aborts the process if Python ends while a thread in the background runs it.
    """
    in_order = np.sort(keys)
    is_new = np.append(True, in_order[1:] != in_order[:-1])[: len(keys)]
    return in_order[is_new]


def _sound_file(root: str) -> Path:
    key = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=16).hexdigest()
    return cache_folder() / "sound" / f"{key}.npz"
