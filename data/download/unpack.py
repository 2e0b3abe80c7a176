"""Unpack a zip or tar.gz that anybody may have made: plain files below one folder, all of them or none.

Members are written one after the other as they are read, into a folder beside the place; it gets its name in one
step when all is on the disk. What an archive says of sizes is not believed: bytes are counted as they come.
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
from pathlib import Path
from typing import IO, Any

from data.download.partial import unwritable
from util.atomic_write import sync_folder

ENTRIES = 500_000  # members; the largest of the reference's data sets has 139,000
BYTES = 64 << 30  # of all files together
RATIO, SPARED = 20, 16 << 20  # the archive may grow so many times, beyond the first bytes; pictures hardly do
DEPTH, NAME = 16, 240  # folders, and bytes of one name
HEADERS = 1 << 17  # bytes a tar may spend on the headers of one member, or on its end
DIRECTORY = 48 << 20  # bytes of a zip's list of members
PIECE = 1 << 18  # bytes
_PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_PHASE = re.compile("(train|val|test)[AB]?")
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError,
           ValueError, OverflowError, IndexError, KeyError)  # fmt: skip

Member = tuple[str, bool, IO[bytes] | None]  # (name as in the archive, whether it is a folder, what is in it)
Show = Callable[[int, int | None], None]


class Refused(Exception):
    """Why an archive is not unpacked, in a few words that begin with the member if it is one's fault."""


class Broken(Exception):
    """Why an archive cannot be read to its end, in a few words."""


def unpack(archive: Path, place: Path, show: Show, ready: Callable[[], None]) -> int:
    """Make the folder `place` of an archive's files and return their number; a single folder around all is left out.

    ready: called when all is on the disk, just before it gets its name.
    Raises Refused for what no data set needs, Broken for an archive that is cut or damaged, EnvironmentFault for a
    disk that fails; then nothing of it is left. What an earlier, killed call left is removed first.
    """
    beside = being_unpacked(place)
    try:
        if beside.exists():
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        try:
            count = _write_all(archive, beside, show)
            inner = list(beside.iterdir())
            around = len(inner) == 1 and inner[0].is_dir() and not _PHASE.fullmatch(inner[0].name)
            _flush(beside)
            ready()
            os.rename(inner[0] if around else beside, place)
            sync_folder(place.parent)
            return count
        finally:
            if beside.exists():
                shutil.rmtree(beside)
    except OSError as problem:
        raise unwritable(Path(problem.filename or beside), problem) from problem


def being_unpacked(place: Path) -> Path:
    """Return the folder that becomes a place; one that is there was left by a call that was killed."""
    return place.with_name(f".{place.name}.unpacking")


def _write_all(archive: Path, root: Path, show: Show) -> int:
    """Write every member below root, counting; return how many files that are."""
    names, count, written = _Names(), 0, 0
    most = min(BYTES, SPARED + RATIO * archive.stat().st_size)
    for name, is_folder, content in _members(archive):
        parts = names.admit(name, is_folder)
        of_a_mac = any(part == "__MACOSX" or part.startswith("._") for part in parts)  # notes about files, no pictures
        path = Path(os.devnull) if of_a_mac else root.joinpath(*parts)
        if content is None:
            if not of_a_mac:
                path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb" if of_a_mac else "xb") as file:
            while piece := _read(content):
                written += len(piece)
                if written > most:
                    raise Refused(f"member '{name}': with it there are more than {most} bytes in all")
                file.write(piece)
        if not of_a_mac:
            count += 1
            show(count, None)
    if not count:
        raise Refused("it holds no files")
    return count


