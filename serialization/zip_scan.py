"""The zip files that torch writes: their members, held to one reading of every byte."""

import re
import struct
import zlib
from typing import BinaryIO, NamedTuple

from serialization.pickle_types import Refused

MOST, DIRECTORY = 20_000, 4 << 20  # members; bytes of the directory
SMALL = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
ENCRYPTED, STREAMED, UTF8 = 0x2041, 0x8, 0x800  # flag bits
END, END64, LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
CENTRAL, LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
DAMAGED = "is damaged or cut short"


class Member(NamedTuple):
    """A file inside the archive: where its bytes begin, how many they are, their checksum."""

    name: str
    start: int
    size: int
    crc: int


def members(file: BinaryIO, size: int) -> dict[str, Member]:
    """Return {name: member} of an archive as torch writes them, names without the folder that all are in.

    Stored, not compressed or encrypted; names that torch writes, each once; directory and members agree, overlap
    nowhere and leave no room for anything else. Raises Refused.
    """
    directory, count, stop = _directory(file, size)
    listed, at = [], 0
    for _ in range(count):
        if len(directory) < at + CENTRAL.size:
            raise Refused(f"{DAMAGED} (its directory is)")
        fields = CENTRAL.unpack_from(directory, at)
        at += CENTRAL.size
        name, extra = directory[at : at + fields[10]], directory[at + fields[10] : at + fields[10] + fields[11]]
        at += fields[10] + fields[11] + fields[12]
        listed.append((name, extra, fields))
    if at != len(directory) or any(fields[0] != b"PK\1\2" for _, _, fields in listed):
        raise Refused(f"{DAMAGED} (its directory is)")
    short = _short_names([name for name, _, _ in listed])
    found, end = [], 0
    for (name, extra, fields), bare in sorted(zip(listed, short, strict=True), key=lambda one: _offset(one[0])):
        member, end = _member(file, bare, name, extra, fields, end)
        found.append(member)
    if not end <= stop <= end + 24:
        raise Refused(f"{DAMAGED} (there is something between its members)")
    return {member.name: member for member in found}


def check_sums(file: BinaryIO, found: dict[str, Member]) -> None:
    """Read every member once, a megabyte at a time; Refused if a checksum does not fit."""
    for member in found.values():
        file.seek(member.start)
        left, crc = member.size, 0
        while left:
            part = file.read(min(left, 1 << 20))
            if not part:
                raise Refused(DAMAGED)
            left, crc = left - len(part), zlib.crc32(part, crc)
        if crc != member.crc:
            raise Refused("is damaged (its checksums do not fit)")


def _directory(file: BinaryIO, size: int) -> tuple[bytes, int, int]:
    """Return the directory's bytes, how many members it lists, and where it begins; it ends where the end begins."""
    file.seek(max(0, size - END.size - LOCATOR.size - END64.size))
    tail = file.read()
    if len(tail) < END.size or not tail[-END.size :].startswith(b"PK\5\6"):
        raise Refused(DAMAGED)
    _, disk, first, here, count, length, offset, comment = END.unpack(tail[-END.size :])
    stop, told = size - END.size, (disk, first, here, count, length, offset)
    locator = tail[-END.size - LOCATOR.size : -END.size]
    if len(tail) >= END.size + LOCATOR.size and locator.startswith(b"PK\6\7"):
        stop -= LOCATOR.size + END64.size
        if LOCATOR.unpack(locator)[1:] != (0, stop, 1) or not tail.startswith(b"PK\6\6"):
            raise Refused(f"{DAMAGED} (its directory is)")
        _, rest, _, _, *wide = END64.unpack(tail[: END64.size])
        full = (0xFFFF,) * 4 + (0xFFFFFFFF,) * 2
        if rest != END64.size - 12 or any(a not in (b, c) for a, b, c in zip(told, wide, full, strict=True)):
            raise Refused(f"{DAMAGED} (its directory says two things)")
        disk, first, here, count, length, offset = wide
    if disk or first or here != count or comment or offset + length != stop:
        raise Refused(f"{DAMAGED} (its directory is)")
    if count > MOST or length > DIRECTORY:
        raise Refused("holds far more files than the tensors of a network", "save the state_dict() alone")
    file.seek(offset)
    return file.read(length), count, offset


def _offset(entry: tuple[bytes, bytes, tuple]) -> int:
    """Return where a member's own header begins."""
    _, extra, fields = entry
    return _wide(extra, fields)[2]


def _wide(extra: bytes, fields: tuple) -> list[int]:
    """Return [size, stored size, offset] of an entry of the directory, from its zip64 field where they are full."""
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
    raise Refused(f"{DAMAGED} (its directory is)")


def _member(file: BinaryIO, bare: str, name: bytes, extra: bytes, fields: tuple, end: int) -> tuple[Member, int]:
    """Return a member and where it ends; it has to begin where the one before ended, and its header to agree."""
    flags, method, crc = fields[3], fields[4], fields[7]
    size, packed, offset = _wide(extra, fields)
    if flags & ENCRYPTED:
        raise Refused("is encrypted", "save it again with torch.save")
    if method or size != packed or flags & ~(STREAMED | UTF8):
        raise Refused(f"is compressed ('{bare}' is), as torch.save never does", "save it again with torch.save")
    if fields[13] or fields[15] & 0xFF:  # torch leaves the bytes of what says it is a folder as they were in memory
        raise Refused(f"{DAMAGED} (its directory is)")
    if not end <= offset <= end + (24 if end else 0):
        raise Refused(f"{DAMAGED} (its members overlap, or something lies between them)")
    file.seek(offset)
    header = file.read(LOCAL.size)
    if len(header) < LOCAL.size:
        raise Refused(DAMAGED)
    local = LOCAL.unpack(header)
    streamed = flags & STREAMED and not any(local[6:9])  # sizes follow the bytes
    told = local[6] == crc and all(
        told in (own, 0xFFFFFFFF) for told, own in zip(local[7:9], (packed, size), strict=True)
    )
    agrees = local[0] == b"PK\3\4" and local[2:4] == (flags, method) and (streamed or told)
    if not agrees or file.read(local[9]) != name:
        raise Refused(f"{DAMAGED} (its directory says two things)")
    start = offset + LOCAL.size + local[9] + local[10]
    return Member(bare, start, size, crc), start + size


def _short_names(names: list[bytes]) -> list[str]:
    """Return the names without the folder that all are in; Refused for names that torch does not write."""
    try:
        texts = [name.decode() for name in names]
    except UnicodeDecodeError:
        raise Refused("is a zip file, not weights", "unpack it, and give the .pth file") from None
    short = [text.partition("/")[2] for text in texts]
    if any(text.endswith("constants.pkl") or "/code/" in text for text in texts):
        raise Refused("is a TorchScript archive, a program", "save the network's state_dict() instead")
    if "data.pkl" not in short:
        kind = "file of NumPy arrays" if all(text.endswith(".npy") for text in texts) and texts else "zip file"
        raise Refused(f"is a {kind}, not weights", "unpack it, or give the .pth file")
    if len({text.casefold() for text in texts}) < len(texts):
        raise Refused("holds two files of one name", "save it again with torch.save")
    if len({text.partition("/")[0] for text in texts}) > 1:
        raise Refused("holds files in several folders", "save it again with torch.save")
    for name in short:
        if name != "data.pkl" and name not in SMALL and not re.fullmatch(r"data/\w{1,40}", name, re.ASCII):
            raise Refused(
                f"holds a file that torch.save does not write ('{name[:80]}')", "save it again with torch.save"
            )
    return short
