"""All image headers are checked before training, and bad images can be skipped."""

import re
import threading

import numpy as np
import pytest
import tifffile
import torch

from data.decoding import header_check, sound_files
from data.decoding.header_check import HeaderCheck, exceeds_skip_limit, read_header
from data.listing.files import list_files
from tests.support.data_folders import FORTY, cut, epoch, load, make
from tests.support.images import picture
from util.errors import DataError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def begun(folder, skips=False):
    check = HeaderCheck([[list_files(str(folder))]], str(folder), skips)
    check.start()
    return check


def test_ten_are_named_and_the_rest_counted(forty_pairs, command):
    for number in range(5, 25):
        (forty_pairs / f"{number:02d}.png").write_bytes(b"")
    lines = command("train", *FORTY).err.splitlines()
    assert [line.partition(":")[0] for line in lines[:10]] == [f"data/train/{n:02d}.png" for n in range(5, 15)]
    assert lines[10] == "... and 10 more" and "(and 19 more of 40 images)" in lines[11] and len(lines) == 12


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tif", "webp", "ppm", "gif"])
def test_only_headers_are_read(kind, tmp_path):
    """The size is that of the upright picture; what follows the header is not looked at."""
    extra = {} if kind in ("bmp", "ppm", "gif") else {"exif": turned()}
    picture(1, 640, 400).save(tmp_path / f"x.{kind}", **extra)
    whole = (tmp_path / f"x.{kind}").read_bytes()
    if kind not in ("tif", "webp"):  # whose headers may stand at the end, or are read with all the rest
        (tmp_path / f"x.{kind}").write_bytes(whole[: len(whole) // 2])
    assert read_header(str(tmp_path / f"x.{kind}")).size == ((400, 640) if extra else (640, 400))


def turned():
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def test_training_begins_while_other_headers_are_still_checked(forty_pairs, monkeypatch, capsys):
    """With a time limit of zero, nothing is refused, but later findings are printed in one line."""
    (forty_pairs / "31.png").write_bytes(b"")
    (forty_pairs / "33.png").write_bytes(b"")
    go = threading.Event()
    look = HeaderCheck._check_file
    monkeypatch.setattr(HeaderCheck, "_check_file", lambda self, place: (go.wait(60), look(self, place))[1])
    monkeypatch.setattr(header_check, "FOREGROUND_CHECK_S", 0)
    monkeypatch.setattr(header_check, "BACKGROUND_PAUSE_S", 0)
    check = begun(forty_pairs)
    assert not check.done.is_set() and capsys.readouterr().out == ""
    go.set()
    assert check.done.wait(60) and check.reported.wait(60)
    said = capsys.readouterr().out.strip()
    assert said == (
        f"note: 2 of 40 images cannot be read: {forty_pairs}/31.png (not an image (empty file)), "
        f"{forty_pairs}/33.png (not an image (empty file))"
    )


def test_a_disk_that_does_not_answer_holds_nothing_up(forty_pairs, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(HeaderCheck, "_check_file", lambda self, place: never.wait(60) and None)
    monkeypatch.setattr(header_check, "FOREGROUND_CHECK_S", 0)
    check = begun(forty_pairs)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "check")
    check.stop()
    never.set()
    for thread in threading.enumerate():
        if thread.name == "check":
            thread.join(60)
    assert not check.done.is_set()


def test_the_look_ends_with_the_run(forty_pairs, monkeypatch):
    monkeypatch.setattr(header_check, "FOREGROUND_CHECK_S", 0)
    dataset = make("aligned", forty_pairs.parent)
    dataset.spec()
    loader = load(dataset)
    assert not dataset.header_check.stopped.is_set()
    loader.close()
    assert dataset.header_check.stopped.is_set()


def test_sound_headers_are_not_checked_again(forty_pairs, monkeypatch):
    monkeypatch.setattr(sound_files, "MIN_REMEMBERED_FILES", 10)
    looked, look = [], HeaderCheck._check_file
    monkeypatch.setattr(HeaderCheck, "_check_file", lambda self, place: (looked.append(place), look(self, place))[1])
    (forty_pairs / "05.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"05\.png"):
        begun(forty_pairs)
    assert sorted(looked) == list(range(40))
    looked.clear()
    with pytest.raises(DataError, match=r"05\.png"):
        begun(forty_pairs)
    assert looked == [5], "what was bad is"
    picture(5, 96, 40).save(forty_pairs / "05.png")
    picture(5, 97, 40).save(forty_pairs / "06.png")  # of another size in bytes
    picture(5, 96, 40).save(forty_pairs / "new.png")
    looked.clear()
    begun(forty_pairs)
    assert sorted(looked) == [5, 6, 40]
    looked.clear()
    begun(forty_pairs)
    assert looked == []
    [file] = (sound_files.cache_folder() / "sound").iterdir()
    file.write_bytes(file.read_bytes()[:-200])
    begun(forty_pairs)
    assert sorted(looked) == list(range(41)), "damaged, it is as if there were none"


FIRST = "images hold several frames, such as 'd/0.tif' (3): the first is used"
STACK = "images have 3 pages, such as 'd/0.tif': they are read as 3 channels; if they are slices, save one image"
STACK += " per file"


@pytest.mark.parametrize(("channels", "shape", "depth", "said"), [
    ((3, 3), (3, 8, 8), "uint16", STACK),
    ((3, 3), (3, 8, 8), "float32", STACK),
    ((1, 1), (3, 8, 8), "uint16", FIRST),
    ((1, 3), (3, 8, 8), "uint16", ""),  # which of the sides a file belongs to is not known
    ((3, 3), (3, 8, 8), "uint8", FIRST),
    ((3, 3), (3, 8, 8, 3), "uint8", FIRST),
    ((5, 5), (5, 8, 8), "uint16", ""),
    ((4, 4), (4, 8, 8, 3), "uint8", "images hold several frames, such as 'd/0.tif' (4): the first is used"),
])  # fmt: skip
def test_pages_are_told_to_be_unused_or_channels(channels, shape, depth, said, tmp_path, capsys):
    """Three pages of more than 8 bits may be colours or slices."""
    (tmp_path / "d").mkdir()
    kind = "rgb" if shape[-1] == 3 else "minisblack"
    for number in range(2):
        tifffile.imwrite(tmp_path / f"d/{number}.tif", np.zeros(shape, depth), photometric=kind)
    HeaderCheck([[list_files("d")]], "d", False, channels=channels).start()
    assert capsys.readouterr().out == (f"note: 2 of 2 {said}\n" if said else "")


@pytest.mark.parametrize("paired", [True, False])
def test_each_side_has_its_own_number_of_channels(paired, tmp_path, capsys):
    """Three pages of a side of one channel were taken for used where the other side had three."""
    for side in "AB":
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / "0.tif", np.zeros((3, 8, 8), "uint16"), photometric="minisblack")
    one, other = list_files("A"), list_files("B")
    HeaderCheck([[one, other]] if paired else [[one], [other]], ".", False, channels=(3, 1)).start()
    first = "note: 1 of 2 images hold several frames, such as 'B/0.tif' (3): the first is used"
    stack = "note: 1 of 2 images have 3 pages, such as 'A/0.tif': they are read as 3 channels; if they are slices, "
    assert capsys.readouterr().out == f"{first}\n{stack}save one image per file\n"


def test_pages_of_unequal_sizes_are_no_channels(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    with tifffile.TiffWriter(tmp_path / "d/0.tif") as file:
        for side in (8, 9, 8):
            file.write(np.zeros((side, side), "uint16"), photometric="minisblack")
    HeaderCheck([[list_files("d")]], "d", False, channels=(3, 3)).start()
    assert capsys.readouterr().out == f"note: 1 of 1 {FIRST}\n"


@pytest.fixture
def unfinished(forty_pairs, monkeypatch):
    """unfinished(): the positions looked at by a check that ends at position 30 of 40; position 5 is bad."""
    monkeypatch.setattr(sound_files, "MIN_REMEMBERED_FILES", 10)
    (forty_pairs / "05.png").write_bytes(b"")
    started, enough, ended = threading.Event(), threading.Event(), threading.Event()
    look = HeaderCheck._check_file

    def look_at_thirty(self, place):
        looked.append(place)
        assert started.wait(60)
        if place >= 30:
            enough.set()
            assert ended.wait(60)
        return look(self, place)

    looked: list[int] = []
    monkeypatch.setattr(header_check, "CHECK_THREADS", 1)
    monkeypatch.setattr(header_check, "BACKGROUND_PAUSE_S", 0)
    monkeypatch.setattr(HeaderCheck, "_check_file", look_at_thirty)

    def run(in_background):
        check = HeaderCheck([[list_files(str(forty_pairs))]], str(forty_pairs), skip_bad=True)
        monkeypatch.setattr(check.done, "wait", lambda seconds: not in_background and not enough.wait(60))
        if not in_background:
            started.set()
        check.start()
        started.set()
        assert enough.wait(60)
        saved = len(sound_files.load_sound_keys(str(forty_pairs)))
        check.stop()
        ended.set()
        for thread in threading.enumerate():
            if thread.name == "check":
                thread.join(60)
        return saved

    run.looked = looked
    return run


@pytest.mark.parametrize("in_background", [False, True])
def test_an_unfinished_check_is_continued_by_the_next_run(unfinished, forty_pairs, monkeypatch, in_background):
    """What was checked before a run ended is not checked again; what was not, or was bad, is."""
    monkeypatch.setattr(header_check, "SAVE_EVERY", 4)
    assert unfinished(in_background) == (27 if in_background else 29)  # at 28 positions; at the end of the foreground
    assert sorted(unfinished.looked) == list(range(31))
    unfinished.looked.clear()
    with pytest.raises(DataError, match=r"05\.png"):
        begun(forty_pairs)
    assert sorted(unfinished.looked) == [5, *range(31, 40)]


def test_the_next_run_notes_the_frames_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sound_files, "MIN_REMEMBERED_FILES", 2)
    (tmp_path / "d").mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / f"d/{number}.tif", np.zeros((3, 8, 8), "uint16"), photometric="minisblack")
    for channels, said in (((3, 3), STACK), ((3, 3), STACK), ((1, 1), FIRST)):
        HeaderCheck([[list_files("d")]], "d", False, channels=channels).start()
        assert capsys.readouterr().out == f"note: 4 of 4 {said}\n"


def test_few_files_are_not_remembered(forty_pairs):
    begun(forty_pairs)
    assert not (sound_files.cache_folder() / "sound").exists()


# --- --on_bad_image skip --------------------------------------------------------------------------------------------


def same(one, other):
    return len(one) == len(other) and all(
        a["path_A"] == b["path_A"] and torch.equal(a["A"], b["A"]) for a, b in zip(one, other, strict=True)
    )


def test_replacing_depends_on_nothing_but_files_seed_and_place(forty_pairs):
    """The same with workers, and after a resume in mid-epoch."""
    for number in (7, 8, 39):
        cut(forty_pairs / f"{number:02d}.png")
    dataset = make("aligned", forty_pairs.parent, "--on_bad_image", "skip")
    whole = epoch(dataset)
    assert same(whole, epoch(dataset, threads=2))
    assert same(whole[3:], epoch(dataset, skip=12))
    assert not same(whole, epoch(dataset, number=2))


def test_a_test_omits_bad_images_and_counts_no_epochs(forty_pairs, capsys):
    cut(forty_pairs / "07.png")
    forty_pairs.rename(forty_pairs.with_name("test"))
    dataset = make("aligned", forty_pairs.parent, "--on_bad_image", "skip", phase="test")
    dataset.o.isTrain = False
    assert sum(len(batch["path_A"]) for batch in epoch(dataset, number=0)) == 39
    assert "note: 1 image could not be used:" in capsys.readouterr().out.splitlines()


def test_how_many_are_too_many():
    assert [exceeds_skip_limit(n, 40) for n in (0, 5, 6)] == [False, False, True]
    assert [exceeds_skip_limit(n, 100_000) for n in (1000, 1001)] == [False, True]


def test_headers_that_are_bad_are_told_before_and_skipped(forty_pairs, command):
    """Also the very first picture, by which the networks are made."""
    (forty_pairs / "00.png").write_bytes(b"")
    ended = command("train", *FORTY, "--on_bad_image", "skip", "--max_dataset_size", 4)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    at = lines.index("note: 1 of 4 images cannot be read and are skipped")
    assert lines[at + 1] == "data/train/00.png: not an image (empty file)"
    assert "note: 1 image could not be used in epoch 1:" in lines


def test_too_many_bad_headers_end_it_before_anything_is_made(forty_pairs, command, tmp_path):
    for number in range(6):
        (forty_pairs / f"{number:02d}.png").write_bytes(b"")
    ended = command("train", *FORTY, "--on_bad_image", "skip")
    assert ended.code == 3 and "(and 5 more of 40 images)" in ended.last and "accepts only a few" in ended.last
    assert not (tmp_path / "checkpoints").exists()


def test_other_errors_are_not_skipped(forty_pairs):
    dataset = make(
        "aligned", forty_pairs.parent, "--on_bad_image", "skip", "--preprocess", "none", "--max_dataset_size", 3
    )
    picture(1, 160, 40).save(forty_pairs / "01.png")
    with pytest.raises(DataError, match="cannot be batched"):
        epoch(dataset)


def test_a_test_leaves_bad_pictures_out(forty_pairs, command, tmp_path):
    """Each picture is translated once, none twice; batches in which none is left are no batches."""
    assert command("train", *FORTY, "--max_dataset_size", 2).code == 0
    for number in (2, 6, 7):
        cut(forty_pairs / f"{number:02d}.png")
    flags = ["--name", "run", "--phase", "train", "--on_bad_image", "skip", "--max_dataset_size", 8]
    for size in (1, 2):
        ended = command("test", *flags, "--batch_size", size)
        assert ended.code == 0, ended.err
        assert "5 images -> " in ended.out and "note: 3 images could not be used" in ended.out
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
