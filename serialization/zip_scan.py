"""Parse the zip files of torch.save strictly, so that every byte has only one interpretation."""

import re
import struct
import zlib
from typing import BinaryIO, NamedTuple

from serialization.pickle_types import UnsafeFile

MAX_MEMBERS, MAX_DIRECTORY_BYTES = 20_000, 4 << 20  # number of members; bytes of the directory
SMALL_MEMBERS = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
ENCRYPTED, STREAMED, UTF8 = 0x2041, 0x8, 0x800  # flag bits
END_RECORD, ZIP64_END_RECORD, ZIP64_LOCATOR = (
    struct.Struct("<4s4H2LH"),
    struct.Struct("<4sQ2H2L4Q"),
    struct.Struct("<4sLQL"),
)
CENTRAL_HEADER, LOCAL_HEADER = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
DAMAGED = "is damaged or cut short"


class Member(NamedTuple):
    """A file inside the archive: the offset of its first byte, its size in bytes and its CRC-32."""

    name: str
    start: int
    size: int
    crc: int


def read_members(file: BinaryIO, size: int) -> dict[str, Member]:
    """Return {name: member} of an archive from torch.save; the names omit the common folder.

    Raises UnsafeFile unless members are stored uncompressed and unencrypted, have unique names that torch writes, agree
    with the directory, do not overlap and leave no space for other data.
    """
    directory, count, stop = _read_directory(file, size)
    listed, at = [], 0
    for _ in range(count):
        if len(directory) < at + CENTRAL_HEADER.size:
            raise UnsafeFile(f"{DAMAGED} (its directory is invalid)")
        fields = CENTRAL_HEADER.unpack_from(directory, at)
        at += CENTRAL_HEADER.size
        name, extra = directory[at : at + fields[10]], directory[at + fields[10] : at + fields[10] + fields[11]]
        at += fields[10] + fields[11] + fields[12]
        listed.append((name, extra, fields))
    if at != len(directory) or any(fields[0] != b"PK\1\2" for _, _, fields in listed):
        raise UnsafeFile(f"{DAMAGED} (its directory is invalid)")
    short = _short_names([name for name, _, _ in listed])
    members, end = [], 0
    for (name, extra, fields), bare in sorted(zip(listed, short, strict=True), key=lambda one: _header_offset(one[0])):
        member, end = _read_member(file, bare, name, extra, fields, end)
        members.append(member)
    if not end <= stop <= end + 24:
        raise UnsafeFile(f"{DAMAGED} (it has data between its members)")
    return {member.name: member for member in members}


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


def _read_directory(file: BinaryIO, size: int) -> tuple[bytes, int, int]:
    """Return (bytes, number of members, offset) of the directory; UnsafeFile unless it ends at the end record."""
    file.seek(max(0, size - END_RECORD.size - ZIP64_LOCATOR.size - ZIP64_END_RECORD.size))
    tail = file.read()
    if len(tail) < END_RECORD.size or not tail[-END_RECORD.size :].startswith(b"PK\5\6"):
        raise UnsafeFile(DAMAGED)
    _, disk, first, here, count, length, offset, comment = END_RECORD.unpack(tail[-END_RECORD.size :])
    stop, end_fields = size - END_RECORD.size, (disk, first, here, count, length, offset)
    locator = tail[-END_RECORD.size - ZIP64_LOCATOR.size : -END_RECORD.size]
    if len(tail) >= END_RECORD.size + ZIP64_LOCATOR.size and locator.startswith(b"PK\6\7"):
        stop -= ZIP64_LOCATOR.size + ZIP64_END_RECORD.size
        if ZIP64_LOCATOR.unpack(locator)[1:] != (0, stop, 1) or not tail.startswith(b"PK\6\6"):
            raise UnsafeFile(f"{DAMAGED} (its directory is invalid)")
        _, rest, _, _, *wide = ZIP64_END_RECORD.unpack(tail[: ZIP64_END_RECORD.size])
        full = (0xFFFF,) * 4 + (0xFFFFFFFF,) * 2
        if rest != ZIP64_END_RECORD.size - 12 or any(
            a not in (b, c) for a, b, c in zip(end_fields, wide, full, strict=True)
        ):
            raise UnsafeFile(f"{DAMAGED} (its directory is contradictory)")
        disk, first, here, count, length, offset = wide
    if disk or first or here != count or comment or offset + length != stop:
        raise UnsafeFile(f"{DAMAGED} (its directory is invalid)")
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise UnsafeFile("holds far more files than the tensors of a network", "save the state_dict() alone")
    file.seek(offset)
    return file.read(length), count, offset


