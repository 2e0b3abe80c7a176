"""Shards from a server arrive whole or not at all, and processes share them in a folder of limited size."""

import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from data.listing import shards
from data.shards import cache
from data.shards.settings import configure, settings
from tests.support.bad_http_server import honest, serve, status
from tests.support.data_folders import epoch, make, pairs, sample, tar_bytes, write_tar
from tests.support.runs import ROOT
from util.errors import DataError, EnvironmentFault, OptionError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "_opened", {})
    folder, limit = settings.folder, settings.limit
    yield
    configure(folder, limit / 1e9)


@pytest.fixture
def folder(tmp_path):
    """Four shards of six pairs, 61,440 bytes each."""
    for number in range(4):
        write_tar(tmp_path / f"d/{number:04d}.tar", pairs(*range(10 * number, 10 * number + 6)))
    return tmp_path / "d"


def asked(web):
    return [path for path, _ in web.asked if path.endswith(".tar")]


def kept():
    return sorted(path.name for path in cache.shards_folder().glob("*.tar"))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_server_gives_the_batches_of_the_files(threads, folder, web):
    """Each shard is downloaded once, also if several workers need it, and not again by the next run."""
    local = epoch(make("aligned", folder))
    dataset = make("aligned", serve(web, folder) + "/{0000..0003}.tar")
    assert len(asked(web)) == 4
    for path in cache.shards_folder().glob("*.tar"):
        path.unlink()
    for one, other in zip(local, epoch(dataset, threads), strict=True):
        assert torch.equal(one["A"], other["A"]) and torch.equal(one["B"], other["B"])
    assert len(asked(web)) == 8
    shards._opened.clear()
    epoch(make("aligned", serve(web, folder) + "/{0000..0003}.tar"))
    assert len(asked(web)) == 8


def test_the_shards_opened_longest_ago_are_deleted_first(folder, web):
    size = (folder / "0000.tar").stat().st_size
    dataset = make("aligned", serve(web, folder) + "/{0000..0003}.tar", "--shard_cache_gb", 2.5 * size / 1e9)
    assert len(kept()) == 2
    for index in (0, 6, 0, 12, 0):  # the first shard is the one used last
        sample(dataset, index)
    web.asked.clear()
    shards.close_shards()
    sample(dataset, 0)
    assert len(kept()) == 2 and not asked(web)
    sample(dataset, 18)
    assert asked(web) == ["/data/0003.tar"] and len(kept()) == 2
    configure("", 1e-6)
    shards.close_shards()
    with pytest.raises(OptionError, match=r"option '--shard_cache_gb': is .* raise it"):
        sample(dataset, 7)


def test_a_shard_in_use_is_not_deleted(folder, web):
    """By a process that has it open, not even if it alone is larger than the limit."""
    dataset = make("aligned", serve(web, folder) + "/{0000..0003}.tar")
    shard = dataset_shards(dataset)[0]
    path = cache.fetch_shard(shard.path, shard.size, shard.version)
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", hold, path], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        shards.close_shards()
        configure("", 1e-9)
        cache.make_room(0, cache.shards_folder() / "other.tar")
        assert kept() == [path.name]
        process.stdin.close()
    cache.make_room(0, cache.shards_folder() / "other.tar")
    assert kept() == []


def dataset_shards(dataset):
    return shards.open_shards(dataset.root).index.shards


def broken(content, times, answer):
    """Answer the first requests wrongly, then honestly."""
    asked_so_far = []

    def handle(handler):
        asked_so_far.append(1)
        (answer if len(asked_so_far) <= times else honest(content))(handler)

    return handle


CONTENT = tar_bytes(pairs(1, 2, 3))
SPOILED = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]


