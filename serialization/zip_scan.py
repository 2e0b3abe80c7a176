"""Check the zip files of torch.save strictly, so that every byte has only one interpretation."""

import re
import struct
import zipfile
import zlib
from typing import BinaryIO, NamedTuple

from serialization.pickle_types import UnsafeFile

MAX_MEMBERS, MAX_DIRECTORY_BYTES = 20_000, 4 << 20  # number of members; bytes of the directory
SMALL_MEMBERS = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
ENCRYPTED, STREAMED, UTF8 = 0x2041, 0x8, 0x800  # flag bits
END_RECORD, LOCAL_HEADER = struct.Struct("<4s4H2LH"), struct.Struct("<4s5H3L2H")
ZIP64_END_RECORD, ZIP64_LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
DAMAGED = "is damaged or cut short"
INVALID_DIRECTORY = f"{DAMAGED} (its directory is invalid)"
SAVE_AGAIN = "save it again with torch.save"


class Member(NamedTuple):
    """A file inside the archive: the offset of its first byte, its size in bytes and its CRC-32."""

    start: int
    size: int
    crc: int


def read_members(file: BinaryIO, size: int) -> dict[str, Member]:
    """Return {name: member} of an archive from torch.save; the names omit the common folder.

    Raises UnsafeFile unless members are stored uncompressed and unencrypted, have unique names that torch writes, agree
    with the directory, do not overlap and leave no space for other data.
    """
    count, length, stop = _read_end(file, size)
    try:
        entries = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as problem:
        raise UnsafeFile(INVALID_DIRECTORY) from problem
    if len(entries) != count or (entries and not _is_whole(file, entries[-1], stop + length)):
        raise UnsafeFile(INVALID_DIRECTORY)
    named = zip(entries, _short_names([entry.orig_filename for entry in entries]), strict=True)
    members, end = {}, 0
    for entry, name in sorted(named, key=lambda pair: pair[0].header_offset):
        members[name] = _read_member(file, entry, name, end)
        end = members[name].start + members[name].size
    if not end <= stop <= end + 24:
        raise UnsafeFile(f"{DAMAGED} (it has data between its members)")
    return members


def verify_checksums(file: BinaryIO, members: dict[str, Member]) -> None:
    """Read every member once, 1 MiB at a time; UnsafeFile if a checksum is wrong."""
    for member in members.values():
        file.seek(member.start)
        left, crc = member.size, 0
        while left:
            part = file.read(min(left, 1 << 20))
            if not part:
                raise UnsafeFile(DAMAGED)
            left, crc = left - len(part), zlib.crc32(part, crc)
        if crc != member.crc:
            raise UnsafeFile("is damaged (a checksum is wrong)")


def _read_end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return (members, bytes, offset) of the directory; UnsafeFile unless it ends at the end record."""
    file.seek(max(0, size - END_RECORD.size - ZIP64_LOCATOR.size - ZIP64_END_RECORD.size))
    tail = file.read()
    if len(tail) < END_RECORD.size or not tail[-END_RECORD.size :].startswith(b"PK\5\6"):
        raise UnsafeFile(DAMAGED)
    _, *numbers, comment = END_RECORD.unpack(tail[-END_RECORD.size :])
    stop = size - END_RECORD.size
    locator = tail[-END_RECORD.size - ZIP64_LOCATOR.size : -END_RECORD.size]
    if len(tail) >= END_RECORD.size + ZIP64_LOCATOR.size and locator.startswith(b"PK\6\7"):
        stop -= ZIP64_LOCATOR.size + ZIP64_END_RECORD.size
        if ZIP64_LOCATOR.unpack(locator)[1:] != (0, stop, 1) or not tail.startswith(b"PK\6\6"):
            raise UnsafeFile(INVALID_DIRECTORY)
        _, rest, _, _, *wide = ZIP64_END_RECORD.unpack(tail[: ZIP64_END_RECORD.size])
        most = (0xFFFF,) * 4 + (0xFFFFFFFF,) * 2  # stands for a number that only the zip64 record holds
        agrees = all(short in (full, limit) for short, full, limit in zip(numbers, wide, most, strict=True))
        if rest != ZIP64_END_RECORD.size - 12 or not agrees:
            raise UnsafeFile(f"{DAMAGED} (its directory is contradictory)")
        numbers = wide
    disk, first, here, count, length, offset = numbers
    if disk or first or here != count or comment or offset + length != stop:
        raise UnsafeFile(INVALID_DIRECTORY)
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise UnsafeFile("holds far more files than the tensors of a network", "save the state_dict() alone")
    return count, length, offset


def _is_whole(file: BinaryIO, last: zipfile.ZipInfo, end: int) -> bool:
    """Whether the directory's last entry has the lengths that it claims; zipfile reads what is there without a word."""
    lengths = len(_raw_name(last)), len(last.extra), len(last.comment)
    file.seek(end - sum(lengths) - 18)  # 18 bytes from the three lengths to the name
    return file.read(6) == struct.pack("<3H", *lengths)


