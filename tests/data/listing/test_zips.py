"""A zip file is read in place like the unpacked folder, and damage is named in one line."""

import json
import os
import shutil
import struct
import zipfile

import pytest
import torch

from data.decoding.images import open_image
from data.listing import zips
from data.listing.files import dataset_root, is_folder, list_files, list_folders, open_binary
from tests.support.data_folders import load, make
from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import DataError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pack(folder, target, top="", how=zipfile.ZIP_DEFLATED, further=()):
    """Zip a folder's files, below a top folder if one is given."""
    with zipfile.ZipFile(target, "w", how) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, os.path.join(top, path.relative_to(folder)))
        for name, content in further:
            archive.writestr(name, content)
    return target


JUNK = [("__MACOSX/data/._1.png", b"x"), (".DS_Store", b"x"), ("data/.hidden/1.png", b"x"), ("data/notes.txt", b"x")]


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("top", ["", "horse2zebra"])
@pytest.mark.parametrize("mode", ["unaligned", "aligned", "single", "labeled", "colorization"])
def test_a_zip_file_is_a_folder(mode, top, how, unpaired, paired, tmp_path):
    """Names, sizes, order and pixels are those of the unpacked folder."""
    folder = paired if mode in ("aligned", "colorization") else unpaired
    if mode == "labeled":
        folder = tmp_path / "classes"
        for side, name in (("trainA", "cat"), ("trainB", "dog")):
            shutil.copytree(unpaired / side, folder / "train" / name)
    packed = pack(folder, tmp_path / "all.ZIP", top, how)
    one, other = make(mode, folder), make(mode, packed)
    below = os.path.join(packed, top) if top else str(packed)
    assert other.root == below
    for ours, theirs in zip(other.header_groups, one.header_groups, strict=True):
        for paths, unpacked in zip(ours, theirs, strict=True):
            assert [os.path.relpath(p, below) for p in paths] == [os.path.relpath(p, folder) for p in unpacked]
            assert paths.sizes.tolist() == unpacked.sizes.tolist()
    assert other.spec() == one.spec()
    for index in range(len(one)):
        torch.manual_seed(index)
        a, b = (sample(dataset, index) for dataset in (other, one))
        assert torch.equal(a["A"], b["A"])
    assert other.inventory.changes_since(one.inventory.state_dict()) == ""


@pytest.mark.parametrize("top", ["", "maps"])
@pytest.mark.parametrize(("how", "name"), [("auto", "pairs.csv"), ("rows.json", "rows.json")])
def test_a_manifest_in_a_zip_file_is_one(top, how, name, unpaired, tmp_path):
    rows = [{"a": f"trainA/{n}.png", "b": f"trainB/{3 - n}.png", "split": "train"} for n in range(4)]
    csv = "\n".join(["a,b,split", *(",".join(row.values()) for row in rows)])
    (unpaired / name).write_text(csv if name.endswith("csv") else json.dumps(rows))
    packed = pack(unpaired, tmp_path / "all.zip", top)
    one, other = (make("aligned", root, "--pairs", how) for root in (unpaired, packed))
    assert len(other) == 4 and name in other.notes[0]
    for index in range(4):
        a, b = (sample(dataset, index) for dataset in (one, other))
        assert torch.equal(a["A"], b["A"]) and torch.equal(a["B"], b["B"])
        assert b["path_B"].endswith(f"trainB/{3 - index}.png")


def sample(dataset, index):
    from util.seeding import fork_rng

    with fork_rng(index):
        return dataset[index]


def test_a_folder_inside_a_zip_file_is_a_dataroot_too(unpaired, tmp_path):
    packed = pack(unpaired, tmp_path / "x.zip", "deep/er")
    assert len(make("unaligned", f"{packed}/deep/er")) == 5
    assert len(make("single", f"{packed}/deep/er/trainA")) == 5
    assert dataset_root(f"{packed}/deep", "train") == f"{packed}/deep"


def test_junk_of_other_systems_is_left_out(unpaired, tmp_path):
    packed = str(pack(unpaired, tmp_path / "x.zip", "data", further=JUNK))
    assert dataset_root(packed, "train") == f"{packed}/data"
    assert list_folders(f"{packed}/data") == ["testA", "testB", "trainA", "trainB"]
    assert len(list_files(packed)) == 14
    assert is_folder(f"{packed}/data/trainA") and not is_folder(f"{packed}/data/train") and is_folder(packed)


def test_names_with_backslashes_are_paths(tmp_path):
    """Old programs on Windows write them; the classes were lost."""
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name in ("pets\\cat\\0.png", "pets\\dog\\1.png"):
            picture(1).save(tmp_path / "1.png")
            archive.write(tmp_path / "1.png", name)
    dataset = make("labeled", tmp_path / "pets.zip")
    assert dataset.classes == ("cat", "dog") and [sample["label"] for sample in dataset] == [0, 1]


@pytest.mark.parametrize("threads", [0, 2])
def test_workers_read_by_handles_of_their_own(unpaired, tmp_path, threads):
    """A fork shares the place in a file that is open: two processes reading by it would get each other's bytes."""
    packed = pack(unpaired, tmp_path / "x.zip")
    dataset = make("unaligned", packed, "--batch_size", 1)
    dataset[0]  # opened here, before the fork
    plain = load(make("unaligned", unpaired), num_threads=0)
    loader = load(dataset, num_threads=threads)
    try:
        for epoch in (1, 2):
            for one, other in zip(loader.epoch(epoch), plain.epoch(epoch), strict=True):
                assert torch.equal(one["A"], other["A"]) and torch.equal(one["B"], other["B"])
    finally:
        loader.close()


