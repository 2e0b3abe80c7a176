"""Unpack an untrusted zip or tar.gz: plain files below one folder, all of them or none.

Members are written in the order in which they are read, into a folder beside the target that is renamed in one step
once everything is on disk. Sizes stated in the archive are not trusted: bytes are counted as they are read.
"""

import gzip
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from serialization.download.partial import write_error
from util.atomic_write import sync_folder

MAX_MEMBERS = 500_000  # the largest of the reference's data sets has 139,000
MAX_TOTAL_BYTES = 64 << 30  # of all files together
# unpacked bytes per archive byte, after the free ones; images hardly expand
MAX_EXPANSION, FREE_EXPANSION_BYTES = 20, 16 << 20
MAX_PATH_DEPTH, MAX_NAME_BYTES = 16, 240  # folders in a path, bytes in one name
MAX_HEADER_BYTES = 1 << 17  # bytes of a tar's headers for one member, or of its end
MAX_ZIP_DIRECTORY_BYTES = 48 << 20  # bytes of a zip's list of members
CHUNK_BYTES = 1 << 18
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_PHASE_FOLDER = re.compile("(train|val|test)[AB]?")
_FORMAT_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError)
_READ_ERRORS = (*_FORMAT_ERRORS, OSError, RuntimeError, ValueError, ArithmeticError, LookupError)

# (name, whether it is a folder, permissions, bytes, open its content)
Member = tuple[str, bool, int, int, Callable[[], IO[bytes] | None]]
ShowProgress = Callable[[int, int | None], None]


class UnsafeArchive(Exception):
    """The reason why an archive is refused; it begins with the member if one is the cause."""


class DamagedArchive(Exception):
    """The reason why an archive cannot be read to its end."""


def unpack(archive: Path, target: Path, show: ShowProgress, on_written: Callable[[], None]) -> int:
    """Unpack an archive to the folder `target` and return the number of files; drop a single top folder.

    on_written: called once everything is on disk, just before the rename. Raises UnsafeArchive for content that no data
    set needs, DamagedArchive for an archive that is truncated or damaged, EnvironmentFault for a failing disk. Nothing
    remains then. The remains of an earlier, killed call are deleted first.
    """
    temporary = temporary_folder(target)
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            count = _write_all(archive, temporary, show)
            inner = list(temporary.iterdir())
            single_folder = len(inner) == 1 and inner[0].is_dir() and not _PHASE_FOLDER.fullmatch(inner[0].name)
            _sync_tree(temporary)
            on_written()
            os.rename(inner[0] if single_folder else temporary, target)
            sync_folder(target.parent)
            return count
        finally:
            if temporary.exists():
                shutil.rmtree(temporary)
    except OSError as problem:
        raise write_error(Path(problem.filename or temporary), problem) from problem


def temporary_folder(target: Path) -> Path:
    """Return the folder that is renamed to `target`; if it exists, a killed call has left it."""
    return target.with_name(f".{target.name}.unpacking")


