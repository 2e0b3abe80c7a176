"""Read untrusted files of weights and state: scan them first and run nothing in them.

Two formats of torch.save are read: the current zip file, and the sequence of pickles before torch 1.6. Safetensors
files are recognised by their content. URLs are not read: download them, and give the file.
"""

import io
import pickle
import re
import stat
import struct
import tarfile
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch

from serialization.pickle_scan import MAX_PICKLE_BYTES, PickleScan
from serialization.pickle_types import SAVE_REMEDY, UnsafeFile
from serialization.safetensors_file import check_header, is_safetensors, read_tensors
from serialization.zip_scan import SMALL_MEMBERS, Member, read_members, verify_checksums
from util.errors import CheckpointError, UserError

MAX_FILE_BYTES = 16 << 30  # bytes; the largest image GANs have 4 GB of weights
LEGACY_MAGIC, LEGACY_PROTOCOL = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", b"\x80\x02M\xe9\x03."
FOREIGN_FORMATS = (  # (pattern of a file's first bytes, why, remedy)
    (rb"version https://git-lfs", "is a Git LFS pointer, not the weights", "fetch it with git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml)", "is a web page, not the weights", "download it again"),
    (rb"\x89HDF", "is an HDF5 file (Keras), not PyTorch weights", "convert it to a state_dict()"),
    (rb"\x08.{1,3}(pytorch|onnx|.{0,8}pytorch)", "is an ONNX file, not weights", "give the .pth it was made from"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "is compressed", "unpack it and give the .pth file"),
    (rb"\x93NUMPY", "is a file of NumPy arrays, not weights", "save a state_dict() with torch.save"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF", "is an image, not weights", "give a .pth file"),
)


def load_file(path: Path) -> Any:
    """Return the content of a .pth, .pt or .safetensors file, on the CPU; only tensors and plain containers are built.

    Raises CheckpointError for a missing, empty, foreign or unsafe file.
    """
    return _scan_and_load(path, load=True)


def check_file(path: Path) -> None:
    """Scan a file like `load_file`, including checksums, but build nothing. Raises CheckpointError."""
    _scan_and_load(path, load=False)


def _scan_and_load(path: Path, load: bool) -> Any:
    try:
        if re.match(r"\w+:/+\w", str(path)):
            raise UnsafeFile("is a URL, not a file", "download it and give the file")
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block
            raise UnsafeFile("is a directory" if path.is_dir() else "is not a regular file", "give a .pth file")
        with open(path, "rb") as file:
            if is_safetensors(file.read(16)):
                check_size(file.seek(0, io.SEEK_END))
                return read_tensors(file) if load else check_header(file)
            scan_file(file)
            file.seek(0)
            return _torch_load(file) if load else None
    except (UserError, MemoryError):
        raise
    except UnsafeFile as unsafe:
        raise CheckpointError("file", path, *unsafe.args) from unsafe
    except pickle.UnpicklingError as problem:
        raise CheckpointError("file", path, "does not hold weights that are safe to read", SAVE_REMEDY) from problem
    except OSError as problem:
        raise CheckpointError("file", path, problem.strerror or "cannot be read", "check the path") from problem
    except Exception as problem:  # on damage torch raises RuntimeError, EOFError, ValueError, KeyError and more
        if "can't allocate memory" in str(problem) or "not enough memory" in str(problem):
            raise MemoryError from problem
        why = f"is damaged or not a file of weights ({type(problem).__name__})"
        raise CheckpointError("file", path, why, "copy it again") from problem


def _torch_load(file: BinaryIO) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unreadable files raise errors anyway
        return torch.load(file, map_location="cpu", weights_only=True)


def scan_file(file: BinaryIO) -> PickleScan:
    """Return the scan of an open file: its pickle is followed, not run.

    Raises UnsafeFile for anything but plain containers of dense tensors that the file holds completely and
    uncompressed. Allocates memory only for names and numbers.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(512)
    if not start:
        raise UnsafeFile("is empty")
    for pattern, why, remedy in FOREIGN_FORMATS:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            raise UnsafeFile(why, remedy)
    check_size(size)
    if start.startswith(b"PK"):
        return _scan_zip(file, size)
    if _is_tar(start):
        raise UnsafeFile("is a tar archive", "unpack it, or save the state_dict() again with today's torch")
    file.seek(0)
    if not start.startswith(LEGACY_MAGIC):
        raise _not_weights_error(file)
    return _scan_legacy(file, size)


def check_size(size: int) -> None:
    """Raise UnsafeFile for a file of so many bytes that it cannot hold weights alone."""
    if size > MAX_FILE_BYTES:
        raise UnsafeFile(f"is far too large for weights ({size >> 30} GB)", "save the state_dict() alone")


def _scan_zip(file: BinaryIO, size: int) -> PickleScan:
    try:
        members = read_members(file, size)
    except UnsafeFile as unsafe:
        raise _truncated_error(file, size) or unsafe from None
    small = [members[name] for name in SMALL_MEMBERS if name in members]
    if members["data.pkl"].size > MAX_PICKLE_BYTES or any(member.size > 64 for member in small):
        raise UnsafeFile("holds far more than the names and shapes of weights", "save the state_dict() alone")
    verify_checksums(file, members)
    texts = {name: _member_bytes(file, members[name]) for name in ("data.pkl", *SMALL_MEMBERS) if name in members}
    byte_order, alignment = texts.get("byteorder", b"little"), texts.get(".storage_alignment", b"1")
    if byte_order not in (b"little", b"big") or not alignment.isdigit():
        raise UnsafeFile("is damaged (its byte order or alignment is invalid)")
    stream = io.BytesIO(texts["data.pkl"])
    scan = PickleScan(stream)
    if stream.read(1):
        raise UnsafeFile("has data after its pickle", SAVE_REMEDY)
    stored = {name[5:]: member.size for name, member in members.items() if name.startswith("data/")}
    if stored != {key: storage.itemsize * storage.numel for key, storage in scan.storages.items()}:
        raise UnsafeFile("claims different numbers of values than it holds", "save plain tensors")
    return scan


def _member_bytes(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.start)
    return file.read(member.size)


def _truncated_error(file: BinaryIO, size: int) -> UnsafeFile | None:
    """Return the error with the size of a truncated zip file; None if data.pkl, its first member, is incomplete too."""
    file.seek(0)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4" or header[8:10] != b"\0\0":
        return None
    name, extra = struct.unpack("<2H", header[26:30])
    if not file.read(name).endswith(b"/data.pkl"):
        return None
    file.seek(extra, io.SEEK_CUR)
    try:
        whole = PickleScan(io.BytesIO(file.read(MAX_PICKLE_BYTES))).nbytes
    except (ValueError, LookupError, TypeError):  # data.pkl itself is damaged
        return None
    if whole <= size:
        return None
    return UnsafeFile(f"is cut short: {_megabytes(size)} of at least {_megabytes(whole)} MB are present")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}" if size >= 100_000 else f"{size / 1e6:.4f}"


def _scan_legacy(file: BinaryIO, size: int) -> PickleScan:
    """Scan a file from before torch 1.6: five pickles, then each storage after its number of values."""
    stream = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    stream.seek(len(LEGACY_MAGIC))
    if stream.read(len(LEGACY_PROTOCOL)) != LEGACY_PROTOCOL:
        raise UnsafeFile("is of a format that torch does not write")
    expected = b"\x80\x02}"  # sys_info: a dictionary of numbers
    if not stream.getvalue().startswith(expected, stream.tell()) or PickleScan(stream).storages:
        raise UnsafeFile("is of a format that torch does not write")
    scan = PickleScan(stream, legacy=True)
    keys = PickleScan(stream).root
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(scan.storages):
        raise UnsafeFile("claims different tensors than it holds", "save plain tensors")
    offset = stream.tell()
    whole = offset + scan.nbytes + 8 * len(keys)
    if size != whole:
        cut = f"is cut short: {_megabytes(size)} of {_megabytes(whole)} MB are present"
        raise UnsafeFile(cut if size < whole else "has data after its tensors")
    for key in keys:
        file.seek(offset)
        if struct.unpack("<q", file.read(8))[0] != scan.storages[key].numel:
            raise UnsafeFile("claims different numbers of values than it holds", "save plain tensors")
        offset += 8 + scan.storages[key].numel * scan.storages[key].itemsize
    return scan


def _is_tar(start: bytes) -> bool:
    """Whether torch would treat a file as a tar archive."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "replace")
    except tarfile.TarError:
        return False
    return True


def _not_weights_error(file: BinaryIO) -> UnsafeFile:
    """Return the error for a file that torch.save did not write; for a pickle it names the object inside."""
    stream = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    if stream.getvalue()[:1] in (b"\x80", b"(", b"]", b"}", b"c"):
        try:
            PickleScan(stream)
        except UnsafeFile as unsafe:
            return unsafe
        except (ValueError, LookupError, TypeError, struct.error):
            return UnsafeFile("is damaged or not a file of weights")
        return UnsafeFile("is a pickle, not a file of weights", "save the network's state_dict() with torch.save")
    return UnsafeFile("is damaged or not a file of weights")
