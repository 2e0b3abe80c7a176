"""Read the headers of a tar file: its plain files and where their content begins; everything else is refused."""

import os
import re
from collections.abc import Iterator
from typing import IO, NamedTuple

BLOCK_BYTES = 512
MAX_NAME_BYTES = 1000
MAX_EXTENSION_BYTES = 1 << 16  # of a header that extends the next one (PAX, GNU)
MAX_PADDING_BYTES = 1 << 22  # zeros after the end mark
COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
KINDS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
UNSAFE = re.compile(r"/|[A-Za-z]:|.*\\|(?:.*/)?\.\.(?:/|\Z)", re.DOTALL)


class BadTar(Exception):
    """The reason why a tar file is refused."""


class CutTar(BadTar):
    """The reason why a file cannot be read as a tar to its end, as after a broken download."""


class Member(NamedTuple):
    """A plain file in a tar file: its name, and where its content begins (bytes)."""

    name: str
    offset: int
    size: int


def read_members(file: IO[bytes], total: int) -> Iterator[Member]:
    """Yield the plain files of a tar file of `total` bytes; raise BadTar for links, damage and names that lead out.

    Formats: v7, ustar, GNU and PAX (POSIX.1-2001), uncompressed. Folders are skipped.
    """
    file.seek(0)
    start = file.read(min(total, 6))
    if packed := next((name for magic, name in COMPRESSED if start.startswith(magic)), ""):
        raise BadTar(f"it is compressed ({packed}), so its images cannot be read in place")
    offset, long_name, pax = 0, "", dict[str, str]()
    while True:
        header = _read(file, offset, BLOCK_BYTES, total)
        if not any(header):
            break
        name, size, kind = parse_header(header, first=not offset)
        offset += BLOCK_BYTES
        if kind in (b"x", b"g", b"L", b"K"):
            if size > MAX_EXTENSION_BYTES:
                raise BadTar(f"a header takes {size} bytes, more than the {MAX_EXTENSION_BYTES} of a name")
            content = _read(file, offset, size, total)
            if kind in (b"x", b"g"):
                records = _parse_pax(content)
                if kind == b"g" and records.keys() & {"path", "size"}:
                    raise BadTar("one name or size is stated for several members")
                pax = records if kind == b"x" else pax
            elif kind == b"L":
                long_name = os.fsdecode(content.split(b"\0")[0])
        else:
            name = pax.get("path") or long_name or name
            size = _pax_size(pax, size)
            sparse = any(key.startswith("GNU.sparse.") for key in pax)
            pax, long_name = {}, ""
            if sparse or kind not in (b"0", b"\0", b"5", b"7"):
                what = "a sparse file" if sparse else KINDS.get(kind, f"of an unknown kind ({kind!r})")
                raise BadTar(f"member '{name[:80]}' is {what}")
            is_folder = kind == b"5" or name.endswith("/")
            if not is_folder:
                yield Member(checked_name(name), offset, size)
            size = 0 if is_folder else size
            if offset + size > total:
                raise CutTar(f"it is truncated: '{name[:80]}' ends at byte {offset + size} of {total}")
        offset += -(-size // BLOCK_BYTES) * BLOCK_BYTES
    _check_end(file, offset, total)


def parse_header(header: bytes, first: bool = False) -> tuple[str, int, bytes]:
    """Return name, size in bytes and kind that a header of 512 bytes states; raise BadTar if it is none."""
    try:
        if sum(header) - sum(header[148:156]) + 8 * 32 != _number(header[148:156]):
            raise ValueError("its checksum is wrong")
        size = _number(header[124:136])
        if size < 0:
            raise ValueError("its size is negative")
    except ValueError as problem:
        what = "it is not a tar file" if first else "a header is damaged"
        raise CutTar(f"{what} ({problem})") from problem
    name = header[:100].split(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
        name = prefix + b"/" + name
    return os.fsdecode(name), size, header[156:157]


def _number(field: bytes) -> int:
    """Return the number in a field of a header: octal digits, or binary if its first bit is set (GNU)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") if field[0] == 0x80 else -1
    digits = field.split(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise ValueError("a number is not octal")
    return int(digits or b"0", 8)


def _parse_pax(content: bytes) -> dict[str, str]:
    """Return the records "LENGTH KEY=VALUE\\n" of a PAX header."""
    records, position = {}, 0
    while position < len(content) and content[position]:
        length, space, _ = content[position : position + 8].partition(b" ")
        end = position + int(length) if space and length.isdigit() else 0
        record = content[position + len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(content) or not record.endswith(b"\n") or not equals:
            raise BadTar("a PAX header is damaged")
        records[os.fsdecode(key)] = os.fsdecode(value[:-1])
        position = end
    return records


def _pax_size(pax: dict[str, str], size: int) -> int:
    stated = pax.get("size", "")
    if stated and not (stated.isdecimal() and len(stated) < 20):
        raise BadTar("a PAX header is damaged")
    return int(stated) if stated else size


def checked_name(name: str) -> str:
    """Return a member's name without "./"; raise BadTar unless it is a path below a folder."""
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        raise BadTar(f"member '{name[:80]}...' has a name of more than {MAX_NAME_BYTES} bytes")
    if UNSAFE.match(name) or not name.isprintable():
        raise BadTar(f"member '{name[:80]}' has a name that is not a path below a folder")
    if "./" in name or "//" in name:
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
    if not name:
        raise BadTar("a member has no name")
    return name


def _read(file: IO[bytes], offset: int, size: int, total: int) -> bytes:
    if offset + size > total:
        if offset == 0:
            raise CutTar(f"it is not a tar file ({total} bytes)")
        raise CutTar(f"it is truncated: it has {total} bytes and no end mark")
    file.seek(offset)
    return file.read(size)


def _check_end(file: IO[bytes], offset: int, total: int) -> None:
    """Raise BadTar unless only zeros follow the end mark."""
    if total - offset > MAX_PADDING_BYTES:
        raise BadTar(f"{total - offset} bytes follow its end mark")
    file.seek(offset)
    if any(file.read(total - offset)):
        raise BadTar("content follows its end mark, so tars were joined; unpack and pack them again")
