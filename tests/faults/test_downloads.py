"""Misbehaving servers and malicious archives never leave a wrong or partial data set."""

import contextlib
import gzip
import io
import json
import os
import signal
import socket
import ssl
import stat
import struct
import subprocess
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from data.download import catalog, unpack
from scripts import download as script
from serialization.download import fetch
from tests.support.bad_http_server import ETAG, Web, honest, plain, status, tarred, zeros, zipped
from util import disk_space
from util.errors import EnvironmentFault

FILES = {f"mini/train{side}/{i}.jpg": os.urandom(30_000) for side in "AB" for i in range(4)}  # noise does not compress
GOOD = zipped(FILES)


@pytest.fixture
def get(script):
    """get("mini", "--url", ...) -> Ended of scripts/download.py, in an empty folder."""
    return partial(script, "download")


def known(monkeypatch, content, digest=None):
    """Let `mini` be a file whose checksum is known."""
    mini = catalog.find_source("mini")
    row = replace(mini, size=len(content), sha256=digest or sha256(content).hexdigest())
    monkeypatch.setattr(catalog, "all_sources", lambda: [row])


def tree(folder):
    """Return {path below folder: bytes} of all files, and of folders None."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def is_whole(to=Path("datasets")):
    """Whether the data set is there, exactly, and nothing else but the record."""
    there = {name: content for name, content in tree(to).items() if content is not None}
    record = there.pop("downloads.json", b"")
    assert there == FILES
    assert json.loads(record)["folders"] == {"mini": "cyclegan/datasets/mini.zip"}
    return True


def refused(ended, *words):
    """Hold a command to: exit 5, one line, these words in it, no data set."""
    assert ended.code == 5, ended
    assert ended.last.startswith("error: ") and "Traceback" not in ended.err
    for word in words:
        assert word in ended.last, ended.last
    assert not os.path.lexists("datasets/mini")


# F99: archives


def zip_member(name, content=b"bad", mode=0, **more):
    """Return a zip of one good picture and one member, with the given attributes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mini/trainA/1.jpg", b"good")
        info = zipfile.ZipInfo("mini/x")
        info.filename, info.external_attr, info.create_system = name, mode << 16, 3
        for key, value in more.items():
            setattr(info, key, value)
        archive.writestr(info, content)
    return out.getvalue()


def zip_twice(first, second):
    """Return a zip of two members, which zipfile would warn of."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in (first, "mini/trainA/z.jpg"):
            archive.writestr(name, b"good")
        archive.writestr("replace.me", b"bad")
        archive.filelist[-1].filename = second
        archive.filelist[-1].orig_filename = second
    raw = out.getvalue()
    return raw.replace(b"replace.me", second.encode()) if len(second.encode()) == 10 else raw


def zip_bomb(declared=None, packed=3):
    """Return a zip whose one member is gigabytes of zeros, and says how many it likes."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * (1000 * packed) + packer.flush()
    size, name = declared or min(packed * 1000 << 20, 0xFFFFFFFE), b"mini/a.jpg"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(body), size, len(name), 0) + name + body
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(body), size, len(name), 0, 0, 0, 0, 0, 0)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry) + len(name), len(local), 0)
    return local + entry + name + end


def overlapping():
    """Return a zip whose entries all share one body."""
    one = zip_bomb(declared=900 << 20, packed=1)
    at = one.index(b"PK\1\2")
    entry, name = one[at : at + 46], b"mini/a.jpg"
    entries = b"".join(entry + name[:-5] + bytes([98 + i]) + name[-4:] for i in range(20))
    return one[:at] + entries + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 20, 20, len(entries), at, 0)


