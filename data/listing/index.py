"""Cache the listing of large folders between runs, valid until one of the folders changes."""

import hashlib
import os
import time
from collections.abc import Sequence

import numpy as np

from data.listing.paths import Paths
from util.cache_dir import cache_folder, read_arrays, write_arrays

MIN_INDEXED_FILES = 10_000  # smaller folders are listed again, which is fast and never out of date
MIN_FOLDER_AGE_NS = 2_000_000_000  # a folder changed later than this may change again in the same clock tick
MAX_INDEX_FILES = 32  # index files kept, one per dataset folder
FORMAT_VERSION = 1


def load(folder: str) -> Paths | None:
    """Return the saved listing of a folder, or None if there is none or a folder in it has changed."""
    arrays = read_arrays(_index_path(folder))
    try:
        if int(arrays["format"]) != FORMAT_VERSION or arrays["root"].tobytes() != os.fsencode(os.path.realpath(folder)):
            return None
        for name, changed in zip(
            _split_names(arrays["folders"], arrays["folder_ends"]), arrays["changed"], strict=True
        ):
            if os.stat(os.path.join(os.fsencode(folder), name)).st_mtime_ns != changed:
                return None
        paths = Paths(folder, arrays["names"].tobytes(), arrays["offsets"], arrays["sizes"])
    except (KeyError, ValueError, TypeError, OSError):
        return None
    return paths if _is_consistent(paths) else None


def save(paths: Paths, folders: Sequence[tuple[bytes, int]]) -> None:
    """Save the listing of paths.root; folders: (name below the root, modification time in ns)."""
    changed = np.array([when for _, when in folders], dtype=np.int64)
    if len(paths) < MIN_INDEXED_FILES or changed.max() > time.time_ns() - MIN_FOLDER_AGE_NS:
        return
    names, ends = b"".join(name for name, _ in folders), np.cumsum([len(name) for name, _ in folders])
    write_arrays(
        _index_path(paths.root),
        {
            "format": np.array(FORMAT_VERSION), "root": _to_byte_array(os.fsencode(os.path.realpath(paths.root))),
            "folders": _to_byte_array(names), "folder_ends": ends, "changed": changed,
            "names": _to_byte_array(paths.names), "offsets": paths.offsets, "sizes": paths.sizes,
        },
        MAX_INDEX_FILES,
    )  # fmt: skip


def load_sound_keys(root: str) -> np.ndarray:
    """Return the sorted keys, (N,) uint64, of files under a root that passed the header check."""
    keys = read_arrays(_index_path(root, "sound")).get("keys", np.empty(0, dtype=np.uint64))
    return keys if keys.dtype == np.uint64 and keys.ndim == 1 else np.empty(0, dtype=np.uint64)


def save_sound_keys(root: str, keys: np.ndarray) -> None:
    """Save the keys of the files under a root that passed the header check, if there are MIN_INDEXED_FILES or more."""
    if len(keys) >= MIN_INDEXED_FILES:
        write_arrays(_index_path(root, "sound"), {"keys": np.unique(keys)}, MAX_INDEX_FILES)


def _index_path(folder: str, kind: str = "files"):
    key = hashlib.blake2b(os.fsencode(os.path.realpath(folder)), digest_size=16).hexdigest()
    return cache_folder() / kind / f"{key}.npz"


def _to_byte_array(text: bytes) -> np.ndarray:
    return np.frombuffer(text, dtype=np.uint8)


def _split_names(block: np.ndarray, ends: np.ndarray) -> list[bytes]:
    text, starts = block.tobytes(), [0, *ends[:-1]]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def _is_consistent(paths: Paths) -> bool:
    """Return whether names, offsets and sizes fit together."""
    offsets = paths.offsets
    well_formed = offsets.ndim == paths.sizes.ndim == 1 and offsets.dtype == paths.sizes.dtype == np.int64
    return bool(well_formed and len(offsets) == len(paths.sizes) + 1 and offsets[0] == 0
                and offsets[-1] == len(paths.names) and (np.diff(offsets) > 0).all())  # fmt: skip
