"""make_shards.py writes any data set into shards that give the same samples, with the same bytes each time."""

import json
import os
import tarfile

import pytest
import torch

from data.listing import shards
from data.prepare.shard_samples import shard_samples
from data.prepare.shard_writer import Limits, check_output, write_shards
from scripts.make_shards import main
from tests.support.bad_http_server import serve
from tests.support.data_folders import make, sample, save
from tests.support.images import picture
from util.errors import DataError, EnvironmentFault, OptionError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "_opened", {})


def folders(tmp_path, *names, count=5, width=48):
    for number, name in enumerate(names):
        for n in range(count):
            save(picture(100 * number + n, width), tmp_path / "d" / name / f"{n}.png")
    return tmp_path / "d"


def build(kind, tmp_path):
    """Write a small data set; return its root, its mode, and the flags that read it."""
    if kind == "joined":
        return folders(tmp_path, "train", "test", width=96), "aligned", []
    if kind == "sides":
        return folders(tmp_path, "trainA/x", "trainB/x"), "aligned", ["--dataset_mode", "aligned"]
    if kind == "inputs":
        return folders(tmp_path, "trainA1", "trainA2", "trainB"), "aligned", []
    if kind == "unaligned":
        return folders(tmp_path, "trainA", "trainB", "testA", "testB"), "unaligned", []
    if kind == "labeled":
        return folders(tmp_path, "train/cat", "train/dog"), "labeled", []
    root = folders(tmp_path, "a", "b")
    rows = "".join(f"a/{n}.png,b/{4 - n}.png,train,{n % 2}\n" for n in range(5))
    (root / "pairs.csv").write_text("a,b,split,label\n" + rows)
    return root, "aligned", []


@pytest.mark.parametrize("kind", ["joined", "sides", "inputs", "unaligned", "labeled", "manifest"])
def test_the_shards_give_the_samples_of_the_data_set(kind, tmp_path, capsys, monkeypatch):
    root, mode, flags = build(kind, tmp_path)
    main(["--dataroot", str(root), "--output", "s", "--max_count", "2", *flags], None)
    monkeypatch.setattr("data.listing.shard_sources.build_index", None)  # the index beside the shards is used
    for phase in ("train", "test") if kind in ("joined", "unaligned") else ("train",):
        one, other = make(mode, root, phase=phase), make(mode, "s", phase=phase)
        assert len(one) == len(other) > 0 and one.spec() == other.spec()
        for index in range(len(one)):
            a, b = sample(one, index, index), sample(other, index, index)
            assert a.keys() == b.keys()
            assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a if k[:4] != "path")
    assert "to train: --dataroot s" in capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    (tmp_path / "s/train-999999.tar").write_bytes(b"left by a killed command")
    main(["--dataroot", str(root), "--output", "s", "--max_count", "2", *flags], None)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == first


def test_limits_names_and_list(tmp_path):
    root = folders(tmp_path, "train", count=9)
    every = {"train": shard_samples(make("single", root)), "": []}
    assert write_shards(tmp_path / "n", every, [], Limits(10**9, 4)) == 3
    listed = json.loads((tmp_path / "n/shards.json").read_text())
    assert [row["samples"] for row in listed["shards"]] == [4, 4, 1] and listed["complete"]
    names = [name for n in range(3) for name in tarfile.open(tmp_path / f"n/train-{n:06d}.tar").getnames()]
    assert sorted(names) == [f"train/{n}.png" for n in range(9)] != names
    size = os.path.getsize(root / "train/0.png")
    assert write_shards(tmp_path / "n", every, [], Limits(size, 100)) == 9
    assert len(list((tmp_path / "n").glob("*.tar"))) == 9
    member = tarfile.open(tmp_path / "n/train-000000.tar").getmembers()[0]
    assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)


def test_only_its_own_folder_is_written_again(tmp_path):
    root = folders(tmp_path, "train")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("x")
    for output in ("mine", str(root)):
        with pytest.raises(OptionError, match=r"is not empty .* was not written by make_shards.py"):
            main(["--dataroot", str(root), "--output", output], None)
    check_output(tmp_path / "new")
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]


def test_a_command_that_was_stopped_leaves_a_list_that_says_so(tmp_path, monkeypatch):
    root = folders(tmp_path, "train")
    samples = {"train": shard_samples(make("single", root))}
    os.remove(root / "train/3.png")
    with pytest.raises(DataError, match=r"image '.*3.png': cannot be read"):
        write_shards(tmp_path / "s", samples, [], Limits(1, 1))
    with pytest.raises(DataError, match=r"not complete; run make_shards.py again"):
        make("single", "s")
    picture(3).save(root / "train/3.png")
    check_output(tmp_path / "s")
    write_shards(tmp_path / "s", samples, [], Limits(10**9, 100))
    assert len(make("single", "s")) == 5
    (tmp_path / "file").write_text("x")
    with pytest.raises(EnvironmentFault, match="free space or choose another --output"):
        write_shards(tmp_path / "file/s", samples, [], Limits(1, 1))


def test_a_server_with_the_list_needs_no_download_to_start(tmp_path, web):
    root, _, _ = build("labeled", tmp_path)
    main(["--dataroot", str(root), "--output", "s", "--max_count", "3"], None)
    dataset = make("labeled", serve(web, tmp_path / "s"))
    assert dataset.classes == ("cat", "dog") and len(dataset) == 10
    assert [path for path, _ in web.asked] == ["/data/shards.json", "/data/shards.index"]
    assert torch.equal(sample(dataset, 3)["A"], sample(make("labeled", root), 3)["A"]) and len(web.asked) == 3
    web.at("/data/shards.index", serve_wrong)
    shards._opened.clear()
    for kept in (tmp_path / "cache").rglob("*.npz"):
        kept.unlink()
    with pytest.raises(DataError, match=r"is not the index that shards.json names"):
        make("labeled", f"http://127.0.0.1:{web.port}/data")


def serve_wrong(handler):
    handler.send(200, b"another")


def test_names_that_shards_cannot_hold_are_changed_or_refused(tmp_path):
    for name in ("x.b.png", "x_b.png", "y.v2.png"):
        save(picture(1), tmp_path / "d" / name)
    keys = [each.key for each in shard_samples(make("single", tmp_path / "d"))]
    assert keys == ["x_b", "x_b_2", "y.v2"]
    save(picture(1), tmp_path / "d/a\nb.png")
    with pytest.raises(DataError, match=r"cannot be in a shard: .*; rename it"):
        shard_samples(make("single", tmp_path / "d"))