def many(count):
    """Return a zip with a huge list of members, of names only."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0)
    listed = b"".join(entry + b"%09d" % i for i in range(count))
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 9, 0) + b"000000000"
    locator = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(listed), len(local))
    locator += struct.pack("<4sIQI", b"PK\6\7", 0, len(local) + len(listed), 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return local + listed + locator + end


def headed(*extra):
    """Return a tar.gz of a good picture and members made by hand."""
    return tarred(plain("mini/trainA/1.jpg"), *extra)


def link(name, target, kind=tarfile.SYMTYPE):
    return plain(name, b"", type=kind, linkname=target)


def pax(name, value):
    return tarred(plain("mini/trainA/1.jpg"), plain("mini/x.jpg", b"bad", pax_headers={name: value}))


def long_chain():
    """Return links through links, deep enough that a resolved path grows beyond PATH_MAX, then one that climbs out."""
    part, made, here = "d" * 200, [], "mini"
    for letter in "abcdefghijklmnop":
        made += [plain(f"{here}/{part}", b"", type=tarfile.DIRTYPE), link(f"{here}/{letter}", part)]
        here += f"/{part}"
    climb = link("mini/" + "/".join("abcdefghijklmnop") + "/" + "l" * 200, "../" * 16)
    return tarred(*made, climb, plain("mini/escape", b"bad"), form=tarfile.GNU_FORMAT)


def huge_header():
    """Return a tar.gz whose first header is a pax header of 10 GB."""
    info = tarfile.TarInfo("mini/h")
    info.type, info.size = tarfile.XHDTYPE, 10 << 30
    return zeros(1000, info.tobuf(tarfile.GNU_FORMAT))


def gigabytes():
    """Return a tar.gz of one picture of 10 GB of zeros."""
    info = tarfile.TarInfo("mini/trainA/1.jpg")
    info.size = 10 << 30
    return zeros(10 << 10, info.tobuf(tarfile.GNU_FORMAT))


def nested():
    """Return a zip of zips of zips, as 42.zip is."""
    inner = zipped({"0.bin": bytes(1 << 20)})
    return zipped({f"lib {i}.zip": zipped({f"book {j}.zip": inner for j in range(3)}) for i in range(3)})


def encrypted():
    raw = bytearray(zip_member("mini/secret.jpg"))
    at = raw.rindex(b"PK\1\2")
    raw[at + 8] |= 1
    return bytes(raw)


DEEP = "mini/" + "d/" * 40 + "x.jpg"
HARMFUL = {  # name: (the archive, words of the error)
    "zip: climbs": (lambda: zip_member("../../outside"), "'../../outside': leads out"),
    "zip: climbs in the middle": (lambda: zip_member("mini/../../outside"), "leads out"),
    "zip: absolute": (lambda: zip_member("/tmp/outside-of-all"), "is not a path below"),
    "zip: drive": (lambda: zip_member("C:outside"), "is not a path below"),
    "zip: drive and backslash": (lambda: zip_member("C:\\outside"), "is not a path below"),
    "zip: backslashes": (lambda: zip_member("mini\\..\\..\\outside"), "is not a path below"),
    "zip: network path": (lambda: zip_member("\\\\server\\share\\x"), "is not a path below"),
    "zip: symbolic link": (lambda: zip_member("mini/l", b"/", stat.S_IFLNK | 0o777), "is not a plain file"),
    "zip: link as a folder": (lambda: zip_member("mini/l/", b"", stat.S_IFLNK | 0o777), "is not a plain file"),
    "zip: device": (lambda: zip_member("mini/d", b"", stat.S_IFBLK | 0o600), "is not a plain file"),
    "zip: FIFO": (lambda: zip_member("mini/f", b"", stat.S_IFIFO | 0o600), "is not a plain file"),
    "zip: setuid": (lambda: zip_member("mini/s", b"x", stat.S_IFREG | 0o4755), "setuid"),
    "zip: same name twice": (lambda: zip_twice("mini/a.jpg", "mini/a.jpg"), "occurs twice"),
    "zip: case clash": (lambda: zip_twice("mini/a.jpg", "MINI/A.JPG"), "clashes with 'mini'"),
    "zip: NUL": (lambda: zip_member("mini/a.jpg").replace(b"mini/a.jpg", b"mini/a\0jpg"), "not allowed in a name"),
    "zip: encrypted": (encrypted, "encrypted"),
    "zip: LZMA": (lambda: zip_member("mini/a", b"x" * 99, compress_type=zipfile.ZIP_LZMA), "in an unusual way"),
    "zip: 42.zip": (nested, "archive in the archive"),
    "zip: gigabytes of zeros": (zip_bomb, "more than"),
    "zip: zeros that say they are few": (lambda: zip_bomb(declared=100), "CRC"),
    "zip: overlapping entries": (overlapping, "more than|[Oo]verlap|File name"),
    "zip: a million members": (lambda: many(1_000_000), "its list is longer than 500,000 members need"),
    "zip: nothing in it": (lambda: zipped({}), "another kind of file"),
    "zip: only folders": (lambda: zipped({"mini/": b""}), "holds no files"),
    "zip: cut short": (lambda: GOOD[:-500], "is damaged or incomplete"),
    "zip: a byte flipped": (lambda: GOOD[:9000] + bytes([GOOD[9000] ^ 1]) + GOOD[9001:], "CRC"),
    "tar: climbs": (lambda: headed(plain("../outside")), "'../outside': leads out"),
    "tar: absolute": (lambda: headed(plain("/tmp/outside-of-all")), "is not a path below"),
    "tar: drive": (lambda: headed(plain("C:/outside")), "is not a path below"),
    "tar: symbolic link out": (lambda: headed(link("mini/l", "/")), "'mini/l': is not a plain file"),
    "tar: symbolic link in": (lambda: headed(link("mini/l", "trainA")), "'mini/l': is not a plain file"),
    "tar: file through a link": (lambda: headed(link("mini/l", "/tmp"), plain("mini/l/outside-of-all")), "'mini/l'"),
    "tar: hard link out": (lambda: headed(link("mini/h", "/etc/passwd", tarfile.LNKTYPE)), "is not a plain file"),
    "tar: deep chain of links": (long_chain, "is not a plain file"),
    "tar: link to a link's parent": (lambda: headed(link("mini/a", "."), link("mini/a/b", "..")), "not a plain file"),
    "tar: block device": (lambda: headed(plain("mini/d", b"", type=tarfile.BLKTYPE)), "is not a plain file"),
    "tar: character device": (lambda: headed(plain("mini/d", b"", type=tarfile.CHRTYPE)), "is not a plain file"),
    "tar: FIFO": (lambda: headed(plain("mini/f", b"", type=tarfile.FIFOTYPE)), "is not a plain file"),
    "tar: unknown kind": (lambda: headed(plain("mini/u", b"", type=b"Z")), "is not a plain file"),
    "tar: setuid": (lambda: headed(plain("mini/s", mode=0o4755)), "setuid"),
    "tar: setgid": (lambda: headed(plain("mini/s", mode=0o2755)), "setgid"),
    "tar: same name twice": (lambda: headed(plain("mini/trainA/1.jpg", b"other")), "occurs twice"),
    "tar: case clash": (lambda: headed(plain("mini/traina/2.jpg")), "clashes with 'mini/trainA'"),
    "tar: accents written in two ways": (lambda: headed(plain("mini/\u00e9"), plain("mini/e\u0301")), "clashes"),
    "tar: folder where a file is": (lambda: headed(plain("mini/trainA/1.jpg/x")), "clashes"),
    "tar: file where a folder is": (lambda: headed(plain("mini/trainA")), "clashes"),
    "tar: NUL in a pax path": (lambda: pax("path", "mini/a\0b.jpg"), "not allowed in a name"),
    "tar: climbing pax path": (lambda: pax("path", "../../outside"), "leads out"),
    "tar: control characters": (lambda: headed(plain("mini/\x1b[2Jx.jpg")), "not allowed in a name"),
    "tar: too deep": (lambda: headed(plain(DEEP)), "too long or too deep"),
    "tar: name of 300 bytes": (lambda: headed(plain("mini/" + "n" * 300)), "too long or too deep"),
    "tar: 10 GB of zeros": (gigabytes, "more than"),
    "tar: header of 10 GB": (huge_header, "header of a member is too large"),
    "tar: sparse": (lambda: pax("GNU.sparse.size", "99999999999"), "plain file|damaged"),
    "tar: zeros behind its end": (lambda: headed() + gzip.compress(bytes(1 << 22)), "header of a member is too large"),
    "tar: cut short": (lambda: headed(plain("mini/2.jpg", os.urandom(9999)))[:-4000], "is damaged or incomplete"),
    "tar: checksum of gzip": (lambda: headed()[:-8] + bytes(8), "is damaged or incomplete"),
    "tar: no tar": (lambda: gzip.compress(b"no tar at all" * 99), "is damaged or incomplete"),
}  # fmt: skip


@pytest.mark.fault(99)
@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_archives_are_refused_and_write_nothing(get, web, tmp_path, kind, record_property):
    """Archives try to write outside their folder, contain links, exhaust the disk or memory, have clashing names or are
    damaged: exit 5 with the member or the damage; 0 bytes are written outside, and only the archive itself remains (as
    .bad).
    """
    build, words = HARMFUL[kind]
    content = build()
    before = tree(tmp_path)
    name = ("facades", "--pix2pix") if kind.startswith("tar") else ("mini",)
    ended = get(*name, "--url", web.at("/x", honest(content)))
    refused(ended)
    assert any(word in ended.last for word in words.split("|")), ended.last
    bad = "datasets/facades.tar.gz.bad" if kind.startswith("tar") else "datasets/mini.zip.bad"
    left = {path for path in tree(tmp_path) if path not in before} - {"datasets"}
    assert left == ({bad} if Path(bad).exists() else set())
    assert "another kind of file" in words or sha256(Path(bad).read_bytes()).digest() == sha256(content).digest()
    assert not Path("/tmp/outside-of-all").exists()
    record_property("malicious and damaged archives", f"{len(HARMFUL)} refused, 0 bytes outside")


@pytest.mark.fault(99)
def test_an_archive_of_a_million_members_is_refused(get, web, monkeypatch, full):
    """A tar.gz has 10^6 members (short form: fewer, under a lower limit): exit 5, and only the .bad file remains."""
    count = 1_000_000 if full else 3_000
    if not full:
        monkeypatch.setattr(unpack, "MAX_MEMBERS", 2_000)
    out = io.BytesIO()
    header = bytearray(tarfile.TarInfo("mini/0000000.jpg").tobuf(tarfile.USTAR_FORMAT))
    rest = sum(header) - sum(header[148:156]) + 8 * 32
    with gzip.open(out, "wb", compresslevel=1) as packed:
        for number in range(count):
            digits = b"%07d" % number
            header[5:12] = digits
            header[148:156] = b"%06o\0 " % (rest + sum(digits) - 7 * 48)
            packed.write(header)
    ended = get("facades", "--pix2pix", "--url", web.at("/x", honest(out.getvalue())))
    refused(ended, f"it has more than {unpack.MAX_MEMBERS:,} members")
    assert os.listdir("datasets") == ["facades.tar.gz.bad"]


GOOD_ARCHIVES = {
    "a folder around, with rights of a group": tarred(
        plain("./", b"", type=tarfile.DIRTYPE), plain("./facades", b"", type=tarfile.DIRTYPE, mode=0o42775),
        plain("./facades/train", b"", type=tarfile.DIRTYPE), plain("./facades/train/1.jpg", b"one"),
        plain("./facades/train/2.jpg", b"two")),
    "no folder around": tarred(plain("train/1.jpg", b"one"), plain("train/2.jpg", b"two")),
    "another name, GNU": tarred(plain("set/train/1.jpg", b"one"), plain("set/train/2.jpg", b"two"),
                                form=tarfile.GNU_FORMAT),
    "notes of a Mac": tarred(plain("facades/train/1.jpg", b"one"), plain("facades/train/._1.jpg", b"Mac"),
                             plain("facades/train/2.jpg", b"two"), plain("__MACOSX/facades/._x", b"Mac")),
}  # fmt: skip


@pytest.mark.fault(99)
@pytest.mark.parametrize("kind", GOOD_ARCHIVES)
def test_harmless_archives_are_unpacked(get, web, kind):
    """Harmless archives have ./ before names, setgid folders or no enclosing folder: all are unpacked alike."""
    ended = get("facades", "--pix2pix", "--url", web.at("/x", honest(GOOD_ARCHIVES[kind])))
    assert ended.code == 0, ended.err
    assert tree(Path("datasets/facades")) == {"train": None, "train/1.jpg": b"one", "train/2.jpg": b"two"}
    assert sorted(os.listdir("datasets")) == ["downloads.json", "facades"]
    assert "(2 files)" in ended.out


# F100: checksums


@pytest.mark.fault(100)
def test_a_wrong_checksum_is_refused(get, web, monkeypatch):
    """A file with a known SHA-256 arrives with other bytes: exit 5 with the expected and the actual checksum; it is
    kept as .bad, not unpacked, and not requested again, from this server or the next mirror.
    """
    known(monkeypatch, GOOD)
    other = zipped({"mini/trainA/1.jpg": b"other" * 9})
    mirror = web.at("/", status(404))
    web.at("/cyclegan/datasets/mini.zip", honest(other))
    Path("mirrors.json").write_text(json.dumps({"https://efrosgans.eecs.berkeley.edu/": [mirror, mirror + "two/"]}))
    ended = get("mini", "--mirrors", "mirrors.json")
    refused(ended, f"expected SHA-256 {sha256(GOOD).hexdigest()}, got {sha256(other).hexdigest()}")
    assert Path("datasets/mini.zip.bad").read_bytes() == other and os.listdir("datasets") == ["mini.zip.bad"]
    assert [path for path, _ in web.asked] == ["/cyclegan/datasets/mini.zip"]
    web.at("/cyclegan/datasets/mini.zip", honest(GOOD))
    assert get("mini", "--mirrors", "mirrors.json").code == 0 and tree(Path("datasets/mini/trainA"))


@pytest.mark.fault(100)
def test_the_checksum_of_the_first_download_is_remembered(get, web, tmp_path):
    """A file without a known SHA-256 changes on its server after the first download: the second download is refused,
    from any address, until the record is removed; an unchanged file is accepted.
    """
    url = web.at("/mini.zip", honest(GOOD))
    ended = get("mini", "--url", url)
    digest = sha256(GOOD).hexdigest()
    assert ended.code == 0 and f"recorded for the next time in datasets/downloads.json: {digest}" in ended.out
    record = json.loads(Path("datasets/downloads.json").read_text())
    assert record["files"] == {"cyclegan/datasets/mini.zip": {"sha256": digest, "bytes": len(GOOD), "from": url}}
    Path("datasets/mini").rename("elsewhere")
    other = zipped({"mini/trainA/1.jpg": b"other"})
    refused(
        get("mini", "--url", web.at("/other.zip", honest(other))),
        f"expected SHA-256 {digest}, as recorded in downloads.json at the first download, got",
        "datasets/mini.zip.bad",
    )
    assert get("mini", "--url", url).code == 0
    Path("datasets/mini.zip.bad").unlink()
    assert is_whole()


# F101: cut, resumed, changed, lied about


@pytest.mark.fault(101)
def test_a_cut_download_resumes(get, web):
    """The connection breaks after every tenth of the file: each new request asks for the rest with Range and If-Range,
    and the file is complete and correct.
    """
    step = len(GOOD) // 10
    ended = get("mini", "--url", web.at("/x", honest(GOOD, cut_at=lambda start: start + step)))
    assert ended.code == 0 and is_whole()
    ranges = [headers.get("Range") for _, headers in web.asked]
    assert ranges[0] is None and len(ranges) >= 10 and len(set(ranges)) == len(ranges)
    assert all(headers["If-Range"] == ETAG for _, headers in web.asked[1:])


@pytest.mark.fault(101)
@pytest.mark.parametrize("percent", [0, 1, 50, 99])
def test_a_download_given_up_is_continued_later(get, web, percent):
    """The server always breaks off at x %: exit 5 after five tries without progress; the .part file stays and is not
    used as the whole file; the next call requests only the rest and succeeds.
    """
    at = len(GOOD) * percent // 100
    url = web.at("/x", honest(GOOD, cut_at=lambda start: max(at, start)))
    refused(get("mini", "--url", url), "broke", "5 times", "fetch it by hand and save it as datasets/mini.zip")
    part = Path("datasets/mini.zip.part")
    assert (part.read_bytes() if at else b"") == GOOD[:at] and part.exists() == bool(at)
    web.asked.clear()
    web.at("/x", honest(GOOD))
    assert get("mini", "--url", url).code == 0 and is_whole()
    assert [headers.get("Range") for _, headers in web.asked] == [f"bytes={at}-" if at else None]


def half(get, web, url):
    """Leave a .part of half of GOOD."""
    web.pages["/x"] = honest(GOOD, cut_at=lambda start: len(GOOD) // 2)
    assert get("mini", "--url", url).code == 5
    web.asked.clear()


CHANGED = {name: os.urandom(30_000) for name in FILES}
NEW = zipped(CHANGED)  # as long as GOOD
LIES = {  # what the server does once half of another file is there: (how it answers, whether the old bytes may be used)
    "ignores Range": lambda h: h.send(200, GOOD, ETag=ETAG),
    "ignores Range, without ETag": lambda h: h.send(200, GOOD),
    "gives 416 to any Range": lambda h: h.send(416) if h.start else h.send(200, GOOD, ETag=ETAG),
    "another part than asked for": lambda h: h.send(206, GOOD[9:], ETag=ETAG, Content_Range=f"bytes 9-{len(GOOD) - 1}/"
                                                    f"{len(GOOD)}") if h.start else h.send(200, GOOD, ETag=ETAG),
    "a part without saying which": lambda h: h.send(206, GOOD[h.start :]) if h.start else h.send(200, GOOD, ETag=ETAG),
    "sends it in chunks": lambda h: chunked(h, GOOD),
    "tells no length": lambda h: h.send(200, GOOD, Content_Length=None),
    "errors, three times": lambda h: h.send(503) if len(h.web.asked) < 4 else honest(GOOD)(h),
    "resets, three times": lambda h: h.cut() if len(h.web.asked) < 4 else honest(GOOD)(h),
    "hides its length in a redirection": lambda h: h.send(302, Location="/y"),
}  # fmt: skip


def chunked(handler, content):
    """Send content in chunks, over HTTP/1.1."""
    handler.protocol_version = "HTTP/1.1"
    handler.begin(200, Transfer_Encoding="chunked", Connection="close")
    for at in range(0, len(content), 50_000):
        piece = content[at : at + 50_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


@pytest.mark.fault(101)
@pytest.mark.parametrize("how", LIES)
def test_servers_that_resume_wrongly_cause_no_wrong_file(get, web, how):
    """Half of the file exists, and the server ignores Range, answers 416, sends another part, sends no length or fails
    a few times: the final file is correct; the download restarts where necessary.
    """
    url = web.at("/x", status(404))
    half(get, web, url)
    web.pages |= {"/x": LIES[how], "/y": honest(GOOD)}
    ended = get("mini", "--url", url)
    assert ended.code == 0, ended.err
    assert is_whole()


@pytest.mark.fault(101)
@pytest.mark.parametrize("how", ["If-Range is obeyed", "If-Range is ignored", "no ETag was ever given"])
def test_a_file_changed_between_two_parts_is_fetched_anew(get, web, how):
    """Half of the file exists, then the server has another file (a new ETag) and may ignore If-Range: the new file is
    downloaded whole and never mixed with the old one; without an ETag or a date, a download is never resumed.
    """
    url = web.at("/x", status(404))
    if how == "no ETag was ever given":
        web.pages["/x"] = honest(GOOD, etag=None, cut_at=lambda start: len(GOOD) // 2)
        assert get("mini", "--url", url).code == 5
        web.asked.clear()
    else:
        half(get, web, url)

    def careless(handler):
        where = f"bytes {handler.start}-{len(NEW) - 1}/{len(NEW)}"
        if handler.start:
            handler.send(206, NEW[handler.start :], ETag='"two"', Content_Range=where)
        else:
            handler.send(200, NEW, ETag='"two"')

    web.pages["/x"] = careless if how == "If-Range is ignored" else honest(NEW, etag='"two"')
    ended = get("mini", "--url", url)
    assert ended.code == 0, ended.err
    found = {f"mini/{name}": content for name, content in tree(Path("datasets/mini")).items() if content is not None}
    assert found == CHANGED and len(NEW) == len(GOOD)
    assert (web.asked[0][1].get("Range") is None) == (how == "no ETag was ever given")


@pytest.mark.fault(101)
@pytest.mark.parametrize("claimed", [10, len(GOOD) - 50, len(GOOD) + 50, None])
@pytest.mark.parametrize("sum_known", [True, False])
def test_a_wrong_content_length_yields_no_cut_file(get, web, monkeypatch, claimed, sum_known):
    """Content-Length is too small, too large, or missing while the connection breaks: a cut file is never used as the
    whole; exit 5, and success once the server is correct.
    """
    if sum_known:
        known(monkeypatch, GOOD)
    body = GOOD[: len(GOOD) // 2] if claimed is None else GOOD
    url = web.at("/x", lambda h: (h.send(200, body, Content_Length=claimed), h.cut()))
    refused(get("mini", "--url", url))
    for left in Path("datasets").glob("*.bad"):
        left.unlink()
    web.at("/x", honest(GOOD))
    assert get("mini", "--url", url).code == 0 and is_whole()


@pytest.mark.fault(101)
def test_an_endless_answer_is_abandoned(get, web, monkeypatch):
    """The server sends bytes without end: the download stops when it exceeds the allowed size; exit 5."""
    known(monkeypatch, GOOD)

    def flood(handler):
        handler.begin(200)
        while not handler.web.closing.is_set():
            handler.wfile.write(GOOD)

    refused(get("mini", "--url", web.at("/x", flood)), f"sends more than {len(GOOD)} bytes")


@pytest.mark.fault(101)
@pytest.mark.parametrize("when", ["in its headers", "at once", "in the middle"])
def test_a_server_that_drips_or_falls_silent_is_abandoned(get, web, monkeypatch, when):
    """Headers or body arrive one byte at a time, too slowly for any download: the command stops after a fixed time;
    exit 5.
    """
    monkeypatch.setattr(fetch, "HTTP_TIMEOUT_S", 0.15)
    monkeypatch.setattr(fetch, "MAX_STALLED_TRIES", 2)

    def drip(handler):
        if when == "in its headers":
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Drip: ")
        else:
            honest(GOOD, cut_at=lambda start: max(start, 100_000 if when == "in the middle" else 0), cut=False)(handler)
        while not handler.web.closing.wait(0.03):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    refused(get("mini", "--url", web.at("/x", drip)), "in 0.15 s" if when != "in its headers" else "no answer")


# F102: no network, other networks, full disks, kills


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.fault(102)
def test_without_network_the_address_and_place_are_named(get, web, monkeypatch):
    """Names cannot be resolved (DNS), or no server listens: exit 5 in one line with every address and the path at which
    to save a file downloaded by hand; that file is then used.
    """

    def unknown(*args, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        ended = get("mini")
    refused(
        ended,
        "address 'https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/mini.zip'",
        "is there a network?",
        "https://people.eecs.berkeley.edu/~taesung_park/CycleGAN/datasets/mini.zip: ",
        "fetch it by hand and save it as datasets/mini.zip, then run this again",
    )
    refused(get("mini", "--url", f"http://127.0.0.1:{closed_port()}/mini.zip"), "Connection refused", "/mini.zip")
    assert os.listdir("datasets") == []
    Path("datasets/mini.zip").write_bytes(GOOD)
    assert get("mini").code == 0
    Path("datasets/mini.zip").unlink()
    assert is_whole()


@pytest.mark.fault(102)
@pytest.mark.parametrize("hand", [GOOD[:999], zip_member("../x")], ids=["cut", "harmful"])
def test_a_file_fetched_by_hand_is_checked_too(get, hand):
    """The file downloaded by hand is cut or harmful: exit 5, and the user's file stays."""
    Path("datasets").mkdir()
    Path("datasets/mini.zip").write_bytes(hand)
    refused(get("mini"), "datasets/mini.zip")
    assert os.listdir("datasets") == ["mini.zip"] and Path("datasets/mini.zip").read_bytes() == hand


