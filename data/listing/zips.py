"""Read images inside zip files without unpacking to disk; a path is written images.zip/trainA/1.png."""

import io
import os
import zipfile
from functools import lru_cache

from util.errors import DataError

MAX_MEMBER_BYTES = 2**31  # of one unpacked image
# the key has the process id, because a forked process would share the file position
_open_archives: dict[tuple[int, str, int, int], zipfile.ZipFile] = {}


def split_zip_path(path: str) -> tuple[str, str] | None:
    """Return (zip file, name inside it) for a path to or into a zip file, else None."""
    lowered, end = path.lower(), -1
    while (end := lowered.find(".zip", end + 1)) >= 0:
        stop = end + len(".zip")
        if path[stop : stop + 1] in ("", "/", os.sep) and os.path.isfile(path[:stop]):
            return path[:stop], path[stop:].replace(os.sep, "/").strip("/")
    return None


def list_members(zip_file: str, inside: str = "") -> list[tuple[str, int]]:
    """Return (name below the folder, unpacked size in bytes) of each visible file in a folder of a zip file."""
    start = f"{inside}/" if inside else ""
    members = {}
    for info in _open_archive(zip_file).infolist():
        name = info.filename.removeprefix(start)
        if info.is_dir() or (start and not info.filename.startswith(start)):
            continue
        if not any(part in ("", "__MACOSX") or part.startswith(".") for part in name.split("/")):
            members[name] = info.file_size
    return sorted(members.items())


def has_member(zip_file: str, inside: str) -> bool:
    """Return whether a zip file has a file of this name."""
    return inside in _open_archive(zip_file).NameToInfo


def list_folders(zip_file: str, inside: str = "") -> list[str]:
    """Return the sorted names of the folders directly in a folder of a zip file; empty folders are skipped."""
    return sorted({name.partition("/")[0] for name, _ in list_members(zip_file, inside) if "/" in name})


@lru_cache(maxsize=64)
def top_folder(zip_file: str) -> str:
    """Return the folder that holds all files of a zip file, or "" if there is more than one or files outside."""
    tops = {name.partition("/")[::2] for name, _ in list_members(zip_file)}
    heads = {head for head, _ in tops}
    return heads.pop() if len(heads) == 1 and all(rest for _, rest in tops) else ""


def read_member(path: str, zip_file: str, inside: str) -> io.BytesIO:
    """Return a file of a zip file unpacked in memory; raise DataError, naming it, if it cannot be unpacked."""
    archive = _open_archive(zip_file)
    info = archive.NameToInfo.get(inside)
    if info is None:
        raise DataError("image", path, f"is not in {zip_file}", "name a file that is in it")
    if info.flag_bits & 1:
        raise DataError("image", path, f"is encrypted in {zip_file}", "make a zip file without a password")
    if info.file_size > MAX_MEMBER_BYTES:
        why = f"would take {info.file_size} bytes unpacked, more than the {MAX_MEMBER_BYTES} of one image"
        raise DataError("image", path, why, "extract it from the zip file")
    try:
        return io.BytesIO(archive.read(info))  # zipfile reads at most info.file_size bytes
    except MemoryError:
        raise
    except Exception as problem:  # BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error, ...
        why = f"cannot be unpacked from {zip_file} ({type(problem).__name__}: {problem})"
        raise DataError("image", path, why, "download or make the zip file again") from problem


def _open_archive(zip_file: str) -> zipfile.ZipFile:
    """Return a zip file opened by this process; raise DataError if it is not a complete zip file."""
    try:
        state = os.stat(zip_file)
        key = os.getpid(), zip_file, state.st_mtime_ns, state.st_size
        if key not in _open_archives:
            _open_archives.setdefault(key, zipfile.ZipFile(zip_file))  # two threads may both open it; no lock is needed
        return _open_archives[key]
    except MemoryError:
        raise
    except Exception as problem:  # many types, as in read_member
        why = f"is not a complete zip file ({problem})"
        raise DataError("file", zip_file, why, "download or make it again") from problem
