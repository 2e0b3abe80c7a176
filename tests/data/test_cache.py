"""The cache of scaled images never changes a sample, even if files, processes or disks fail."""

import os
import signal

import numpy as np
import pytest
import torch

from data.decoding.cache import Cache, CacheKey
from data.decoding.images import ReadOptions
from data.loading.loader import Loader
from registry.lookup import find
from tests.support.images import picture
from tests.support.runs import SMALL, options

RNG = np.random.default_rng(2)


def origin(name, size=5, changed=9):
    return CacheKey(f"/x/{name}", "0", size, changed)


def some(number, kind="uint8"):
    return RNG.integers(0, 200, (7 + number % 3, 11, 3)).astype(kind)


def loader(root, mode, *flags):
    o = options("--dataroot", str(root), "--dataset_mode", mode, "--name", "x", *map(str, flags))
    dataset = find("dataset", mode)(o)
    dataset.spec()
    return Loader(dataset, o, shuffle=True), dataset


def batches(made, *epochs):
    return [batch for epoch in epochs for batch in made.epoch(epoch)]


def alike(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert torch.equal(value, b[key]) if torch.is_tensor(value) else value == b[key], key


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("mode", ["aligned", "unaligned", "single", "colorization"])
def test_batches_are_the_same_with_and_without(mode, cache, workers, paired, unpaired, tmp_path):
    root = {"aligned": paired, "unaligned": unpaired, "single": unpaired / "trainA", "colorization": paired}[mode]
    nc = ["--input_nc", 1, "--output_nc", 2] if mode == "colorization" else []
    plain, _ = loader(root, mode, "--num_threads", workers, *nc)
    kept, _ = loader(root, mode, "--num_threads", workers, "--cache", cache, "--cache_dir", tmp_path / "kept", *nc)
    try:
        alike(batches(plain, 1, 2, 3), batches(kept, 1, 2, 3))
    finally:
        plain.close(), kept.close()


def test_a_picture_may_be_colour_on_one_side_and_grey_on_another(tmp_path):
    """A manifest that names each file for A and for B: what is kept for one side does not stand in for the other."""
    for number in range(4):
        picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "pairs.csv").write_text("a,b\n" + "".join(f"{n}.png,{n}.png\n" for n in range(4)))
    flags = ["--input_nc", 3, "--output_nc", 1]
    plain, kept = (loader(tmp_path, "unaligned", *flags, "--cache", cache)[0] for cache in ("off", "ram"))
    alike(batches(plain, 1, 2), batches(kept, 1, 2))


def test_cached_pictures_are_read_no_more(paired, monkeypatch):
    """In the second epoch no file is opened: those of the first may be gone by then, as far as reading goes."""
    made, dataset = loader(paired, "aligned", "--cache", "ram")
    first = batches(made, 1)
    monkeypatch.setattr(dataset, "read", lambda *_: pytest.fail("read again"))
    alike(batches(made, 1), first)


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_changed_file_is_read_anew(cache, unpaired, tmp_path):
    root = unpaired / "trainA"
    made, _ = loader(root, "single", "--cache", cache, "--cache_dir", tmp_path / "kept")
    before = batches(made, 1)
    for path in root.iterdir():
        picture(77).save(path)
        os.utime(path, ns=(1, 10**18))
    plain, _ = loader(root, "single")
    alike(batches(made, 1), batches(plain, 1))
    assert not torch.equal(batches(made, 1)[0]["A"], before[0]["A"])


def test_a_later_run_reuses_the_cache_of_equal_preprocessing(unpaired, tmp_path, monkeypatch):
    flags = ["--cache", "disk", "--cache_dir", tmp_path / "kept"]
    made, _ = loader(unpaired / "trainA", "single", *flags)
    before = batches(made, 1)
    again, dataset = loader(unpaired / "trainA", "single", *flags)
    monkeypatch.setattr(dataset, "read", lambda *_: pytest.fail("read again"))
    alike(batches(again, 1), before)
    other, dataset = loader(unpaired / "trainA", "single", *flags, "--load_size", 40)
    seen = []
    usual = dataset.read
    monkeypatch.setattr(dataset, "read", lambda path, nc: seen.append(path) or usual(path, nc))
    batches(other, 1)
    assert len(seen) == len(dataset)