def _header_offset(entry: tuple[bytes, bytes, tuple]) -> int:
    """Return the offset of a member's local header."""
    _, extra, fields = entry
    return _sizes_and_offset(extra, fields)[2]


def _sizes_and_offset(extra: bytes, fields: tuple) -> list[int]:
    """Return [size, stored size, offset] of a directory entry; a value at its maximum comes from the zip64 field."""
    numbers, at = [fields[9], fields[8], fields[16]], 0
    if 0xFFFFFFFF not in numbers:
        return numbers
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wanted = [i for i, number in enumerate(numbers) if number == 0xFFFFFFFF]
            if length >= 8 * len(wanted) and at + 4 + length <= len(extra):
                for place, i in enumerate(wanted):
                    numbers[i] = struct.unpack_from("<Q", extra, at + 4 + 8 * place)[0]
                return numbers
        at += 4 + length
    raise UnsafeFile(f"{DAMAGED} (its directory is invalid)")


def _read_member(file: BinaryIO, bare: str, name: bytes, extra: bytes, fields: tuple, end: int) -> tuple[Member, int]:
    """Return a member and its end; it must begin where the one before ends, and its header must match the directory."""
    flags, method, crc = fields[3], fields[4], fields[7]
    size, packed, offset = _sizes_and_offset(extra, fields)
    if flags & ENCRYPTED:
        raise UnsafeFile("is encrypted", "save it again with torch.save")
    if method or size != packed or flags & ~(STREAMED | UTF8):
        raise UnsafeFile(f"is compressed ('{bare}' is), unlike files from torch.save", "save it again with torch.save")
    if fields[13] or fields[15] & 0xFF:  # torch returns uninitialised memory for a member marked as a folder
        raise UnsafeFile(f"{DAMAGED} (its directory is invalid)")
    if not end <= offset <= end + (24 if end else 0):
        raise UnsafeFile(f"{DAMAGED} (its members overlap, or it has data between them)")
    file.seek(offset)
    header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size:
        raise UnsafeFile(DAMAGED)
    local = LOCAL_HEADER.unpack(header)
    streamed = flags & STREAMED and not any(local[6:9])  # sizes follow the bytes
    same_sizes = local[6] == crc and all(
        given in (own, 0xFFFFFFFF) for given, own in zip(local[7:9], (packed, size), strict=True)
    )
    agrees = local[0] == b"PK\3\4" and local[2:4] == (flags, method) and (streamed or same_sizes)
    if not agrees or file.read(local[9]) != name:
        raise UnsafeFile(f"{DAMAGED} (its directory is contradictory)")
    start = offset + LOCAL_HEADER.size + local[9] + local[10]
    return Member(bare, start, size, crc), start + size


def _short_names(names: list[bytes]) -> list[str]:
    """Return the names without the common folder; UnsafeFile for names that torch does not write."""
    try:
        texts = [name.decode() for name in names]
    except UnicodeDecodeError:
        raise UnsafeFile("is a zip file, not weights", "unpack it and give the .pth file") from None
    short = [text.partition("/")[2] for text in texts]
    if any(text.endswith("constants.pkl") or "/code/" in text for text in texts):
        raise UnsafeFile("is a TorchScript archive, a program", "save the network's state_dict() instead")
    if "data.pkl" not in short:
        kind = "file of NumPy arrays" if all(text.endswith(".npy") for text in texts) and texts else "zip file"
        raise UnsafeFile(f"is a {kind}, not weights", "unpack it or give the .pth file")
    if len({text.casefold() for text in texts}) < len(texts):
        raise UnsafeFile("holds two files with the same name", "save it again with torch.save")
    if len({text.partition("/")[0] for text in texts}) > 1:
        raise UnsafeFile("holds files in several folders", "save it again with torch.save")
    for name in short:
        if name != "data.pkl" and name not in SMALL_MEMBERS and not re.fullmatch(r"data/\w{1,40}", name, re.ASCII):
            raise UnsafeFile(
                f"holds a file that torch.save does not write ('{name[:80]}')", "save it again with torch.save"
            )
    return short
