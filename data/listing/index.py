"""What was found in folders of very many files, remembered from run to run while no folder changes."""

import hashlib
import os
import time
from collections.abc import Sequence

import numpy as np

from data.listing.paths import Paths
from util.cache_dir import cache_folder, read_arrays, write_arrays

WORTH = 10_000  # files: fewer are listed anew in a moment, and then nothing can be out of date
SETTLED = 2_000_000_000  # ns: a folder that changed this lately may change again within one tick of its clock
KEPT = 32  # folders
FORMAT = 1


def load(folder: str) -> Paths | None:
    """Return what is remembered of a folder, None if that is nothing or any folder in it was changed since."""
    held = read_arrays(_file(folder))
    try:
        if int(held["format"]) != FORMAT or held["root"].tobytes() != os.fsencode(os.path.realpath(folder)):
            return None
        for name, changed in zip(_split(held["folders"], held["folder_ends"]), held["changed"], strict=True):
            if os.stat(os.path.join(os.fsencode(folder), name)).st_mtime_ns != changed:
                return None
        found = Paths(folder, held["names"].tobytes(), held["offsets"], held["sizes"])
    except (KeyError, ValueError, TypeError, OSError):
        return None
    return found if _sound(found) else None


def save(paths: Paths, folders: Sequence[tuple[bytes, int]]) -> None:
    """Remember what was found under paths.root in these folders (name below it, time of change in ns)."""
    changed = np.array([when for _, when in folders], dtype=np.int64)
    if len(paths) < WORTH or changed.max() > time.time_ns() - SETTLED:
        return
    names, ends = b"".join(name for name, _ in folders), np.cumsum([len(name) for name, _ in folders])
    write_arrays(
        _file(paths.root),
        {
            "format": np.array(FORMAT), "root": _bytes(os.fsencode(os.path.realpath(paths.root))),
            "folders": _bytes(names), "folder_ends": ends, "changed": changed,
            "names": _bytes(paths.names), "offsets": paths.offsets, "sizes": paths.sizes,
        },
        KEPT,
    )  # fmt: skip


def looked_at(root: str) -> np.ndarray:
    """Return (N,) uint64, sorted: the keys of files under a root that were found sound."""
    keys = read_arrays(_file(root, "sound")).get("keys", np.empty(0, dtype=np.uint64))
    return keys if keys.dtype == np.uint64 and keys.ndim == 1 else np.empty(0, dtype=np.uint64)


def remember_sound(root: str, keys: np.ndarray) -> None:
    """Remember the keys of the files under a root that were found sound, if they are many."""
    if len(keys) >= WORTH:
        write_arrays(_file(root, "sound"), {"keys": np.unique(keys)}, KEPT)


def _file(folder: str, kind: str = "files"):
    key = hashlib.blake2b(os.fsencode(os.path.realpath(folder)), digest_size=16).hexdigest()
    return cache_folder() / kind / f"{key}.npz"


def _bytes(text: bytes) -> np.ndarray:
    return np.frombuffer(text, dtype=np.uint8)


def _split(block: np.ndarray, ends: np.ndarray) -> list[bytes]:
    text, starts = block.tobytes(), [0, *ends[:-1]]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _sound(paths: Paths) -> bool:
    """Whether names and their ends fit together."""
    offsets = paths.offsets
    whole = offsets.ndim == paths.sizes.ndim == 1 and offsets.dtype == paths.sizes.dtype == np.int64
    return bool(whole and len(offsets) == len(paths.sizes) + 1 and offsets[0] == 0
                and offsets[-1] == len(paths.names) and (np.diff(offsets) > 0).all())  # fmt: skip
