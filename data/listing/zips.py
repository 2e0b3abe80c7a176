"""Pictures inside zip files, read where they are: paths are written pictures.zip/trainA/1.png."""

import io
import os
import zipfile
from functools import lru_cache

from util.errors import DataError

MAX_MEMBER_BYTES = 2**31  # bytes of one unpacked picture
# by process: a fork would share the place in the file
_open_archives: dict[tuple[int, str, int, int], zipfile.ZipFile] = {}


def split_zip_path(path: str) -> tuple[str, str] | None:
    """Return (zip file, name inside it) of a path that leads into a zip file or is one, else None."""
    lowered, end = path.lower(), -1
    while (end := lowered.find(".zip", end + 1)) >= 0:
        stop = end + len(".zip")
        if path[stop : stop + 1] in ("", "/", os.sep) and os.path.isfile(path[:stop]):
            return path[:stop], path[stop:].replace(os.sep, "/").strip("/")
    return None


def list_members(zip_file: str, inside: str = "") -> list[tuple[str, int]]:
    """Return (name below a folder of a zip file, unpacked size) of each of its files, hidden ones left out."""
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
    """Whether a zip file has a file of this name."""
    return inside in _open_archive(zip_file).NameToInfo


def list_folders(zip_file: str, inside: str = "") -> list[str]:
    """Return the names of the folders directly in a folder of a zip file that hold files, sorted."""
    return sorted({name.partition("/")[0] for name, _ in list_members(zip_file, inside) if "/" in name})


@lru_cache(maxsize=64)
def top_folder(zip_file: str) -> str:
    """Return the one folder that holds all files of a zip file, or "" if there is none such."""
    tops = {name.partition("/")[::2] for name, _ in list_members(zip_file)}
    heads = {head for head, _ in tops}
    return heads.pop() if len(heads) == 1 and all(rest for _, rest in tops) else ""


def read_member(path: str, zip_file: str, inside: str) -> io.BytesIO:
    """Return an unpacked file of a zip file, in memory; DataError, naming it, if it cannot be unpacked."""
    archive = _open_archive(zip_file)
    info = archive.NameToInfo.get(inside)
    if info is None:
        raise DataError("image", path, f"is not in {zip_file}", "name a file that is there")
    if info.flag_bits & 1:
        raise DataError("image", path, f"is encrypted in {zip_file}", "make a zip file without a password")
    if info.file_size > MAX_MEMBER_BYTES:
        why = f"would take {info.file_size} bytes unpacked, more than the {MAX_MEMBER_BYTES} of one picture"
        raise DataError("image", path, why, "take it out of the zip file")
    try:
        return io.BytesIO(archive.read(info))  # never more than it says
    except MemoryError:
        raise
    except Exception as problem:  # zipfile raises its own, OSError, EOFError, ValueError, RuntimeError, zlib.error, ...
        why = f"cannot be unpacked from {zip_file} ({type(problem).__name__}: {problem})"
        raise DataError("image", path, why, "download or make the zip file again") from problem


def _open_archive(zip_file: str) -> zipfile.ZipFile:
    """Return a zip file opened by this process; DataError if it is none."""
    try:
        state = os.stat(zip_file)
        key = os.getpid(), zip_file, state.st_mtime_ns, state.st_size
        if key not in _open_archives:
            _open_archives.setdefault(key, zipfile.ZipFile(zip_file))  # two threads may open it twice, neither waits
        return _open_archives[key]
    except MemoryError:
        raise
    except Exception as problem:  # as above
        why = f"is no whole zip file ({problem})"
        raise DataError("file", zip_file, why, "download or make it again") from problem
