"""A zip file of weights has one reading: torch's, which the directory, the headers and the sizes must agree with."""

import struct
from pathlib import Path

import pytest
import torch

from serialization.pickle_types import UnsafeFile
from serialization.zip_scan import read_members, verify_checksums

COMMENT_LENGTH, EXTRA_LENGTH, NAME_LENGTH, VERSION_NEEDED = 32, 30, 28, 6  # places in an entry of the directory


@pytest.fixture
def path(tmp_path):
    torch.save({"a": torch.arange(4.0), "b": torch.ones(2)}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def members(path: Path):
    with open(path, "rb") as file:
        found = read_members(file, path.stat().st_size)
        verify_checksums(file, found)
    return found


def test_the_members_are_those_of_torch_save(path):
    found, raw = members(path), path.read_bytes()
    assert {"data.pkl", "version", "data/0", "data/1"} <= found.keys()
    member = found["data/0"]
    assert struct.unpack("<4f", raw[member.start : member.start + member.size]) == (0, 1, 2, 3)


@pytest.mark.parametrize("place", [COMMENT_LENGTH, EXTRA_LENGTH, NAME_LENGTH])
@pytest.mark.parametrize("which", ["first", "last"])
def test_an_entry_longer_than_the_directory_is_refused(path, place, which):
    """zipfile reads the rest of the directory as the last entry's name or comment, however long that claims to be."""
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\1\2") if which == "first" else raw.rindex(b"PK\1\2")
    (length,) = struct.unpack_from("<H", raw, entry + place)
    struct.pack_into("<H", raw, entry + place, length + 256)
    path.write_bytes(raw)
    with pytest.raises(UnsafeFile, match="its directory is invalid"):
        members(path)


def test_an_entry_for_a_later_version_of_zip_is_refused(path):
    raw = bytearray(path.read_bytes())
    struct.pack_into("<H", raw, raw.index(b"PK\1\2") + VERSION_NEEDED, 99)
    path.write_bytes(raw)
    with pytest.raises(UnsafeFile, match="its directory is invalid"):
        members(path)
