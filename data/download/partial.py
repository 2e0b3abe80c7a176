"""A file that is not whole yet: NAME.part, locked, and beside it what its server said of it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from util import disk_space, file_lock
from util.atomic_write import replace_text
from util.errors import EnvironmentFault


class PartialFile:
    """NAME.part, opened and locked until `close`; another process that has it is an EnvironmentFault.

    `metadata` is what the server told when these bytes began: address, mark (ETag or date), total (bytes, or None).
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
        except (FileNotFoundError, ValueError):  # none yet; or of a run whose power was cut: then begin anew
            return {}
        return metadata if isinstance(metadata, dict) else {}

    @property
    def size(self) -> int:
        """The bytes that are there."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def is_complete(self) -> bool:
        """Whether as many bytes are there as the server promised."""
        return self.size > 0 and self.size == self.metadata.get("total")

    def restart(self, address: str = "", mark: str = "", total: int | None = None) -> None:
        """Empty it, and note what a server says of the bytes to come."""
        try:
            self._file.truncate(0)
            self.metadata = {"address": address, "mark": mark, "total": total}
            replace_text(self._metadata_path, json.dumps(self.metadata))
        except OSError as problem:
            raise write_error(self._metadata_path, problem) from problem

    def append(self, data: bytes) -> None:
        """Append bytes; they are on their way to the disk when this returns."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as problem:
            left = (self.metadata.get("total") or 0) - self.size
            raise write_error(self.path, problem, left) from problem

    def check_free_space(self, needed: int, parts: str) -> None:
        """Raise EnvironmentFault if its disk has not that many bytes free beside what is there already."""
        folder = self.path.parent
        if disk_space.is_short(folder, needed, self.size):
            free = disk_space.format_bytes(disk_space.free_bytes(folder) or 0)
            missing = disk_space.format_bytes(needed - self.size)
            why = f"has too little room: {missing} are needed ({parts}), {free} are free"
            raise EnvironmentFault("folder", folder, why, "free space or choose another --to")

    def sha256(self) -> str:
        """Return the checksum of what is there, once it is on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise write_error(self.path, problem) from problem
        return file_sha256(self.path)

    def move_to(self, path: Path) -> None:
        """Give it a name of its own."""
        self._release_on_windows()
        os.replace(self.path, path)
        self._metadata_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it, and what was noted of it."""
        self._release_on_windows()
        remove_partial(self._target)

    def _release_on_windows(self) -> None:
        if os.name == "nt":  # where an open file keeps its name; elsewhere the lock is kept to the end
            self._file.close()

    def close(self) -> None:
        """Let go of the lock; a file without a byte is taken away."""
        if self._file.closed:
            return
        if not self.size and self.path.exists():
            self.remove()
        self._file.close()


def _part_paths(target: Path) -> tuple[Path, Path]:
    return target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")


def remove_partial(target: Path) -> None:
    """Remove what there is of a file that is not whole."""
    for path in _part_paths(target):
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return a file's checksum."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_error(path: Path, problem: OSError, needed: int = 0) -> EnvironmentFault:
    """Return the error for a file below --to that could not be written; on a full disk with the bytes free."""
    why = f"cannot be written ({problem.strerror or problem})"
    free_bytes = disk_space.free_bytes(path.parent)
    if problem.errno not in disk_space.DISK_FULL_ERRNOS:
        return EnvironmentFault("file", path, why, "mend it or choose another --to")
    if needed > 0 and free_bytes is not None:
        why += f": {disk_space.format_bytes(needed)} are still to come, {disk_space.format_bytes(free_bytes)} are free"
    return EnvironmentFault("file", path, why, "free space and run this again, or choose another --to")
