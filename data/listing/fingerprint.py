"""Record the name, size and labels of each file of a dataset, so that a resumed run notices changes."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

LABELS_CHANGED = "other labels or other values in the table of the images"


class Inventory:
    """The files in listing order: a 64-bit hash of each path relative to the root, and the size in bytes.

    This takes 16 bytes per file, so that a million files stay small in memory and in the state. File contents are not
    read, so a file replaced by another of the same size goes unnoticed. `labels` is a hash of what tables say about the
    files, 0 without any. `samples` is the dataset's length, the only fact known about a dataset that does not list its
    files through BaseDataset.
    """

    def __init__(self) -> None:
        self.names, self.sizes, self.samples = array("q"), array("q"), 0
        self.labels = 0

    def add(self, paths: Sequence[str], sizes: Sequence[int] | np.ndarray, root: str) -> None:
        """Add files by their paths relative to root, so that the folder may be moved."""
        below = os.path.join(str(Path(root)), "")
        for path in paths:
            name = os.fsencode(path.removeprefix(below).replace(os.sep, "/"))
            self.names.append(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little", signed=True))
        self.sizes.extend(sizes)

    def add_labels(self, values: Iterable[Any]) -> None:
        """Add what a table says about files, in their order: arrays, and lists of texts."""
        digest = hashlib.blake2b(str(self.labels).encode(), digest_size=7)
        for each in values:
            digest.update(each.tobytes() if isinstance(each, np.ndarray) else repr(each).encode())
        self.labels = int.from_bytes(digest.digest(), "little")

    def state_dict(self) -> dict[str, Any]:
        """Return what the state file holds: names and sizes as int64 tensors (N,), the number of samples, labels."""
        names, sizes = (torch.from_numpy(np.array(column, dtype=np.int64)) for column in (self.names, self.sizes))
        return {"names": names, "sizes": sizes, "samples": self.samples, "labels": self.labels}

    def changes_since(self, before: dict[str, Any] | None) -> str:
        """Return the changes since a state_dict, as "2 added, 1 removed"; "" if it is None or nothing changed."""
        if before is None:  # the state of an earlier version without an inventory
            return ""
        names, sizes = (np.asarray(torch.as_tensor(before[k], dtype=torch.int64)) for k in ("names", "sizes"))
        now, now_sizes = np.array(self.names, dtype=np.int64), np.array(self.sizes, dtype=np.int64)
        if len(names) != len(sizes):
            raise ValueError(f"its inventory has {len(names)} names and {len(sizes)} sizes")
        if not len(names) and not len(now):
            return f"{before['samples']} samples -> {self.samples}" if before["samples"] != self.samples else ""
        if np.array_equal(names, now) and np.array_equal(sizes, now_sizes):
            return LABELS_CHANGED if before.get("labels", self.labels) != self.labels else ""
        _, old, new = np.intersect1d(names, now, return_indices=True)
        counts = {"added": np.count_nonzero(~np.isin(now, names)), "removed": np.count_nonzero(~np.isin(names, now)),
                  "replaced": np.count_nonzero(sizes[old] != now_sizes[new])}  # fmt: skip
        return ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "the same files in another order"