PAGE = b"<!DOCTYPE html><html><body>Please sign in to the hotel's network</body></html>"
OTHERS = {
    "a login page": (status(200, PAGE, Content_Type="text/html"), "sends a web page"),
    "a login page called a zip": (status(200, PAGE, Content_Type="application/zip"), "sends a web page"),
    "nothing": (status(200), "sends nothing"),
    "another kind of file": (status(200, b"\x89PNG..."), "sends another kind of file"),
    "404": (status(404), "the server answers 404 (Not Found)"),
    "403": (status(403), "the server answers 403 (Forbidden)"),
    "503 for ever": (status(503), "the server answers 503 (Service Unavailable), 5 times"),
    "a circle": (status(302, Location="/x"), "it redirects in circles"),
    "no web": (status(302, Location="file:///etc/passwd"), "it redirects to something that is not on the web"),
    "ftp": (status(302, Location="ftp://127.0.0.1/x"), "it redirects to ftp://127.0.0.1/x, which is not"),
    "no HTTP": (lambda h: h.wfile.write(b"SSH-2.0-OpenSSH_9\r\n"), "no answer"),
    "nothing at all": (lambda h: h.cut(), "no answer"),
}


@pytest.mark.fault(102)
@pytest.mark.parametrize("kind", OTHERS)
def test_an_answer_that_is_no_archive_is_refused(get, web, kind):
    """The answer is a captive portal's page with status 200, an error, a redirection loop or not HTTP: exit 5 with the
    address; an existing half file is unchanged.
    """
    answer, words = OTHERS[kind]
    url = web.at("/x", status(404))
    refused(get("mini", "--url", web.at("/x", answer)), words, f"address '{url}'")
    assert os.listdir("datasets") == []
    half(get, web, url)
    refused(get("mini", "--url", web.at("/x", answer)), words)
    assert Path("datasets/mini.zip.part").read_bytes() == GOOD[: len(GOOD) // 2]


@pytest.mark.fault(102)
def test_the_next_mirror_serves_when_others_fail(get, web):
    """The first mirror answers 404, the second a login page, the third the file: the failures are printed, and the
    third is used.
    """
    web.at("/two/mini.zip", status(200, PAGE))
    good = web.at("/three/mini.zip", honest(GOOD))
    base = good.removesuffix("three/mini.zip")
    mirrors = {
        "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/": [base + f"{n}/" for n in ("one", "two", "three")]
    }
    Path("mirrors.json").write_text(json.dumps(mirrors))
    ended = get("mini", "--mirrors", "mirrors.json")
    assert ended.code == 0 and is_whole()
    assert f"note: {base}one/mini.zip: the server answers 404 (Not Found); trying {base}two/mini.zip" in ended.out
    assert f"note: {base}two/mini.zip: sends a web page" in ended.out


@pytest.mark.fault(102)
def test_untrusted_tls_is_refused(get, web, tmp_path):
    """The server's certificate is self-signed, or the answer is not TLS: exit 5; no byte is accepted, and http is not
    tried instead.
    """
    if subprocess.run(["openssl", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no openssl here to make a certificate with")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "k.pem",
            "-out",
            "c.pem",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ],
        check=True,
        capture_output=True,
    )
    plain_url = web.at("/mini.zip", honest(GOOD))
    refused(get("mini", "--url", plain_url.replace("http:", "https:")), "no secure connection")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("c.pem", "k.pem")
    secure = Web()
    secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
    try:
        url = secure.at("/mini.zip", honest(GOOD)).replace("http:", "https:")
        refused(get("mini", "--url", url), "its certificate is not valid")
    finally:
        secure.close()
    assert web.asked == [] and secure.asked == []


@pytest.mark.fault(102)
def test_a_redirection_from_https_to_http_is_not_followed():
    """An https address redirects to http: the redirection is not followed."""
    with pytest.raises(fetch.PermanentError, match="which is not secure"):
        fetch._redirect_target("https://example.org/mini.zip", "http://example.org/x")
    assert fetch._redirect_target("https://example.org/mini.zip", "/x") == "https://example.org/x"


@pytest.mark.fault(102)
@pytest.mark.parametrize("kind", ["works", "dead", "refuses"])
def test_a_proxy_is_used_or_named(get, web, monkeypatch, kind):
    """The environment names a proxy that works, is dead or wants a password: it is used, or exit 5 in a line that names
    it without its password.
    """
    address = f"127.0.0.1:{web.port if kind != 'dead' else closed_port()}"
    monkeypatch.setenv("http_proxy", f"http://me:secret@{address}")
    web.at("http://data.example/mini.zip", honest(GOOD) if kind == "works" else status(407))
    ended = get("mini", "--url", "http://data.example/mini.zip")
    if kind == "works":
        assert ended.code == 0 and is_whole()
        assert "proxy-authorization" in map(str.lower, web.asked[0][1])
    else:
        words = f"through the proxy http://{address} (set by http_proxy)" if kind == "dead" else "answers 407"
        refused(ended, words, "http://data.example/mini.zip")
        assert "secret" not in ended.err


@pytest.mark.fault(102)
def test_a_disk_too_small_is_refused_before_the_download(get, web, monkeypatch):
    """The disk has less space than the archive and its files need: exit 5 with both numbers, before the download or, if
    the size is unknown, as soon as the server sends it.
    """
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 300_000)
    url = web.at("/x", honest(GOOD))
    refused(get("mini", "--url", url), "has too little space", "(the archive and its content), 300 kB are free")
    assert len(web.asked) == 1 and os.listdir("datasets") == []
    known(monkeypatch, GOOD)
    refused(get("mini", "--url", url), f"{disk_space.format_bytes(2 * len(GOOD))} are needed")
    assert len(web.asked) == 1 and os.listdir("datasets") == []


