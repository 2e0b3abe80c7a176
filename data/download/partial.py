"""A partially downloaded file, NAME.part, which is locked, and the server's metadata for it in NAME.part.json."""

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
    """

    def __init__(self, target: Path):
        self._target = target
        self.path, self._metadata_path = _part_paths(target)
        file = file_lock.open_locked(self.path, "a second download of one name")
        if file is None:
            raise EnvironmentFault(
                "file", self.path, "is being downloaded by another process", "wait for it, or stop it"
            )
        self._file = file
        self.metadata = self._read_metadata()

    def _read_metadata(self) -> dict[str, Any]:
        try:
            metadata = json.loads(self._metadata_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # none yet, or damaged by a power cut: start over
            return {}
        return metadata if isinstance(metadata, dict) else {}

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
        try:
            self._file.truncate(0)
            self.metadata = {"address": address, "mark": mark, "total": total}
            replace_text(self._metadata_path, json.dumps(self.metadata))
        except OSError as problem:
            raise write_error(self._metadata_path, problem) from problem

    def append(self, data: bytes) -> None:
        """Append bytes and hand them to the operating system."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as problem:
            left = (self.metadata.get("total") or 0) - self.size
            raise write_error(self.path, problem, left) from problem

    def check_free_space(self, needed: int, parts: str) -> None:
        """Raise EnvironmentFault if the disk lacks space for the part of `needed` bytes that is still missing."""
        folder = self.path.parent
        if disk_space.is_short(folder, needed, self.size):
            free = disk_space.format_bytes(disk_space.free_bytes(folder) or 0)
            missing = disk_space.format_bytes(needed - self.size)
            why = f"has too little space: {missing} are needed ({parts}), {free} are free"
            raise EnvironmentFault("folder", folder, why, "free space or choose another --to")

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes so far, once they are on disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise write_error(self.path, problem) from problem
        return file_sha256(self.path)

    def move_to(self, path: Path) -> None:
        """Rename the file and delete its metadata."""
        self._release_on_windows()
        os.replace(self.path, path)
        self._metadata_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the file and its metadata."""
        self._release_on_windows()
        remove_partial(self._target)

    def _release_on_windows(self) -> None:
        if os.name == "nt":  # which cannot rename an open file; elsewhere the lock is kept to the end
            self._file.close()

    def close(self) -> None:
        """Release the lock; delete the file if it is empty."""
        if self._file.closed:
            return
        if not self.size and self.path.exists():
            self.remove()
        self._file.close()


def _part_paths(target: Path) -> tuple[Path, Path]:
    return target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")


def remove_partial(target: Path) -> None:
    """Delete the partial file of a target and its metadata."""
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