def _write_all(archive: Path, root: Path, show: ShowProgress) -> int:
    """Write every member below root; return the number of files."""
    seen: dict[str, tuple[str, bool]] = {}
    members_read, count, size = 0, 0, 0
    max_bytes = min(MAX_TOTAL_BYTES, FREE_EXPANSION_BYTES + MAX_EXPANSION * archive.stat().st_size)
    with open(archive, "rb") as file:
        is_zip = file.read(2) == b"PK"
    members = _zip_members(archive) if is_zip else _tar_members(archive)
    while (member := _read(members.__next__)) is not None:
        name, is_folder, mode, member_size, open_content = member
        members_read += 1
        if members_read > MAX_MEMBERS:
            raise UnsafeArchive(f"it has more than {MAX_MEMBERS:,} members")
        parts = _check_name(name, is_folder, seen)
        if not is_folder and mode & (stat.S_ISUID | stat.S_ISGID):
            raise UnsafeArchive(f"member '{name}': asks for its owner's permissions (setuid or setgid)")
        size += member_size  # both zipfile and tarfile read no more bytes than stated
        if size > max_bytes:
            raise UnsafeArchive(f"member '{name}': makes the total more than {max_bytes} bytes")
        if any(part == "__MACOSX" or part.startswith("._") for part in parts):  # metadata of macOS, not images
            continue
        path = root.joinpath(*parts)
        (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        if not is_folder:
            with _read(open_content) as content, open(path, "xb") as file:
                while chunk := _read(content.read, CHUNK_BYTES):
                    file.write(chunk)
            count += 1
            show(count, None)
    if not count:
        raise UnsafeArchive("it holds no files")
    return count


def _read(read: Callable[..., Any], *args: int) -> Any:
    """Return what a function reads from an archive, None at the end; raise DamagedArchive."""
    try:
        return read(*args)
    except StopIteration:
        return None
    except _READ_ERRORS as problem:
        raise DamagedArchive(str(problem) or type(problem).__name__) from problem


def _check_name(name: str, is_folder: bool, seen: dict[str, tuple[str, bool]]) -> tuple[str, ...]:
    """Return the parts of a member's path; raise UnsafeArchive unless it is safe and distinct on every system.

    seen: {normalised path: (original path, whether it is a folder)} so far, to which it is added.
    """
    if why := _unsafe_reason(name):
        raise UnsafeArchive(f"member '{name[:MAX_NAME_BYTES]}': {why}")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not parts and not is_folder:
        raise UnsafeArchive(f"member '{name}': has no name")
    for end in range(1, len(parts) + 1):
        entry = "/".join(parts[:end]), is_folder or end < len(parts)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", entry[0]).casefold())
        previous = seen.setdefault(folded, entry)
        if previous != entry:
            raise UnsafeArchive(f"member '{name}': clashes with '{previous[0]}'")
        if previous is not entry and not entry[1]:
            raise UnsafeArchive(f"member '{name}': occurs twice")
    return parts


def _unsafe_reason(name: str) -> str:
    """Return why a name must not become a path; "" if it may."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name:
        return "is not a path below a folder"
    if ".." in parts:
        return "leads out of its folder"
    if not all(c.isprintable() for c in name):  # NUL, control characters, and bytes that are not UTF-8
        return "has characters that are not allowed in a name"
    if len(parts) > MAX_PATH_DEPTH or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return "is too long or too deep"
    if os.name == "nt" and re.search(r'[<>:"|?*]|[. ](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)', name, re.I):
        return "is not a name on Windows"
    if name.lower().endswith(_ARCHIVE_SUFFIXES):
        return "is an archive in the archive"
    return ""


def _zip_members(archive: Path) -> Iterator[Member]:
    with _LimitedZipFile(archive) as file, zipfile.ZipFile(file) as archive_file:
        for info in archive_file.infolist():
            name, mode = info.orig_filename, info.external_attr >> 16
            is_folder = name.endswith("/")
            if stat.S_IFMT(mode) not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                raise UnsafeArchive(f"member '{name}': is not a plain file or folder")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UnsafeArchive(f"member '{name}': is encrypted, or compressed in an unusual way")
            yield name, is_folder, mode, info.file_size, partial(archive_file.open, info)


def _tar_members(path: Path) -> Iterator[Member]:
    """Yield the members of a tar.gz in order; each must be read before the next."""
    with gzip.open(path) as stream:
        reader = _LimitedTarReader(stream)
        with tarfile.open(fileobj=reader, mode="r|", errorlevel=2) as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps every member
                if not (info.isdir() or info.isreg()) or info.issparse():
                    raise UnsafeArchive(f"member '{info.name}': is not a plain file or folder")
                size = 0 if info.isdir() else info.size
                reader.bytes_allowed = reader.bytes_read + size + MAX_HEADER_BYTES
                yield info.name, info.isdir(), info.mode, size, partial(archive.extractfile, info)
            while reader.read(CHUNK_BYTES):  # to the end, where gzip checks its checksum
                pass


class _LimitedZipFile(io.FileIO):
    """A zip file that refuses a huge list of members, because zipfile reads the list in one call."""

    def read(self, size: int | None = -1) -> Any:
        if size is not None and size > MAX_ZIP_DIRECTORY_BYTES:
            raise UnsafeArchive(f"its list is longer than {MAX_MEMBERS:,} members need")
        return super().read(-1 if size is None else size)


class _LimitedTarReader:
    """A tar stream that limits headers to `bytes_allowed`, because tarfile reads headers of any size."""

    def __init__(self, stream: gzip.GzipFile):
        self.stream, self.bytes_read, self.bytes_allowed = stream, 0, MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, CHUNK_BYTES))
        self.bytes_read += len(data)
        if self.bytes_read > self.bytes_allowed:
            raise UnsafeArchive("a header of a member is too large")
        return data


def _sync_tree(folder: Path) -> None:
    """Wait until a folder and everything below it is on disk."""
    for path, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(path))