def _raw_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & UTF8 else "cp437")


def _read_member(file: BinaryIO, entry: zipfile.ZipInfo, name: str, end: int) -> Member:
    """Return a member; it must begin where the one before ends, and its header must match the directory."""
    flags, method, size, offset = entry.flag_bits, entry.compress_type, entry.file_size, entry.header_offset
    if flags & ENCRYPTED:
        raise UnsafeFile("is encrypted", SAVE_AGAIN)
    if method or size != entry.compress_size or flags & ~(STREAMED | UTF8):
        raise UnsafeFile(f"is compressed ('{name}' is), unlike files from torch.save", SAVE_AGAIN)
    if entry.volume or entry.external_attr & 0xFF:  # torch returns uninitialised memory for a member marked as a folder
        raise UnsafeFile(INVALID_DIRECTORY)
    if not end <= offset <= end + (24 if end else 0):
        raise UnsafeFile(f"{DAMAGED} (its members overlap, or it has data between them)")
    file.seek(offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise UnsafeFile(DAMAGED)
    signature, _, *kind, _, _, crc, packed, full, name_length, extra_length = LOCAL_HEADER.unpack(header)
    streamed = flags & STREAMED and not (crc or packed or full)  # sizes follow the bytes
    same_sizes = crc == entry.CRC and all(number in (size, 0xFFFFFFFF) for number in (packed, full))
    agrees = signature == b"PK\3\4" and kind == [flags, method] and (streamed or same_sizes)
    if not agrees or file.read(name_length) != _raw_name(entry):
        raise UnsafeFile(f"{DAMAGED} (its directory is contradictory)")
    return Member(offset + LOCAL_HEADER.size + name_length + extra_length, size, entry.CRC)


def _short_names(names: list[str]) -> list[str]:
    """Return the names without the common folder; UnsafeFile for names that torch does not write."""
    short = [name.partition("/")[2] for name in names]
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise UnsafeFile("is a TorchScript archive, a program", "save the network's state_dict() instead")
    if "data.pkl" not in short:
        kind = "file of NumPy arrays" if all(name.endswith(".npy") for name in names) and names else "zip file"
        raise UnsafeFile(f"is a {kind}, not weights", "unpack it or give the .pth file")
    if len({name.casefold() for name in names}) < len(names):
        raise UnsafeFile("holds two files with the same name", SAVE_AGAIN)
    if len({name.partition("/")[0] for name in names}) > 1:
        raise UnsafeFile("holds files in several folders", SAVE_AGAIN)
    for name in short:
        if name not in ("data.pkl", *SMALL_MEMBERS) and not re.fullmatch(r"data/\w{1,40}", name, re.ASCII):
            raise UnsafeFile(f"holds a file that torch.save does not write ('{name[:80]}')", SAVE_AGAIN)
    return short