@pytest.mark.fault(102)
@pytest.mark.parametrize("where", ["the download", "the files"])
def test_a_disk_that_fills_up_leaves_no_half_data_set(process, web, tmp_path, where):
    """The disk fills up while the file is written or unpacked: exit 5 with the path and --to; the received bytes stay
    as .part, and no partial data set remains; with space again the same command succeeds and requests only the rest.
    """
    url = web.at("/x", honest(GOOD))
    ended = process("scripts/download", "mini", "--url", url, before=partial(full_disk, where))
    assert ended.code == 5, ended.err
    assert "No space left on device" in ended.last and "choose another --to" in ended.last
    os.chdir(tmp_path)
    assert not Path("datasets/mini").exists() and not Path("datasets/.mini.unpacking").exists()
    kept = Path("datasets/mini.zip.part").stat().st_size
    assert 0 < kept < len(GOOD) if where == "the download" else kept == len(GOOD)
    web.asked.clear()
    ended = process("scripts/download", "mini", "--url", url)
    assert ended.code == 0 and is_whole()
    assert [h.get("Range") for _, h in web.asked] == ([f"bytes={kept}-"] if where == "the download" else [])


def full_disk(where):
    """Let the disk be full after some bytes of a download, or of its files."""
    import errno

    from serialization.download.partial import PartialFile

    if where == "the download":
        add, real = PartialFile.append, os.strerror(errno.ENOSPC)

        class Full:
            def __init__(self, file):
                self.file = file

            def __getattr__(self, name):
                return getattr(self.file, name)

            def write(self, data):
                if os.fstat(self.file.fileno()).st_size > 100_000:
                    raise OSError(errno.ENOSPC, real)
                return self.file.write(data)

        def limited(self, data):
            self._file = self._file if isinstance(self._file, Full) else Full(self._file)
            add(self, data)

        PartialFile.append = limited
    else:
        opened = []

        def counted(path, mode="r", *more, **named):
            if "x" in mode:
                opened.append(path)
                if len(opened) > 3:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return open(path, mode, *more, **named)

        unpack.open = counted