def wrong_range(handler):
    """Answer a request for the rest of the file with another part of it."""
    headers = {"Content_Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"one"'}
    if handler.start:
        handler.send(206, CONTENT[7:], **headers)
    else:
        honest(CONTENT, cut_at=lambda start: 30_000)(handler)


def slow(handler):
    """Send the file in small pieces."""
    handler.begin(200, Content_Length=len(CONTENT), ETag='"one"')
    for start in range(0, len(CONTENT), 4096):
        handler.wfile.write(CONTENT[start : start + 4096])
        handler.wfile.flush()


RECOVERED = {
    "cut": broken(CONTENT, 2, honest(CONTENT, cut_at=lambda start: start + 9_000)),
    "503": broken(CONTENT, 2, status(503)),
    "wrong range": broken(CONTENT, 2, wrong_range),
    "slow": slow,
    "another file in the middle": broken(CONTENT, 1, honest(SPOILED, '"old"', cut_at=lambda start: 20_000)),
    "cut without a length": broken(CONTENT, 1, lambda handler: (
        handler.begin(200), handler.wfile.write(CONTENT[:9_000]), handler.cut())),
    "damaged": broken(CONTENT, 1, status(200, CONTENT.replace(b"001.B", b"xxxxx"))),
}  # fmt: skip


@pytest.mark.parametrize("case", RECOVERED)
def test_a_server_that_fails_for_a_while_is_asked_again(case, web, tmp_path):
    url = web.at("/data/0.tar", RECOVERED[case])
    write_tar(tmp_path / "d/0.tar", pairs(1, 2, 3))
    one, other = make("aligned", url), make("aligned", "d")
    assert torch.equal(sample(one, 2)["A"], sample(other, 2)["A"]) and len(one) == 3
    assert (next(cache.shards_folder().glob("*.tar"))).read_bytes() == CONTENT


REFUSED = {
    "gone": (status(404), "address 'http://.*/data/0.tar': cannot be downloaded: the server answers 404"),
    "always busy": (status(503), "the server answers 503 .*, 5 times"),
    "a page": (status(200, b"<html>log in</html>" * 99), "downloaded 3 times .* it is not a tar file"),
    "always cut": (status(200, CONTENT[:9000]), "downloaded 3 times .* it is truncated"),
    "a link": (status(200, tar_bytes([("../1.png", b"x")])), r"file 'http://.*/0.tar': member '../1.png' has a name"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_server_without_the_shard_ends_in_one_line(case, web):
    answer, said = REFUSED[case]
    with pytest.raises((EnvironmentFault, DataError), match=said) as caught:
        make("aligned", web.at("/data/0.tar", answer))
    assert "\n" not in str(caught.value) and len(web.asked) <= 8


def test_a_shard_that_was_changed_on_the_server_is_noticed(folder, web):
    """Its SHA-256 is known from the first download, so that an index never meets other bytes."""
    dataset = make("aligned", serve(web, folder) + "/{0000..0003}.tar")
    for path in cache.shards_folder().glob("*.tar"):
        path.unlink()
    content = (folder / "0001.tar").read_bytes()
    web.at("/data/0001.tar", honest(content[:1000] + b"?" + content[1001:]))
    sample(dataset, 0)
    with pytest.raises(EnvironmentFault, match="another SHA-256; if it was changed on purpose"):
        sample(dataset, 6)
    web.at("/data/0001.tar", honest(content[:-512]))
    with pytest.raises(EnvironmentFault, match="bytes instead of"):
        sample(dataset, 6)


def test_a_damaged_file_of_the_cache_is_downloaded_again(folder, web):
    dataset = make("aligned", serve(web, folder) + "/{0000..0003}.tar")
    before = sample(dataset, 0)["A"]
    for path in cache.shards_folder().glob("*.tar"):
        path.write_bytes(path.read_bytes()[:-1024])
    shards.close_shards()
    assert torch.equal(sample(dataset, 0)["A"], before)


def test_processes_that_need_a_shard_wait_for_one_download(folder, web, tmp_path):
    shard = dataset_shards(make("aligned", serve(web, folder) + "/0000.tar"))[0]
    cache.fetch_shard(shard.path, shard.size, shard.version).unlink()
    web.asked.clear()
    go = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from data.shards import cache; cache.fetch_shard(*{[*shard]})"
    env = os.environ | {"no_proxy": "*"}
    processes = [subprocess.Popen([sys.executable, "-c", go], env=env) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0] and asked(web) == ["/data/0000.tar"]
    assert [path.name for path in cache.shards_folder().iterdir() if path.suffix in (".lock", ".part", ".json")] == []


def test_a_download_that_was_killed_is_resumed(folder, web):
    write_tar(folder / "0000.tar", pairs(*range(20)))
    shard = dataset_shards(make("aligned", serve(web, folder) + "/0000.tar"))[0]
    cache.fetch_shard(shard.path, shard.size, shard.version).unlink()
    content, hold = (folder / "0000.tar").read_bytes(), threading.Event()

    def stall(handler):
        handler.begin(200, Content_Length=len(content), ETag='"one"')
        handler.wfile.write(content[:100_000])
        handler.wfile.flush()
        hold.wait(30)

    web.at("/data/0000.tar", stall)
    go = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from data.shards import cache; cache.fetch_shard(*{[*shard]})"
    process = subprocess.Popen([sys.executable, "-c", go], env=os.environ | {"no_proxy": "*"})
    while not any(path.stat().st_size for path in cache.shards_folder().glob("*.part")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    hold.set()
    web.at("/data/0000.tar", honest(content))
    web.asked.clear()
    assert cache.fetch_shard(shard.path, shard.size, shard.version).read_bytes() == content
    assert re.fullmatch(r"bytes=[1-9]\d*-", web.asked[0][1]["Range"])


def test_the_next_shard_is_downloaded_ahead(folder, web):
    """If the cache has room for it; and a note says if it has none for images that are drawn from all shards."""
    dataset = make("unaligned", serve(web, folder) + "/{0000..0003}.tar")
    for path in cache.shards_folder().glob("*.tar"):
        path.unlink()
    web.asked.clear()
    dataset.fetch_ahead(2)
    [thread.join() for thread in threading.enumerate() if thread.name == "next shard"]
    assert asked(web) == ["/data/0002.tar"] and not any("are kept" in note for note in dataset.notes)
    size = (folder / "0000.tar").stat().st_size
    small = make("unaligned", dataset.o.dataroot, "--shard_cache_gb", 2.5 * size / 1e9)
    assert any("downloaded again and again; --shard_cache_gb 1 keeps all" in note for note in small.notes)
    small.fetch_ahead(1)
    assert not any(thread.name == "next shard" for thread in threading.enumerate())


def test_a_dataset_without_a_server_reads_what_is_kept(folder, web, capsys):
    root = serve(web, folder) + "/{0000..0003}.tar"
    before = epoch(make("aligned", root))
    web.pages.clear()
    shards._opened.clear()
    after = epoch(make("aligned", root))
    assert np.array_equal(before[0]["A"], after[0]["A"])