def _members(archive: Path) -> Iterator[Member]:
    """Yield an archive's members in order, each to be read before the next; only files and folders are any."""
    with open(archive, "rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        each = _of_zip(archive) if zipped else _of_tar(file)
        while True:
            try:
                member = next(each, None)
            except (Refused, Broken):
                raise
            except _BROKEN as problem:
                raise Broken(f"{'zip' if zipped else 'tar.gz'}: {problem or type(problem).__name__}") from problem
            if member is None:
                return
            yield member


def _read(content: IO[bytes]) -> bytes:
    try:
        return content.read(PIECE)
    except _BROKEN as problem:
        raise Broken(str(problem) or type(problem).__name__) from problem


class _Names:
    """The names so far; admits one that is safe on every system and differs from all others on every system."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, bool]] = {}  # folded path: (as it was spelt, whether it is a folder)
        self.count = 0

    def admit(self, name: str, is_folder: bool) -> tuple[str, ...]:
        """Return the parts of a member's path; raise Refused."""
        self.count += 1
        if self.count > ENTRIES:
            raise Refused(f"it has more than {ENTRIES:,} members")
        why = _unsafe(name)
        if why:
            raise Refused(f"member '{name[:NAME]}': {why}")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if not parts and not is_folder:
            raise Refused(f"member '{name}': has no name")
        for end in range(1, len(parts) + 1):
            self._note(name, "/".join(parts[:end]), is_folder or end < len(parts), end == len(parts))
        return parts

    def _note(self, name: str, path: str, is_folder: bool, itself: bool) -> None:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        before = self.seen.get(folded)
        self.seen[folded] = path, is_folder
        if before is not None and before != (path, is_folder):
            raise Refused(f"member '{name}': clashes with '{before[0]}'")
        if before is not None and itself and not is_folder:
            raise Refused(f"member '{name}': is there twice")


def _unsafe(name: str) -> str:
    """Return why a name may not become a path, "" if it may."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name:
        return "is no path below a folder"
    if ".." in parts:
        return "leads out of its folder"
    if not all(c.isprintable() for c in name):  # NUL, control characters, and bytes that are no UTF-8
        return "has characters that no name should have"
    if len(parts) > DEPTH or any(len(part.encode()) > NAME for part in parts):
        return "is too long or too deep"
    if os.name == "nt" and re.search(r'[<>:"|?*]|[. ](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)', name, re.I):
        return "is no name on Windows"
    if name.lower().endswith(_PACKED):
        return "is an archive in the archive"
    return ""


def _of_zip(archive: Path) -> Iterator[Member]:
    with _Sparing(archive) as file, zipfile.ZipFile(file) as opened:
        for info in opened.infolist():
            name, kind, mode = info.orig_filename, stat.S_IFMT(info.external_attr >> 16), info.external_attr >> 16
            is_folder = name.endswith("/")
            if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                raise Refused(f"member '{name}': is no plain file or folder")
            _check_mode(name, 0 if is_folder else mode)
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(f"member '{name}': is encrypted, or compressed in an unusual way")
            if is_folder:
                yield name, True, None
            else:
                with opened.open(info) as content:
                    yield name, False, content


def _of_tar(file: IO[bytes]) -> Iterator[Member]:
    with gzip.GzipFile(fileobj=file) as plain:
        metered = _Metered(plain)
        with tarfile.open(fileobj=metered, mode="r|", errorlevel=2) as opened:  # type: ignore[call-overload]
            while (info := opened.next()) is not None:
                opened.members = []  # type: ignore[attr-defined]  # else it keeps every one
                if not (info.isdir() or info.isreg()) or info.issparse():
                    raise Refused(f"member '{info.name}': is no plain file or folder")
                _check_mode(info.name, 0 if info.isdir() else info.mode)
                metered.allowed = metered.read_so_far + HEADERS + (0 if info.isdir() else info.size)
                yield info.name, info.isdir(), None if info.isdir() else opened.extractfile(info)
                metered.allowed = max(metered.allowed, metered.read_so_far + HEADERS)
            metered.allowed = metered.read_so_far + HEADERS
            while metered.read(PIECE):  # to the end, where gzip's checksum is
                pass


def _check_mode(name: str, mode: int) -> None:
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise Refused(f"member '{name}': asks for its owner's rights (setuid or setgid)")


class _Sparing(io.FileIO):
    """A zip file, whose list of members zipfile reads in one go: not if it is huge."""

    def read(self, size: int | None = -1) -> Any:
        if size is not None and size > DIRECTORY:
            raise Refused(f"it lists more members than {ENTRIES:,} would need")
        return super().read(-1 if size is None else size)


class _Metered:
    """A tar's bytes, of which headers may take no more than `allowed` grants: tarfile reads any header whole."""

    def __init__(self, plain: gzip.GzipFile):
        self.plain, self.read_so_far, self.allowed = plain, 0, HEADERS

    def read(self, size: int) -> bytes:
        data = self.plain.read(min(size, PIECE))
        self.read_so_far += len(data)
        if self.read_so_far > self.allowed:
            raise Refused("a header of a member is too large")
        return data


def _flush(folder: Path) -> None:
    """Wait until every file and folder below, and this one, is on the disk."""
    for path, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(path))
