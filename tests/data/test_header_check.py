"""The look at all headers before a training, and pictures that are left out instead of ending it."""

import re
import threading

import numpy as np
import pytest
import torch

from data.decoding import header_check
from data.decoding.header_check import Check, header, too_many
from data.listing import index
from data.listing.files import list_files
from tests.data.test_datasets import load, make
from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import DataError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """40 pairs of A|B."""
    (tmp_path / "data" / "train").mkdir(parents=True)
    for number in range(40):
        picture(number, 96, 40).save(tmp_path / "data" / "train" / f"{number:02d}.png")
    return tmp_path / "data" / "train"


PIX2PIX = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--dataroot", "data", "--n_epochs", 1,
           "--n_epochs_decay", 0, "--no_html", "--fixed_samples", 0, "--name", "run"]  # fmt: skip


def begun(folder, skips=False):
    check = Check([[list_files(str(folder))]], str(folder), skips)
    check.begin()
    return check


def test_ten_are_named_and_the_rest_counted(folder, command):
    for number in range(5, 25):
        (folder / f"{number:02d}.png").write_bytes(b"")
    lines = command("train", *PIX2PIX).err.splitlines()
    assert [line.partition(":")[0] for line in lines[:10]] == [f"data/train/{n:02d}.png" for n in range(5, 15)]
    assert lines[10] == "... and 10 more" and "(and 19 more of 40 pictures)" in lines[11] and len(lines) == 12


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tif", "webp", "ppm", "gif"])
def test_only_headers_are_read(kind, tmp_path):
    """The size is that of the upright picture; what follows the header is not looked at."""
    extra = {} if kind in ("bmp", "ppm", "gif") else {"exif": turned()}
    picture(1, 640, 400).save(tmp_path / f"x.{kind}", **extra)
    whole = (tmp_path / f"x.{kind}").read_bytes()
    if kind not in ("tif", "webp"):  # whose headers may stand at the end, or are read with all the rest
        (tmp_path / f"x.{kind}").write_bytes(whole[: len(whole) // 2])
    assert header(str(tmp_path / f"x.{kind}")).size == ((400, 640) if extra else (640, 400))


def turned():
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def test_training_begins_while_other_headers_are_still_checked(folder, monkeypatch, capsys):
    """With no time at all: nothing is refused, but what is found later is told in one line."""
    (folder / "31.png").write_bytes(b"")
    (folder / "33.png").write_bytes(b"")
    go = threading.Event()
    look = Check._look
    monkeypatch.setattr(Check, "_look", lambda self, place: (go.wait(60), look(self, place))[1])
    monkeypatch.setattr(header_check, "PATIENCE", 0)
    monkeypatch.setattr(header_check, "REST", 0)
    check = begun(folder)
    assert not check.done.is_set() and capsys.readouterr().out == ""
    go.set()
    assert check.done.wait(60) and check.told.wait(60)
    said = capsys.readouterr().out.strip()
    assert said == (
        f"note: 2 of 40 pictures cannot be read: {folder}/31.png (not an image (empty file)), "
        f"{folder}/33.png (not an image (empty file))"
    )


def test_a_disk_that_does_not_answer_holds_nothing_up(folder, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(Check, "_look", lambda self, place: never.wait(60) and None)
    monkeypatch.setattr(header_check, "PATIENCE", 0)
    check = begun(folder)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "check")
    check.stop()
    never.set()
    for thread in threading.enumerate():
        if thread.name == "check":
            thread.join(60)
    assert not check.done.is_set()


def test_the_look_ends_with_the_run(folder, monkeypatch):
    monkeypatch.setattr(header_check, "PATIENCE", 0)
    dataset = make("aligned", folder.parent)
    dataset.spec()
    loader = load(dataset)
    assert not dataset.check.stopped.is_set()
    loader.close()
    assert dataset.check.stopped.is_set()


def test_sound_headers_are_not_checked_again(folder, monkeypatch):
    monkeypatch.setattr(index, "WORTH", 10)
    looked, look = [], Check._look
    monkeypatch.setattr(Check, "_look", lambda self, place: (looked.append(place), look(self, place))[1])
    (folder / "05.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"05\.png"):
        begun(folder)
    assert sorted(looked) == list(range(40))
    looked.clear()
    with pytest.raises(DataError, match=r"05\.png"):
        begun(folder)
    assert looked == [5], "what was bad is"
    picture(5, 96, 40).save(folder / "05.png")
    picture(5, 97, 40).save(folder / "06.png")  # of another size in bytes
    picture(5, 96, 40).save(folder / "new.png")
    looked.clear()
    begun(folder)
    assert sorted(looked) == [5, 6, 40]
    looked.clear()
    begun(folder)
    assert looked == []
    [file] = (header_check.index.cache_folder() / "sound").iterdir()
    file.write_bytes(file.read_bytes()[:-200])
    begun(folder)
    assert sorted(looked) == list(range(41)), "damaged, it is as if there were none"


# --- --on_bad_image skip --------------------------------------------------------------------------------------------


def cut(path):
    """Leave a sound header and half of the pixels."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def epoch(dataset, threads=0, skip=0, number=1):
    loader = load(dataset, shuffle=True, num_threads=threads, batch_size=4)
    try:
        return list(loader.epoch(number, skip))
    finally:
        loader.close()


def same(one, other):
    return len(one) == len(other) and all(
        a["path_A"] == b["path_A"] and torch.equal(a["A"], b["A"]) for a, b in zip(one, other, strict=True)
    )


def test_replacing_depends_on_nothing_but_files_seed_and_place(folder):
    """The same with workers, and after a resume in mid-epoch."""
    for number in (7, 8, 39):
        cut(folder / f"{number:02d}.png")
    dataset = make("aligned", folder.parent, "--on_bad_image", "skip")
    whole = epoch(dataset)
    assert same(whole, epoch(dataset, threads=2))
    assert same(whole[3:], epoch(dataset, skip=12))
    assert not same(whole, epoch(dataset, number=2))


def test_how_many_are_too_many():
    assert [too_many(n, 40) for n in (0, 5, 6)] == [False, False, True]
    assert [too_many(n, 100_000) for n in (1000, 1001)] == [False, True]


def test_headers_that_are_bad_are_told_before_and_skipped(folder, command):
    """Also the very first picture, by which the networks are made."""
    (folder / "00.png").write_bytes(b"")
    ended = command("train", *PIX2PIX, "--on_bad_image", "skip", "--max_dataset_size", 4)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    at = lines.index("note: 1 of 4 pictures cannot be read and are skipped")
    assert lines[at + 1] == "data/train/00.png: not an image (empty file)"
    assert "note: 1 pictures could not be used in epoch 1:" in lines


def test_too_many_bad_headers_end_it_before_anything_is_made(folder, command, tmp_path):
    for number in range(6):
        (folder / f"{number:02d}.png").write_bytes(b"")
    ended = command("train", *PIX2PIX, "--on_bad_image", "skip")
    assert ended.code == 3 and "(and 5 more of 40 pictures)" in ended.last and "is for a few" in ended.last
    assert not (tmp_path / "checkpoints").exists()


def test_other_errors_are_not_skipped(folder):
    dataset = make("aligned", folder.parent, "--on_bad_image", "skip", "--preprocess", "none", "--max_dataset_size", 3)
    picture(1, 160, 40).save(folder / "01.png")
    with pytest.raises(DataError, match="cannot be batched"):
        epoch(dataset)


def test_a_test_leaves_bad_pictures_out(folder, command, tmp_path):
    """Each picture is translated once, none twice; batches in which none is left are no batches."""
    assert command("train", *PIX2PIX, "--max_dataset_size", 2).code == 0
    for number in (2, 6, 7):
        cut(folder / f"{number:02d}.png")
    flags = ["--name", "run", "--phase", "train", "--on_bad_image", "skip", "--max_dataset_size", 8]
    for size in (1, 2):
        ended = command("test", *flags, "--batch_size", size)
        assert ended.code == 0, ended.err
        assert "5 images -> " in ended.out and "note: 3 pictures could not be used" in ended.out
        made = sorted(p.name for p in (tmp_path / "results").rglob("*_fake_B.png"))
        assert made == [f"{n:02d}_fake_B.png" for n in (0, 1, 3, 4, 5)]


def test_labels_and_unpaired_sides_are_skipped_alike(tmp_path):
    """A bad picture of B, drawn at random, ends no epoch either."""
    for side in "AB":
        for number in range(12):
            path = tmp_path / "d" / f"train{side}" / f"{side}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(number).save(path)
    cut(tmp_path / "d" / "trainB" / "B3.png")
    cut(tmp_path / "d" / "trainA" / "A4.png")
    dataset = make("unaligned", tmp_path / "d", "--on_bad_image", "skip")
    got = epoch(dataset)
    assert sum(len(batch["A"]) for batch in got) == 12
    assert not any(re.search("B3|A4", path) for batch in got for path in (*batch["path_A"], *batch["path_B"]))
    assert np.isfinite(torch.cat([batch["B"] for batch in got]).numpy()).all()
