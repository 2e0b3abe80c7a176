"""What a data set lists, name and size of each file, so that a continued run notices when its pictures changed."""

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Inventory:
    """Files in order of listing: 64 bits of each one's path below the data's root, and its size in bytes.

    16 bytes a file, so that a million of them stay small in memory and in the state. What is inside a file is not
    read: one replaced by another of the very same size passes. `samples` is the data set's length, all that is known
    of one that lists no files through BaseDataset.
    """

    def __init__(self) -> None:
        self.names, self.sizes, self.samples = array("q"), array("q"), 0

    def add(self, paths: Sequence[str], sizes: Sequence[int] | np.ndarray, root: str) -> None:
        """Add files under a root; the root itself does not count, so that a folder may move."""
        below = os.path.join(str(Path(root)), "")
        for path in paths:
            name = os.fsencode(path.removeprefix(below).replace(os.sep, "/"))
            self.names.append(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little", signed=True))
        self.sizes.extend(sizes)

    def state_dict(self) -> dict[str, Any]:
        """Return it as tensors (N,) of int64 and a number, for the state file."""
        names, sizes = (torch.from_numpy(np.array(column, dtype=np.int64)) for column in (self.names, self.sizes))
        return {"names": names, "sizes": sizes, "samples": self.samples}

    def changes_since(self, before: dict[str, Any] | None) -> str:
        """Return what is other than in an earlier state_dict: "2 added, 1 removed"; "" if nothing is, or it is None."""
        if before is None:  # a state of a version that kept no inventory
            return ""
        names, sizes = (np.asarray(torch.as_tensor(before[k], dtype=torch.int64)) for k in ("names", "sizes"))
        now, now_sizes = np.array(self.names, dtype=np.int64), np.array(self.sizes, dtype=np.int64)
        if len(names) != len(sizes):
            raise ValueError(f"its inventory has {len(names)} names and {len(sizes)} sizes")
        if not len(names) and not len(now):
            return f"{before['samples']} samples -> {self.samples}" if before["samples"] != self.samples else ""
        if np.array_equal(names, now) and np.array_equal(sizes, now_sizes):
            return ""
        _, old, new = np.intersect1d(names, now, return_indices=True)
        counts = {"added": np.count_nonzero(~np.isin(now, names)), "removed": np.count_nonzero(~np.isin(names, now)),
                  "replaced": np.count_nonzero(sizes[old] != now_sizes[new])}  # fmt: skip
        return ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "the same ones in another order"