def kill_at(name, number):
    """Kill this process at the number-th call of a function that a download ends with."""
    import pathlib

    calls = []
    owner = {"read": zipfile.ZipExtFile, "unlink": pathlib.Path}.get(name, os)
    real = getattr(owner, name)

    def counted(*args, **more):
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    setattr(owner, name, counted)


MOMENTS = [("read", 1), ("read", 2), ("read", 9), ("fsync", 1), ("fsync", 2), ("fsync", 5), ("fsync", 14),
           ("replace", 1), ("replace", 2), ("rename", 1), *(("unlink", n) for n in (1, 2, 3, 4))]  # fmt: skip


@pytest.mark.fault(102)
@pytest.mark.parametrize(("call", "number"), MOMENTS)
def test_a_kill_while_unpacking_leaves_no_half_data_set(process, web, tmp_path, monkeypatch, call, number):
    """kill -9 at chosen calls between the first byte and the last clean-up: the data set is complete or absent; the
    same command then succeeds, and leaves no file of the first try.
    """
    monkeypatch.chdir(tmp_path)
    url = web.at("/x", honest(GOOD))
    ended = process("scripts/download", "mini", "--url", url, before=partial(kill_at, call, number))
    assert ended.code == -signal.SIGKILL
    assert not Path("datasets/mini").exists() or tree(Path("datasets/mini")).keys() >= {"trainA/3.jpg", "trainB/3.jpg"}
    ended = process("scripts/download", "mini", "--url", url)
    assert ended.code == 0, ended.err
    assert is_whole() and sorted(os.listdir("datasets")) == ["downloads.json", "mini"]


