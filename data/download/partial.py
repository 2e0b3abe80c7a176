"""A file that is not whole yet: NAME.part, locked, and beside it what its server said of it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from util import disk_space, file_lock
from util.atomic_write import replace_text
from util.errors import EnvironmentFault


class Part:
    """NAME.part, opened and locked until `close`; another process that has it is an EnvironmentFault.

    `said` is what the server told when these bytes began: address, mark (ETag or date), total (bytes, or None).
    """

    def __init__(self, target: Path):
        self._target = target
        self.path, self._note = _names(target)
        file = file_lock.opened(self.path, "a second download of one name")
        if file is None:
            raise EnvironmentFault(
                "file", self.path, "is being downloaded by another process", "wait for it, or stop it"
            )
        self._file = file
        self.said = self._read_note()

    def _read_note(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # none yet; or of a run whose power was cut: then begin anew
            return {}
        return note if isinstance(note, dict) else {}

    @property
    def size(self) -> int:
        """The bytes that are there."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def is_whole(self) -> bool:
        """Whether as many bytes are there as the server promised."""
        return self.size > 0 and self.size == self.said.get("total")

    def begin(self, address: str = "", mark: str = "", total: int | None = None) -> None:
        """Empty it, and note what a server says of the bytes to come."""
        try:
            self._file.truncate(0)
            self.said = {"address": address, "mark": mark, "total": total}
            replace_text(self._note, json.dumps(self.said))
        except OSError as problem:
            raise unwritable(self._note, problem) from problem

    def add(self, data: bytes) -> None:
        """Append bytes; they are on their way to the disk when this returns."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as problem:
            left = (self.said.get("total") or 0) - self.size
            raise unwritable(self.path, problem, left) from problem

    def check_room(self, needed: int, parts: str) -> None:
        """Raise EnvironmentFault if its disk has not that many bytes free beside what is there already."""
        folder = self.path.parent
        if disk_space.lacks(folder, needed, self.size):
            free = disk_space.in_units(disk_space.free(folder) or 0)
            why = (
                f"has too little room: {disk_space.in_units(needed - self.size)} are needed ({parts}), {free} are free"
            )
            raise EnvironmentFault("folder", folder, why, "free space or choose another --to")

    def sha256(self) -> str:
        """Return the checksum of what is there, once it is on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise unwritable(self.path, problem) from problem
        return sha256(self.path)

    def become(self, path: Path) -> None:
        """Give it a name of its own."""
        self._let_go_on_windows()
        os.replace(self.path, path)
        self._note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it, and what was noted of it."""
        self._let_go_on_windows()
        forget(self._target)

    def _let_go_on_windows(self) -> None:
        if os.name == "nt":  # where an open file keeps its name; elsewhere the lock is kept to the end
            self._file.close()

    def close(self) -> None:
        """Let go of the lock; a file without a byte is taken away."""
        if self._file.closed:
            return
        if not self.size and self.path.exists():
            self.remove()
        self._file.close()


def _names(target: Path) -> tuple[Path, Path]:
    return target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")


def forget(target: Path) -> None:
    """Remove what there is of a file that is not whole."""
    for path in _names(target):
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return a file's checksum."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unwritable(path: Path, problem: OSError, needed: int = 0) -> EnvironmentFault:
    """Return the error for a file below --to that could not be written; on a full disk with the bytes free."""
    why = f"cannot be written ({problem.strerror or problem})"
    there = disk_space.free(path.parent)
    if problem.errno not in disk_space.FULL:
        return EnvironmentFault("file", path, why, "mend it or choose another --to")
    if needed > 0 and there is not None:
        why += f": {disk_space.in_units(needed)} are still to come, {disk_space.in_units(there)} are free"
    return EnvironmentFault("file", path, why, "free space and run this again, or choose another --to")