def test_numbers_of_every_kind_come_back(tmp_path):
    for cache in (Cache(1 << 20, 100), Cache(1 << 20, 100, tmp_path / "c")):
        for number, kind in enumerate(("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")):
            array = some(number, kind)
            cache.put(origin(kind), array)
            got = cache.get(origin(kind))
            assert got is not None and got.dtype == kind and (got == array).all()
        assert cache.get(origin("uint8", size=6)) is None
        assert cache.get(origin("uint8", changed=10)) is None
        assert cache.get(origin("never")) is None


def test_a_full_cache_keeps_what_it_has():
    array = some(0)
    cache = Cache(3 * array.nbytes + 10, 100)
    for name in "abcde":
        cache.put(origin(name), array)
    assert [cache.get(origin(name)) is not None for name in "abcde"] == [True, True, True, False, False]
    assert os.fstat(cache.data_file).st_size == cache.capacity


def test_processes_share_the_cache_and_a_killed_one_harms_none(tmp_path):
    """A child puts pictures in until it is killed in the midst; all that can be found is whole, and more goes in."""
    cache = Cache(1 << 24, 4000)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        for number in range(100_000):
            cache.put(origin(number), np.full((50, 50, 3), number % 251, np.uint8))
            os.write(write, b".")
    os.read(read, 100)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    there = [
        number
        for number in range(4000)
        if (got := cache.get(origin(number))) is not None and (got == number % 251).all() and got.shape == (50, 50, 3)
    ]
    assert len(there) == sum(cache.get(origin(number)) is not None for number in range(4000)) > 0
    cache.put(origin("mine"), some(1))
    assert cache.get(origin("mine")) is not None


def test_a_damaged_cache_file_is_read_anew(tmp_path):
    cache = Cache(1 << 20, 100, tmp_path / "c")
    for number in range(20):
        cache.put(origin(number), some(number))
    file = next(tmp_path.glob("*.pictures"))
    data = bytearray(file.read_bytes())
    for place in range(0, 3000, 97):
        data[place] ^= 255
    file.write_bytes(data)
    again = Cache(1 << 20, 100, tmp_path / "c")
    assert all(again.get(origin(number)) is None for number in range(10))


def test_a_full_disk_ends_the_caching_not_the_training(command, paired, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.decoding.cache._write_all", full)
    ended = command(
        "train",
        *SMALL,
        "--model",
        "pix2pix",
        "--netG",
        "resnet_4blocks",
        "--netD",
        "pixel",
        "--dataroot",
        paired,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--no_html",
        "--cache",
        "disk",
        "--cache_dir",
        tmp_path / "kept",
        "--name",
        "x",
    )
    assert ended.code == 0, ended.err


def test_a_cache_that_cannot_be_made_is_told(command, paired, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    ended = command(
        "train",
        *SMALL,
        "--model",
        "pix2pix",
        "--netG",
        "resnet_4blocks",
        "--netD",
        "pixel",
        "--dataroot",
        paired,
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--no_html",
        "--cache",
        "disk",
        "--cache_dir",
        tmp_path / "file",
        "--name",
        "x",
    )
    assert ended.code == 0, ended.err
    assert "note: no --cache disk (" in ended.out


def test_old_caches_make_room(unpaired, tmp_path):
    """Those of other recipes go, the oldest first, until they take no more than half of --cache_gb."""
    flags = ["--cache", "disk", "--cache_dir", tmp_path / "kept"]
    for size in (40, 44, 48):
        made, _ = loader(unpaired / "trainA", "single", *flags, "--load_size", size)
        batches(made, 1)
    files = sorted((tmp_path / "kept").glob("*.pictures"))
    assert len(files) == 3
    oldest = min(files, key=lambda path: path.stat().st_mtime_ns)
    taken = sum(path.stat().st_blocks * 512 for path in (tmp_path / "kept").iterdir())
    loader(unpaired / "trainA", "single", *flags, "--load_size", 48, "--cache_gb", taken * 1.1 / 1e9)
    assert not oldest.exists()
    assert len(sorted((tmp_path / "kept").glob("*.pictures"))) == 2


def test_the_name_of_a_cache_on_disk_does_not_change():
    """It is made of this text, among others: caches of earlier versions stay in use."""
    assert repr(ReadOptions()) == "Reading(background=(255, 255, 255), icc=True, max_pixels=89478485)"
    assert repr(ReadOptions(None, False, 10)) == "Reading(background=None, icc=False, max_pixels=10)"