@pytest.mark.fault(102)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_download_stopped_by_a_signal_resumes(start, process, web, tmp_path, monkeypatch, number):
    """Ctrl-C or SIGTERM during a download: exit 130 or 143; the .part stays, and the same command resumes from it."""
    monkeypatch.chdir(tmp_path)
    sent = threading.Event()

    def stall(handler):
        handler.begin(200, Content_Length=len(GOOD), ETag=ETAG)
        handler.wfile.write(GOOD[:140_000])
        handler.wfile.flush()
        sent.set()
        handler.web.closing.wait()

    url = web.at("/x", stall)
    begun = start("scripts/download", "mini", "--url", url)
    assert sent.wait(60)
    os.kill(begun.pid, number)
    _, err = begun.communicate()
    assert begun.returncode == 128 + number and "stopped by" in err.splitlines()[-1] and "Traceback" not in err
    web.at("/x", honest(GOOD))
    assert process("scripts/download", "mini", "--url", url).code == 0 and is_whole()


@pytest.mark.fault(102)
def test_a_second_download_of_one_name_is_refused(start, process, web, tmp_path, monkeypatch):
    """Two processes download the same name at once: the second ends with exit 5 and says why, the first is not
    affected; downloads of two different names are independent.
    """
    monkeypatch.chdir(tmp_path)
    asked, go = threading.Event(), threading.Event()

    def slow(handler):
        asked.set()
        go.wait(60)
        honest(GOOD)(handler)

    url, other = web.at("/x", slow), web.at("/y", honest(GOOD_ARCHIVES["no folder around"]))
    first = start("scripts/download", "mini", "--url", url)
    assert asked.wait(60)
    second = process("scripts/download", "mini", "--url", url)
    assert second.code == 5 and "is being downloaded by another process" in second.last
    assert process("scripts/download", "facades", "--pix2pix", "--url", other).code == 0
    go.set()
    _, err = first.communicate()
    assert first.returncode == 0, err
    record = json.loads(Path("datasets/downloads.json").read_text())
    assert len(record["files"]) == 2 and sorted(os.listdir("datasets")) == ["downloads.json", "facades", "mini"]


