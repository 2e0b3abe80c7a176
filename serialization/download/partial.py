"""A partially downloaded file, NAME.part, its lock NAME.part.lock, and the server's metadata in NAME.part.json."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from util import disk_space, file_lock
from util.atomic_write import replace_text
from util.errors import EnvironmentFault


class PartialFile:
    """NAME.part, opened and locked until `close`; raises EnvironmentFault if another process has it.

    `metadata` is what the server stated when these bytes began: address, mark (ETag or date), total (bytes, or None).
    copies: how many times the size of the file is needed on the disk in the end. elsewhere: the remedy for a disk that
    is too small, beside freeing space.
    """

    def __init__(self, target: Path, copies: int, elsewhere: str = "choose another --to"):
        self.copies, self.elsewhere = copies, elsewhere
        self.path, self._metadata_path, lock_path = self._paths = _part_paths(target)
        lock = file_lock.acquire(lock_path, "a second download of one name")
        if lock is None:
            why = "is being downloaded by another process"
            raise EnvironmentFault("file", self.path, why, "wait for it, or stop it")
        self._lock = lock
        try:
            self._file = open(self.path, "ab")
            metadata = json.loads(self._metadata_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # none yet, or damaged by a power cut: start over
            metadata = {}
        except OSError:
            file_lock.remove(lock)
            raise
        self.metadata: dict[str, Any] = metadata if isinstance(metadata, dict) else {}

    @property
    def size(self) -> int:
        """The number of bytes downloaded so far."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def is_complete(self) -> bool:
        """Whether the file has as many bytes as the server promised."""
        return self.size > 0 and self.size == self.metadata.get("total")

    def restart(self, address: str = "", mark: str = "", total: int | None = None) -> None:
        """Empty the file, and record the server's metadata for the bytes to come."""
        self._file.truncate(0)
        self.metadata = {"address": address, "mark": mark, "total": total}
        replace_text(self._metadata_path, json.dumps(self.metadata))

    def append(self, data: bytes) -> None:
        """Append bytes and hand them to the operating system."""
        self._file.write(data)
        self._file.flush()

    def check_free_space(self, size: int) -> None:
        """Raise EnvironmentFault if the disk lacks space for what is missing of a file of `size` bytes, and copies."""
        folder, needed = self.path.parent, size * self.copies
        if disk_space.is_short(folder, needed, self.size):
            free = disk_space.format_bytes(disk_space.free_bytes(folder) or 0)
            parts = "the file" if self.copies == 1 else "the archive and its content"
            missing = disk_space.format_bytes(needed - self.size)
            why = f"has too little space: {missing} are needed ({parts}), {free} are free"
            raise EnvironmentFault("folder", folder, why, f"free space or {self.elsewhere}")

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes so far, once they are on disk."""
        os.fsync(self._file.fileno())
        return file_sha256(self.path)

    def move_to(self, path: Path) -> None:
        """Rename the file and delete its metadata."""
        self._file.close()
        os.replace(self.path, path)
        self._metadata_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; delete the file if it is empty."""
        with contextlib.suppress(OSError):  # bytes that a full disk did not take
            self._file.close()
        if self.path.exists() and not self.path.stat().st_size:
            self.remove()
        file_lock.remove(self._lock)

    def remove(self) -> None:
        """Delete the file and its metadata."""
        self._file.close()
        for path in self._paths[:2]:
            path.unlink(missing_ok=True)


def _part_paths(target: Path) -> tuple[Path, Path, Path]:
    """Return the paths of a target's partial file, of its metadata and of its lock."""
    part, metadata, lock = (target.with_name(f"{target.name}.part{suffix}") for suffix in ("", ".json", ".lock"))
    return part, metadata, lock


def remove_partial(target: Path) -> None:
    """Delete what a download left that was killed at its very end."""
    for path in _part_paths(target):
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_error(path: Path, problem: OSError, needed: int = 0) -> EnvironmentFault:
    """Return the error for a file below --to that cannot be written; on a full disk with the free bytes."""
    why = f"cannot be written ({problem.strerror or problem})"
    free_bytes = disk_space.free_bytes(path.parent)
    if problem.errno not in disk_space.DISK_FULL_ERRNOS:
        return EnvironmentFault("file", path, why, "fix this or choose another --to")
    if needed > 0 and free_bytes is not None:
        why += f": {disk_space.format_bytes(needed)} are still to come, {disk_space.format_bytes(free_bytes)} are free"
    return EnvironmentFault("file", path, why, "free space and run this again, or choose another --to")