def test_every_process_and_file_version_has_its_own_handle(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    picture(1).save(tmp_path / "d" / "1.png")
    packed = str(pack(tmp_path / "d", tmp_path / "x.zip"))
    mine = zips.open_zip(packed)
    assert zips.open_zip(packed) is mine
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert zips.open_zip(packed) is not mine
    monkeypatch.undo()
    picture(2).save(tmp_path / "d" / "2.png")
    pack(tmp_path / "d", tmp_path / "x.zip")
    assert len(list_files(packed)) == 2


def test_a_run_from_a_zip_file_trains_is_continued_and_tested(paired, command, tmp_path):
    pack(paired, tmp_path / "pictures.zip", "facades")
    flags = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs_decay", 0, "--name", "run"]
    ended = command("train", *flags, "--dataroot", "pictures.zip", "--n_epochs", 1)
    assert ended.code == 0, ended.err
    assert "pairs: train, 5 files of A|B" in ended.out
    assert command("train", "--name", "run", "--continue_train", "--n_epochs", 2).code == 0
    ended = command("test", "--name", "run")
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "results").rglob("*_fake_B.png"))) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "paired", "pictures.zip", "results"]


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    (tmp_path / "d").mkdir()
    for number in range(3):
        picture(number, 60, 50).save(tmp_path / "d" / f"{number}.png")
    return str(pack(tmp_path / "d", tmp_path / "x.zip", how=zipfile.ZIP_STORED))


def refused(path):
    with pytest.raises(DataError) as caught:
        open_image(path, 3)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def respell(packed, change):
    """Rewrite the bytes of a zip file."""
    with open(packed, "rb") as file:
        content = bytearray(file.read())
    change(content)
    with open(packed, "wb") as file:
        file.write(content)


@pytest.mark.parametrize("content", [b"", b"words", b"PK\5\6" + bytes(10), b"PK\3\4" + bytes(100)])
def test_what_is_no_zip_file_is_refused(content, tmp_path):
    (tmp_path / "x.zip").write_bytes(content)
    said = r"file '.*x.zip': is not a complete zip file \(.*\); download or make it again"
    with pytest.raises(DataError, match=said):
        make("single", tmp_path / "x.zip")


def test_a_zip_file_that_was_cut_is_refused(packed):
    respell(packed, lambda content: content.__delitem__(slice(len(content) // 2, None)))
    with pytest.raises(DataError, match="is not a complete zip file"):
        make("single", packed)


def test_a_damaged_member_is_named(packed):
    respell(packed, lambda content: content.__setitem__(slice(600, 700), bytes(100)))
    text = refused(f"{packed}/2.png")
    assert text.startswith(f"image '{packed}/2.png': cannot be unpacked from {packed} (BadZipFile: Bad CRC-32")
    assert open_image(f"{packed}/0.png", 3).size == (60, 50)


def central(content):
    return content.index(b"PK\1\2")


def test_an_encrypted_member_is_named(packed):
    respell(packed, lambda content: content.__setitem__(central(content) + 8, 1))
    assert "is encrypted" in refused(f"{packed}/2.png")


def test_an_unknown_method_is_named(packed):
    respell(packed, lambda content: content.__setitem__(slice(central(content) + 10, central(content) + 12), b"\x63\0"))
    assert "cannot be unpacked" in refused(f"{packed}/2.png")


def test_a_member_too_large_is_refused_before_it_is_unpacked(packed, monkeypatch):
    monkeypatch.setattr(zips, "MAX_MEMBER_BYTES", 100)
    assert "more than the 100 of one image" in refused(f"{packed}/2.png")


def test_a_member_larger_than_it_says_is_not_unpacked_further(tmp_path):
    """A bomb that claims to be small."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(50_000_000))
    packed = str(tmp_path / "x.zip")
    respell(packed, lambda c: c.__setitem__(slice(central(c) + 24, central(c) + 28), struct.pack("<L", 1000)))
    assert "cannot be unpacked" in refused(f"{packed}/0.png")


def test_names_that_lead_out_are_only_names(tmp_path):
    """Nothing is ever written to the disk."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("../../up.png", "/etc/abs.png", "a//b.png", "./c.png", "ok.png"):
            archive.writestr(name, b"x")
    assert [os.path.basename(p) for p in list_files(str(tmp_path / "x.zip"))] == ["ok.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zip"]


def test_a_missing_member_is_named(packed):
    assert "is not in" in refused(f"{packed}/nowhere.png")


def test_a_folder_whose_name_ends_in_zip_is_a_folder(tmp_path):
    (tmp_path / "d.zip" / "train").mkdir(parents=True)
    picture(1).save(tmp_path / "d.zip" / "train" / "1.png")
    assert [os.path.basename(p) for p in list_files(str(tmp_path / "d.zip"))] == ["1.png"]
    with open_binary(str(tmp_path / "d.zip" / "train" / "1.png")) as file:
        assert file.read() == (tmp_path / "d.zip" / "train" / "1.png").read_bytes()


def test_bad_members_are_told_at_once_before_the_first_step(paired, command, tmp_path):
    (paired / "train" / "1.png").write_bytes(b"")
    (paired / "train" / "3.png").write_bytes(b"words")
    pack(paired, tmp_path / "x.zip")
    ended = command("train", *SMALL, "--model", "pix2pix", "--dataroot", "x.zip")
    assert ended.code == 3
    assert ended.err.splitlines()[0] == "x.zip/train/1.png: not an image (empty file)"
    assert "error: image 'x.zip/train/1.png'" in ended.last and "(and 1 more of 5 images)" in ended.last
