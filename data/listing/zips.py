"""Read images inside zip files without unpacking to disk; a path is written images.zip/trainA/1.png."""

import io
import os
import re
import zipfile
from dataclasses import replace
from typing import IO, Literal, NamedTuple

from data.listing.paths import COMPANION_EXTENSIONS, EXTENSIONS, HIDDEN_FOLDERS, Paths
from util.errors import DataError

MAX_MEMBER_BYTES = 2**31  # of one unpacked image
# matches a hidden part of a name, an empty one, or one of HIDDEN_FOLDERS
HIDDEN = re.compile(rf"(?:^|/)(?:\.|(?:{'|'.join(HIDDEN_FOLDERS)})?(?:/|\Z))")
# the key has the process id, because a forked process would share the file position
_open_zips: dict[tuple[int, str, int, int], "Zip"] = {}


class Zip(NamedTuple):
    """The files of one zip file, opened by this process; hidden ones are not listed."""

    file: str
    archive: zipfile.ZipFile
    folders: set[str]  # folders that hold visible files, also in sub-folders; "" is the zip file itself
    version: tuple[int, int]  # size (bytes) and modification time (ns)

    @property
    def checks_late(self) -> bool:
        """False: an image can be looked at before it is used."""
        return False

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return what a path is; "" if there is nothing."""
        name = path[len(self.file) + 1 :].replace(os.sep, "/")
        return "file" if name in self.archive.NameToInfo else "folder" if name in self.folders else ""

    def list_images(self, folder: str) -> Paths:
        """Return the sorted paths of all images under a folder and its sub-folders."""
        start = os.path.join(folder, "")[len(self.file) + 1 :].replace(os.sep, "/")
        files = sorted(
            (name[len(start) :], info.file_size)
            for name, info in self.archive.NameToInfo.items()
            if name.startswith(start) and not name.endswith("/") and not HIDDEN.search(name, len(start) - 1)
        )
        images = [(name, size) for name, size in files if name.lower().endswith(EXTENSIONS)]
        paths = Paths.from_names([name for name, _ in images], [size for _, size in images], folder)
        unused = (name for name, _ in files if not name.lower().endswith((*EXTENSIONS, *COMPANION_EXTENSIONS)))
        return replace(paths, unused=b"".join(os.fsencode(name) + b"\0" for name in unused))

    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of all files directly in a folder; [] if it does not exist."""
        start = os.path.join(folder, "")[len(self.file) + 1 :].replace(os.sep, "/")
        below = [name[len(start) :] for name in self.archive.NameToInfo if name.startswith(start)]
        return sorted(name for name in below if name and "/" not in name)

    def list_folders(self, folder: str) -> list[str]:
        """Return the sorted names of the folders directly in a folder; empty folders are skipped."""
        start = os.path.join(folder, "")[len(self.file) + 1 :].replace(os.sep, "/")
        below = {name[len(start) :] for name in self.folders if name.startswith(start)}
        return sorted(name for name in below if "/" not in name and not HIDDEN.match(name))

    def top_folder(self, path: str) -> str:
        """Return the folder that holds all files, if the path is the zip file itself; "" if there is none."""
        tops = self.list_folders(self.file) if len(path) <= len(self.file) + 1 else []
        files = any("/" not in name and not HIDDEN.match(name) for name in self.archive.NameToInfo)
        return tops[0] if len(tops) == 1 and not files else ""

    def open(self, path: str) -> IO[bytes]:
        """Return a file unpacked in memory; raise DataError, naming it, if it cannot be unpacked."""
        info = self.archive.NameToInfo.get(path[len(self.file) + 1 :].replace(os.sep, "/"))
        if info is None:
            raise DataError("image", path, f"is not in {self.file}", "name a file that is in it")
        if info.flag_bits & 1:
            raise DataError("image", path, f"is encrypted in {self.file}", "make a zip file without a password")
        if info.file_size > MAX_MEMBER_BYTES:
            why = f"would take {info.file_size} bytes unpacked, more than the {MAX_MEMBER_BYTES} of one image"
            raise DataError("image", path, why, "extract it from the zip file")
        try:
            return io.BytesIO(self.archive.read(info))  # zipfile reads at most info.file_size bytes
        except MemoryError:
            raise
        except Exception as problem:  # BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error, ...
            why = f"cannot be unpacked from {self.file} ({type(problem).__name__}: {problem})"
            raise DataError("image", path, why, "download or make the zip file again") from problem

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return size (bytes) and modification time (ns) of the zip file."""
        return self.version


def open_zip(file: str) -> Zip:
    """Return a zip file opened by this process; raise DataError if it is not a complete zip file."""
    try:
        status = os.stat(file)
        key = os.getpid(), file, status.st_size, status.st_mtime_ns
        if key not in _open_zips:
            archive, folders = zipfile.ZipFile(file), set()
            if not any("/" in name for name in archive.NameToInfo):  # made by an old Windows program
                archive.NameToInfo = {name.replace("\\", "/"): info for name, info in archive.NameToInfo.items()}
            for name in archive.NameToInfo:
                # a hidden folder holds what is visible below it, but its parent does not
                while not HIDDEN.match(name, name.rfind("/")) and (name := name.rpartition("/")[0]) not in folders:
                    folders.add(name)
            _open_zips.setdefault(key, Zip(file, archive, folders, key[2:]))  # two threads may both open it
        return _open_zips[key]
    except MemoryError:
        raise
    except Exception as problem:  # many types, as in Zip.open
        why = f"is not a complete zip file ({problem})"
        raise DataError("file", file, why, "download or make it again") from problem