# F103: what is there already


@pytest.mark.fault(103)
def test_an_existing_folder_is_not_overwritten(get, web):
    """The data set's folder exists: exit 0 and a note if this command made it; otherwise exit 5, also for an empty
    folder, a file or a dangling link; no byte is requested or changed.
    """
    url = web.at("/x", honest(GOOD))
    assert get("mini", "--url", url).code == 0
    Path("datasets/mini/trainA/0.jpg").write_bytes(b"the user's own")
    web.asked.clear()
    ended = get("mini", "--url", url)
    assert ended.code == 0 and "datasets/mini already exists" in ended.out and "not overwritten" in ended.out
    assert Path("datasets/mini/trainA/0.jpg").read_bytes() == b"the user's own"
    Path("others").mkdir()
    for make in (lambda p: p.mkdir(), lambda p: p.write_bytes(b"x"), lambda p: p.symlink_to("nowhere")):
        make(Path("others/mini"))
        kept = os.lstat("others/mini")
        ended = get("mini", "--url", url, "--to", "others")
        assert ended.code == 5 and "already exists, from another source, and is not overwritten" in ended.last
        assert os.lstat("others/mini") == kept and os.listdir("others") == ["mini"]
        with contextlib.suppress(IsADirectoryError):
            Path("others/mini").unlink()
        if Path("others/mini").is_dir():
            Path("others/mini").rmdir()
    assert web.asked == []


