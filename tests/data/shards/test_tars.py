"""Headers of tar files are read as Python's tarfile reads them; whatever is no plain file is refused in one line."""

import gzip
import io
import tarfile

import pytest

from data.shards.tars import BadTar, read_members
from tests.support.data_folders import tar_bytes

LONG = "folder/" * 20 + "x" * 80 + ".png"
FORMS = {"v7": tarfile.USTAR_FORMAT, "GNU": tarfile.GNU_FORMAT, "PAX": tarfile.PAX_FORMAT}


def members(content):
    return list(read_members(io.BytesIO(content), len(content)))


def info(name, **facts):
    made = tarfile.TarInfo(name)
    vars_of = {"type": tarfile.REGTYPE} | facts
    for key, value in vars_of.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_members_are_those_that_tarfile_finds(form):
    names = [
        "1.A.png",
        "dir/2.png",
        "ünï/ç.png",
        *([LONG] if form != tarfile.USTAR_FORMAT else ["d" * 90 + "/" + "x" * 90]),
    ]
    content = tar_bytes(
        [(info("dir", type=tarfile.DIRTYPE), b""), *((name, name.encode() * 99) for name in names)], form=form
    )
    found = members(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        expected = [(each.name, each.offset_data, each.size) for each in archive if each.isreg()]
    assert [tuple(each) for each in found if each.size] == expected
    assert [content[each.offset :][: each.size] for each in found if each.size] == [n.encode() * 99 for n in names]


def with_pax(**records):
    made = info("1.png")
    made.pax_headers = records
    return made


def contents(cut=0, more=b"", content=None):
    whole = tar_bytes([("1.png", b"x" * 600), ("2.png", b"y" * 600)]) if content is None else content
    return whole[: len(whole) - cut] + more


def respelled(start, text):
    content = bytearray(contents())
    content[start : start + len(text)] = text
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


HOSTILE = {
    "a path that leads out": (tar_bytes([("../1.png", b"x")]), "not a path below a folder"),
    "a path that leads out, deeper": (tar_bytes([("a/../../1.png", b"x")]), "not a path below a folder"),
    "an absolute path": (tar_bytes([("/etc/1.png", b"x")]), "not a path below a folder"),
    "a drive": (tar_bytes([("C:/1.png", b"x")]), "not a path below a folder"),
    "a backslash": (tar_bytes([("a\\..\\1.png", b"x")]), "not a path below a folder"),
    "a line feed": (tar_bytes([("a\n1.png", b"x")]), "not a path below a folder"),
    "a link": (tar_bytes([(info("1.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")]), "is a link"),
    "a hard link": (tar_bytes([(info("1.png", type=tarfile.LNKTYPE, linkname="2.png"), b"")]), "is a hard link"),
    "a pipe": (tar_bytes([(info("1.png", type=tarfile.FIFOTYPE), b"")]), "is a pipe"),
    "a device": (tar_bytes([(info("1.png", type=tarfile.CHRTYPE), b"")]), "is a device"),
    "a sparse file": (tar_bytes([(info("1.png", type=b"S"), b"")]), "is a sparse file"),
    "a sparse file of PAX": (tar_bytes([(with_pax(**{"GNU.sparse.major": "1"}), b"")]), "is a sparse file"),
    "a huge name": (tar_bytes([("n" * 70_000 + ".png", b"x")]), "of a name"),
    "a long name": (tar_bytes([("n/" * 600 + ".png", b"x")]), "more than 1000 bytes"),
    "a huge number": (respelled(124, b"\xff" * 12), "is negative"),
    "a size in PAX": (tar_bytes([(with_pax(size="99999999999"), b"")]), "truncated"),
    "a size that is none": (tar_bytes([(with_pax(size="-5"), b"")]), "PAX header is damaged"),
    "gzip": (gzip.compress(contents()), "compressed (gzip)"),
    "words": (b"<html>please log in</html>" * 100, "not a tar file"),
    "nothing": (b"", "not a tar file"),
    "cut in a content": (contents(cut=9_000), "truncated"),
    "cut at the end mark": (contents(cut=len(contents()) - 2 * (512 + 1024)), "no end mark"),
    "another tar behind": (contents(more=contents()), "follows its end mark"),
    "a damaged header": (contents()[:512] + b"x" * 1024 + contents()[1536 + 1:], "damaged"),
    "a size that is no number": (respelled(124, b"12345x789ab\0"), "not octal"),
    "an unknown kind": (respelled(156, b"V"), "unknown kind"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_tars_are_refused(case):
    content, why = HOSTILE[case]
    with pytest.raises(BadTar) as caught:
        members(content)
    assert why in str(caught.value) and len(str(caught.value)) < 300, caught.value


def test_sizes_of_pax_and_binary_sizes_are_read():
    big = respelled(124, b"\x80" + (600).to_bytes(11, "big"))
    assert [each.size for each in members(big)] == [600, 600]
    assert members(tar_bytes([(with_pax(comment="x", mtime="1.5"), b"abc")]))[0].size == 3
    assert members(tar_bytes([("./a//b/./1.png", b"x")]))[0].name == "a/b/1.png"