@pytest.mark.fault(103)
def test_one_name_in_two_collections_is_refused(get, web):
    """CycleGAN's facades exists and pix2pix's facades is requested, or the reverse: exit 5, not the wrong images."""
    url = web.at("/x", honest(GOOD_ARCHIVES["no folder around"]))
    assert get("facades", "--pix2pix", "--url", url).code == 0
    ended = get("facades", "--cyclegan", "--url", url)
    assert ended.code == 5 and "folder 'datasets/facades': already exists" in ended.last


@pytest.mark.fault(103)
def test_the_users_own_generator_is_not_overwritten(get, web):
    """checkpoints/NAME_pretrained holds weights of the user: exit 5, and the file is unchanged."""
    place = Path("checkpoints/horse2zebra_pretrained/latest_net_G.pth")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    ended = get("horse2zebra", "--model", "--url", web.at("/x", honest(GOOD)))
    assert ended.code == 5 and "already exists" in ended.last and place.read_bytes() == b"mine" and web.asked == []


@pytest.mark.fault(102)
def test_a_damaged_download_record_is_refused(get, web):
    """downloads.json is damaged: exit 5 with its name, and no file is installed without its recorded checksum."""
    Path("datasets").mkdir()
    Path("datasets/downloads.json").write_text("[1, 2")
    ended = get("mini", "--url", web.at("/x", honest(GOOD)))
    assert ended.code == 5 and "file 'datasets/downloads.json': cannot be read" in ended.last
    with pytest.raises(EnvironmentFault):
        script.Records(Path("datasets")).read()
