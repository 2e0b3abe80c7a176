"""Unusable images and folders are named in one line, and usable images are listed once, in order."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageFile

from data.listing.files import list_files
from tests.support.data_folders import FORTY, SIDES, cut, epoch, make, names, refused_data, sample, save
from tests.support.images import picture, refused
from tests.support.refusals import PIX2PIX, check, late_picture
from tests.support.runs import ROOT, SMALL
from tests.support.tested_runs import check_page, pictures, pixels
from tests.support.training_runs import Page
from util.errors import DataError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.fault(32)
def test_files_that_are_no_pictures_are_told_at_once(forty_pairs, command, tmp_path):
    """An empty file, a web page and a text file are among the images: all are listed at once, exit 3, before anything
    is written.
    """
    (forty_pairs / "03.png").write_bytes(b"")
    (forty_pairs / "17.png").write_bytes(b"<html>404</html>")
    (forty_pairs / "25.png").write_bytes(b"words")
    ended = command("train", *FORTY)
    assert ended.code == 3
    lines = ended.err.splitlines()
    assert lines[:2] == ["data/train/03.png: not an image (empty file)", "data/train/17.png: not an image (a web page)"]
    assert lines[2].startswith("data/train/25.png: cannot be read (UnidentifiedImageError")
    assert lines[3:] == [
        "error: image 'data/train/03.png': not an image (empty file) (and 2 more of 40 images); "
        "delete or replace it, or use --on_bad_image skip"
    ]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(32)
@pytest.mark.parametrize(("content", "why"), [
    (b"", "not an image (empty file)"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
    (b"<!DOCTYPE html>\n<html><body>404</body></html>", "not an image (a web page)"),
    (b"\n  <html><head>", "not an image (a web page)"),
    (b"just some text", "cannot be read"),
    (b"\x89PNG\r\n\x1a\n" + bytes(40), "cannot be read"),
    (b"GIF89a", "cannot be read"),
    (b"%PDF-1.4\n", "cannot be read"),
    (b"8BPS\x00\x01" + bytes(40), "cannot be read"),
])  # fmt: skip
def test_a_file_that_is_no_picture_is_named_with_its_kind(content, why, tmp_path):
    """x.png is empty, a Git LFS pointer, a web page, text, a cut header or a document: one line says which."""
    (tmp_path / "x.png").write_bytes(content)
    assert why in refused(tmp_path / "x.png")


@pytest.mark.fault(33)
@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "tif", "webp", "ppm"])
def test_a_truncated_picture_opens_and_is_refused(kind, tmp_path):
    """An image of each format is cut in half but opens: it is refused by its name, and no reader is set to ignore the
    damage.
    """
    file = io.BytesIO()
    picture(0, 64, 64).save(file, Image.registered_extensions()["." + kind])
    whole = file.getvalue()
    (tmp_path / f"x.{kind}").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refused(tmp_path / f"x.{kind}")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.fault(33)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_picture_met_in_mid_epoch_is_named(command, files, workers):
    """The header is valid but pixels are missing, with and without workers: training begins, then one line names the
    file.
    """
    name = late_picture(files / "paired" / "train")
    flags = [*PIX2PIX, "--num_threads", workers, "--serial_batches", "--print_freq", 1, "--fixed_samples", 0]
    ended = command("train", *flags)
    check(ended, 3, [f"image 'paired/train/{name}'", "cannot be read", "delete or replace it"])
    assert [line[:20] for line in ended.out.splitlines() if line[:1] == "("] == [
        f"(epoch: 1, iters: {i}," for i in range(1, 10)
    ]
    folder = files / "checkpoints" / "run"
    assert "Traceback" in (folder / "error.log").read_text() and "DataError" in (folder / "error.log").read_text()
    assert json.loads((folder / "exit.json").read_text()) == {"code": 3, "message": ended.last}
    ended = command("train", *flags, "--debug", "--overwrite")
    check(ended, 3, [f"paired/train/{name}"], debug=True)


@pytest.mark.fault(33)
def test_fixed_samples_leave_out_a_skipped_picture(forty_pairs, command, tmp_path):
    """The first of four fixed samples is truncated, --on_bad_image skip: the page shows the other three."""
    cut(forty_pairs / "00.png")
    flags = [flag for flag in FORTY if flag != "--no_html"]
    ended = command("train", *flags, "--on_bad_image", "skip", "--fixed_samples", 4, "--displays", "console,html")
    assert ended.code == 0 and "no samples" not in ended.out + ended.err, ended.err
    shown = (tmp_path / "checkpoints/run/web/samples").glob("epoch001_*_fake_B.png")
    assert sorted(path.name for path in shown) == [f"epoch001_{number}_fake_B.png" for number in (1, 2, 3)]


@pytest.mark.fault(33)
@pytest.mark.parametrize("threads", [0, 2])
def test_skipped_pictures_are_replaced_by_the_next_and_listed(forty_pairs, threads, capsys):
    """Three images are truncated, --on_bad_image skip, with and without workers: the next images replace them, and all
    three are listed.
    """
    for number in (7, 8, 39):
        cut(forty_pairs / f"{number:02d}.png")
    dataset = make("aligned", forty_pairs.parent, "--on_bad_image", "skip")
    got = epoch(dataset, threads)
    paths = sorted(os.path.basename(path) for batch in got for path in batch["path_A"])
    expected = [f"{n:02d}.png" for n in range(40) if n not in (7, 8, 39)] + ["09.png", "09.png", "00.png"]
    assert paths == sorted(expected)
    assert all("skipped" not in batch for batch in got), "models see nothing of it"
    lines = capsys.readouterr().out.splitlines()
    assert "note: 3 images could not be used in epoch 1:" in lines
    assert sum(bool(re.match(r".*train/(07|08|39)\.png: cannot be read", line)) for line in lines) == 3


@pytest.mark.fault(33)
@pytest.mark.parametrize("threads", [0, 2])
def test_more_than_a_few_skipped_pictures_end_the_run(forty_pairs, threads, capsys):
    """Six of 40 images are truncated (more than 1 % and more than a few) with --on_bad_image skip: exit 3 with their
    names.
    """
    for number in range(20, 26):
        cut(forty_pairs / f"{number:02d}.png")
    dataset = make("aligned", forty_pairs.parent, "--on_bad_image", "skip")
    with pytest.raises(DataError, match=r"\(and 5 more of 40 images\); .*skip accepts only a few"):
        epoch(dataset, threads)
    assert sum("cannot be read" in line for line in capsys.readouterr().err.splitlines()) == 6


@pytest.mark.fault(36)
def test_an_eps_named_png_is_refused_without_ghostscript(tmp_path, monkeypatch):
    """An EPS file is named x.png, which Pillow would pass to Ghostscript: it is refused, and no process is started."""
    children = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: children.append(args))
    file = io.BytesIO()
    picture(0).save(file, "EPS")
    (tmp_path / "x.png").write_bytes(file.getvalue())
    assert Image.open(tmp_path / "x.png").format == "EPS", "without the list of formats it would be opened"
    assert "cannot identify image file" in refused(tmp_path / "x.png")
    assert children == []


@pytest.mark.fault(40)
def test_a_picture_too_small_for_the_crop_is_named(command, files):
    """A pair is smaller than the crop, which is found in mid-epoch: exit 3 with the file, its size and --crop_size."""
    picture(1, 70, 30).save(files / "paired" / "train" / "4.png")
    ended = command("train", *PIX2PIX, "--preprocess", "crop", "--crop_size", 32, "--serial_batches")
    check(ended, 3, ["image 'paired/train/4.png'", "35x30", "--crop_size 32"])


@pytest.mark.fault(40)
def test_a_pair_one_pixel_wide_is_refused(tmp_path):
    """A file of A|B is one pixel wide: it is refused by its name."""
    save(picture(0, 1, 20), tmp_path / "train" / "x.png")
    assert str(tmp_path / "train" / "x.png") in refused_data("aligned", tmp_path)


@pytest.mark.fault(40)
def test_a_pair_of_odd_width_is_refused_unless_scaled(tmp_path):
    """A pair is 37 pixels wide, and its halves round to 16 and 20: it is refused with its name and width, but accepted
    if both are scaled to one size.
    """
    save(picture(0, 37, 20), tmp_path / "train" / "x.png")
    text = refused_data("aligned", tmp_path, "--preprocess", "none")
    assert str(tmp_path / "train" / "x.png") in text
    assert "37" in text
    got = sample(make("aligned", tmp_path, "--load_size", 32))
    assert got["A"].shape == got["B"].shape == (3, 32, 32)


@pytest.mark.fault(40)
def test_partners_of_other_sizes_are_listed(sides, command, tmp_path):
    """Two pairs have partners of different sizes: both files and sizes are listed, exit 3, before a write."""
    for number in (4, 17):
        save(picture(number, 52, 40), sides / "trainB" / f"{number:02d}.png")
    ended = command("train", *SIDES)
    assert ended.code == 3
    assert ended.err.splitlines() == [
        "data/trainA/04.png: is 48x40, but its partner data/trainB/04.png is 52x40",
        "data/trainA/17.png: is 48x40, but its partner data/trainB/17.png is 52x40",
        "error: image 'data/trainA/04.png': is 48x40, but its partner data/trainB/04.png is 52x40 (and 1 more of 30 "
        "images); delete or replace it, or use --on_bad_image skip",
    ]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(42)
def test_pictures_without_a_partner_are_listed(sides, command, tmp_path):
    """Fourteen images of trainA and trainB have no partner: the first ten are listed, the rest counted, exit 3."""
    for number in range(12):
        (sides / "trainB" / f"{number:02d}.png").unlink()
    (sides / "trainA" / "29.png").rename(sides / "trainA" / "x.png")
    ended = command("train", *SIDES)
    assert ended.code == 3
    lines = ended.err.splitlines()
    assert lines[:10] == [f"data/trainA/{n:02d}.png: has no partner in data/trainB" for n in range(10)]
    assert lines[10] == "... and 4 more"
    assert lines[11:] == [
        "error: pair 'data/trainA/00.png': has no partner in data/trainB (and 13 more among 30 + 18 images); "
        "use --model cycle_gan or --model cut (python train.py --model cycle_gan --dataroot data); "
        "otherwise give both sides images of the same names"
    ]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(42)
def test_partners_in_other_capitals_are_no_pair(sides):
    """X7.png and x7.PNG are not a pair, and the error names the other file."""
    (sides / "trainB" / "07.png").rename(sides / "trainB" / "x7.PNG")
    (sides / "trainA" / "07.png").rename(sides / "trainA" / "X7.png")
    with pytest.raises(DataError, match=r"trainA/X7.png.*no partner in .*trainB \(there is .*x7.PNG\)"):
        make("aligned", sides)


@pytest.mark.fault(43, 44)
def test_pipes_and_dangling_links_are_left_out(folder):
    """A pipe, a dangling link and a link to itself have names of images: they are skipped at once and never opened."""
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    assert names(folder) == ["a.JPG", "b.png", "sub/deep/c.tif"]


@pytest.mark.fault(43)
def test_an_unreadable_folder_is_refused_by_name(folder, monkeypatch):
    """A folder cannot be listed: it is refused with its name and the system's reason."""
    scandir = os.scandir

    def refuse(path):
        if path.endswith(b"sub/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"folder '.*/data/sub': cannot be read \(Permission denied\); check"):
        list_files(str(folder))


@pytest.mark.fault(43)
def test_files_that_go_while_they_are_listed_are_left_out(folder, monkeypatch):
    """A file is removed between the listing of its folder and the check of the file: it is skipped."""
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: (os.unlink(path) if path[-5:] == b"b.png" else 0, lstat(path))[1])
    assert names(folder) == ["a.JPG", "sub/deep/c.tif"]


@pytest.mark.fault(44)
def test_links_up_and_across_give_each_file_once(folder, tmp_path):
    """Links lead to the folder itself, to a sub-folder and twice to another folder: each real file is listed once."""
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "sub" / "deep" / "here").symlink_to(folder / "sub" / "deep")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "d.png").write_bytes(b"x")
    (folder / "one").symlink_to(tmp_path / "outside")
    (folder / "two").symlink_to(tmp_path / "outside")
    found = list_files(str(folder))
    assert sorted(os.path.basename(path) for path in found) == ["a.JPG", "b.png", "c.tif", "d.png"]
    assert len({os.path.realpath(path) for path in found}) == 4


@pytest.mark.fault(44)
def test_three_links_to_their_parent_are_followed_once(folder, monkeypatch):
    """Three links lead to their own parent, which makes 3^40 paths: each folder and each link is visited once."""
    looked, scandir = [], os.scandir
    for n in range(3):
        (folder / "sub" / f"up{n}").symlink_to(folder)

    def counted(path):
        looked.append(path)
        assert len(looked) < 100
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert names(folder) == ["a.JPG", "b.png", "sub/deep/c.tif"]
    assert len(looked) <= 4 + 3, "each folder, and each link once"


@pytest.mark.fault(44)
def test_a_picture_linked_beside_itself_counts_once(folder):
    """A link leads to an image in the same folder: the image counts once."""
    (folder / "again.png").symlink_to(folder / "b.png")
    assert len({os.path.realpath(path) for path in list_files(str(folder))}) == len(list_files(str(folder))) == 3


HOSTILE = [
    "a#b", "a%20b", "100%", "what?", "a&b;&lt;", "it's", 'say "hi"', "<script>alert(1)<", "<img src=x onerror=y>",
    "new\nline", "tab\tbed", "\x1b[2Jclear", "  blanks  ", "-x", "--name", "back\\slash", "a.b.c", "CON", "real_A",
    "javascript:alert(1)", "a+b=c,d;e", "$HOME `id`", "e\u0301", "ünïcödé 名前 🍎",
]  # fmt: skip


@pytest.mark.fault(46)
def test_hostile_file_names_give_a_result_each(tested, tmp_path):
    """File names contain #, %, ?, quotes, tags, line breaks or escapes: each input has a result, and the links to the
    results work.
    """
    (tmp_path / "data").mkdir()
    for i, name in enumerate(HOSTILE):
        picture(i, 32, 32).save(tmp_path / "data" / f"{name}.png")
    done = tested("--name", "cyc", "--model", "test", "--model_suffix", "_A", "--dataroot", tmp_path / "data")
    assert set(os.listdir(done.images)) == {f"{name}_{label}.png" for name in HOSTILE for label in ("real", "fake")}
    page = check_page(done.page)
    assert sorted(page.texts["h3"]) == sorted(name.strip() for name in HOSTILE)
    assert "\x1b" not in done.out
    for i, name in enumerate(HOSTILE):
        assert np.array_equal(pixels(done.images / f"{name}_real.png"), np.asarray(picture(i, 32, 32)))


@pytest.mark.fault(46)
def test_names_that_are_no_utf8_are_tested_and_shown(tested, tmp_path):
    """A file name is not valid UTF-8: the image is tested and shown."""
    (tmp_path / "data").mkdir()
    picture(1, 32, 32).save(tmp_path / "ok.png")
    try:
        os.rename(tmp_path / "ok.png", os.fsencode(tmp_path / "data") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes no names that are not UTF-8")
    done = tested("--name", "cyc", "--model", "test", "--model_suffix", "_A", "--dataroot", tmp_path / "data")
    assert len(list(done.images.iterdir())) == 2
    assert len(Page(done.page).images) == 2


@pytest.mark.fault(46)
def test_the_longest_names_are_shortened_and_none_is_lost(tested, tmp_path):
    """File names have 255 bytes, and results add their label: names are shortened, and no result is lost."""
    (tmp_path / "data").mkdir()
    for name in ("a" * 251, "b" * 245, "é" * 125):
        picture(1, 32, 32).save(tmp_path / "data" / f"{name}.png")
    done = tested("--name", "cyc", "--model", "test", "--model_suffix", "_A", "--dataroot", tmp_path / "data")
    assert len(pictures(done.images)) == 6
    check_page(done.page)


@pytest.mark.fault(46, 47)
def test_names_that_some_disks_take_for_one_get_a_result_each(tested, tmp_path):
    """Names differ only in capitals or in the encoding of an accent: each has its own result, with a name that
    differs in more than these.
    """
    for i, (place, name) in enumerate((("a", "\u00e9"), ("b", "e\u0301"), ("a", "Straße"), ("b", "STRASSE"))):
        (tmp_path / "data" / place).mkdir(parents=True, exist_ok=True)
        picture(i, 32, 32).save(tmp_path / "data" / place / f"{name}.png")
    done = tested("--name", "cyc", "--model", "test", "--model_suffix", "_A", "--dataroot", tmp_path / "data")
    names = [unicodedata.normalize("NFC", name).casefold() for name in pictures(done.images)]
    assert len(set(names)) == len(names) == 8
    check_page(done.page)


COLLIDING = [
    "1.png",
    "1.bmp",
    "a/1.png",
    "b/1.png",
    "b/1.bmp",
    "b/c/1.png",
    "c/b/1.png",
    "b/1.tif",
    "x/b/1.png",
    "2.png",
]


@pytest.mark.fault(47)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_equal_stems_give_a_result_each(tested, tmp_path, batch_size):
    """Inputs are 1.png, 1.bmp, a/1.png, b/1.png, ...: each has its own result with any batch size, and none replaces
    another.
    """
    for i, name in enumerate(COLLIDING):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, 32, 32).save(path)
    done = tested(
        "--name",
        "cyc",
        "--model",
        "test",
        "--model_suffix",
        "_A",
        "--dataroot",
        tmp_path / "data",
        "--batch_size",
        batch_size,
    )
    found = pictures(done.images)
    assert len(found) == 2 * len(COLLIDING)
    page = check_page(done.page)
    assert len(set(page.texts["h3"])) == len(COLLIDING)
    real = [array.tobytes() for name, array in found.items() if name.endswith("_real.png")]
    assert sorted(real) == sorted(np.asarray(picture(i, 32, 32)).tobytes() for i in range(len(COLLIDING)))
    for name, fake in found.items():  # and each translation lies beside its own input
        if name.endswith("_fake.png"):
            assert not np.array_equal(fake, found[name.replace("_fake", "_real")])
    assert f"{len(COLLIDING)} images" in done.out


FOLDERS = {  # what is done to data/trainA, what is said of it
    "empty": (lambda p: None, "holds no files; expected images in trainA"),
    "missing": (lambda p: p.rmdir(), "there is no such folder (data has 'trainB'); expected images in trainA"),
    "no pictures": (lambda p: (p / "a.txt").touch(), "holds no images, but 1 other file such as 'a.txt'; expected"),
    "hidden files": (lambda p: (p / ".a.png").touch(), "holds no images, but 1 other file such as '.a.png'; expected"),
    "a space": (lambda p: p.rename(str(p) + " "), "there is no such folder (data has 'trainA ', 'trainB'); expected"),
}


@pytest.mark.fault(41)
@pytest.mark.parametrize("case", FOLDERS)
def test_folders_without_pictures_are_refused(case, command, tmp_path):
    """trainA is empty, missing, holds other or hidden files, or is named 'trainA ': exit 3 with what exists and what is
    expected.
    """
    for side in "AB":
        (tmp_path / "data" / f"train{side}").mkdir(parents=True)
    picture(1).save(tmp_path / "data" / "trainB" / "1.png")
    spoil, said = FOLDERS[case]
    spoil(tmp_path / "data" / "trainA")
    ended = command("train", *SMALL, "--model", "cycle_gan", "--dataroot", "data")
    assert ended.code == 3 and ended.err.count("\n") == 1
    assert ended.last.startswith(f"error: folder 'data/trainA': {said}")
    assert "see --dataroot, --phase and --dataset_mode" in ended.last and not (tmp_path / "checkpoints").exists()


@pytest.mark.fault(42)
def test_unpaired_sides_may_differ_in_number(unpaired):
    """A has five images and B four, unpaired: this is allowed and one line says so; an epoch has the larger number."""
    dataset = make("unaligned", unpaired)
    assert dataset.notes == ["unpaired: trainA + trainB, 5 + 4 images"] and len(dataset) == 5


@pytest.mark.fault(42)
def test_names_that_differ_in_capitals_alone_are_flagged(unpaired):
    """X.png and x.png are in one folder: a note, because other systems treat them as one file."""
    for name in ("X.png", "x.png"):
        picture(1).save(unpaired / "trainA" / name)
    notes = make("unaligned", unpaired).notes
    assert len(notes) == 2 and notes[1].endswith("trainA/X.png and another file differ only in letter case")


@pytest.mark.fault(43)
def test_a_file_that_goes_after_it_was_listed_is_named(forty_pairs, command):
    """An image is removed after the listing, or is unreadable: one line names it, and nothing hangs."""
    dataset = make("aligned", forty_pairs.parent)
    (forty_pairs / "07.png").unlink()
    with pytest.raises(DataError, match=r"image '.*07\.png': cannot be read \(No such file or directory\); delete"):
        epoch(dataset)
    with pytest.raises(DataError, match=r"image '.*07\.png': cannot be read \(No such file or directory\)"):
        dataset.spec()


@pytest.mark.fault(43)
def test_a_picture_on_a_failing_disk_is_named(forty_pairs, monkeypatch):
    """Reads fail with EIO or ESTALE: the error names the image and the system's reason."""
    dataset = make("aligned", forty_pairs.parent)
    opened = Image.open
    for number, code in ((3, 5), (4, 116)):

        def failing(file, *args, code=code, number=number, **more):
            if file.name.endswith(f"{number:02d}.png"):
                raise OSError(code, os.strerror(code), file.name)
            return opened(file, *args, **more)

        monkeypatch.setattr(Image, "open", failing)
        with pytest.raises(DataError, match=rf"{number:02d}\.png': cannot be read \(.*{os.strerror(code)}"):
            epoch(dataset)


@pytest.mark.fault(44)
def test_a_link_to_a_large_tree_is_followed_once(tmp_path):
    """Folders link to each other in a ring, at two depths: each file is listed once, in bounded time."""
    for name in "abc":
        (tmp_path / "d" / name / "deep").mkdir(parents=True)
        (tmp_path / "d" / name / "deep" / f"{name}.png").write_bytes(b"x")
    for one, other in ("ab", "bc", "ca"):
        (tmp_path / "d" / one / "deep" / "next").symlink_to(tmp_path / "d" / other)
    assert sorted(os.path.basename(path) for path in list_files(str(tmp_path / "d"))) == ["a.png", "b.png", "c.png"]


MEASURE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from benchmarks.many_files import measure_dataset
print(json.dumps(measure_dataset("unaligned", sys.argv[2], [])))
"""


@pytest.mark.fault(45)
def test_a_million_files_take_little_memory(full, tmp_path, record_property):
    """A million images (short form: 20,000): each adds less than 200 bytes of memory, and workers do not grow."""
    from benchmarks.many_files import write_files

    number = 1_000_000 if full else 20_000
    found = {}
    for count in (10, number):
        write_files(tmp_path / str(count), count)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(ROOT), str(tmp_path / str(count) / "train")],
            capture_output=True,
            text=True,
            check=True,
        )
        found[count] = json.loads(done.stdout.splitlines()[-1]) | {"whole": time.monotonic() - began}
    shutil.rmtree(tmp_path / str(number))
    more = {name: found[number][name] - found[10][name] for name in found[10]}
    record_property(f"{number:,} files: seconds until the first batch", f"{found[number]['whole']:.0f}")
    record_property(f"{number:,} files: MB more than for ten files", f"{more['peak']:.0f}")
    assert more["peak"] < (200 if full else 20), "16 MB of it are threads' and allocators' own"
    assert more["worker"] < 2


@pytest.mark.fault(45)
def test_pictures_in_many_nested_folders_are_found(full, tmp_path):
    """10,000 folders (short form: 1,000) are nested as deep as a path can be, with names of 255 bytes: all images are
    found.
    """
    for number in range(10_000 if full else 1_000):
        (tmp_path / "wide" / f"{number:05d}").mkdir(parents=True)
        (tmp_path / "wide" / f"{number:05d}" / "1.png").write_bytes(b"x")
    deep = tmp_path / "deep"
    deep.mkdir()
    while len(str(deep)) < 3_500:
        deep = deep / "d"
        deep.mkdir()
    (deep / ("n" * 251 + ".png")).write_bytes(b"x")
    found = list_files(str(tmp_path))
    assert len(found) == (10_001 if full else 1_001)
    assert os.path.isfile(found[0]) and list(found) == sorted(found)
    subprocess.run(["rm", "-r", tmp_path / "deep"], check=True)  # Python's own way fails at such a depth


@pytest.mark.fault(33)
def test_a_test_names_all_images_that_it_cannot_read(forty_pairs, command):
    """A truncated image and a text that is named .png: test.py ends with both in one message, and no file of a
    folder that it does not read.
    """
    assert command("train", *FORTY, "--max_dataset_size", 2).code == 0
    cut(forty_pairs / "07.png")
    (forty_pairs / "30.png").write_text("not an image")
    (forty_pairs.parent / "other").mkdir()
    (forty_pairs.parent / "other" / "1.png").write_text("not an image")
    ended = command("test", "--name", "run", "--phase", "train")
    assert ended.code == 3 and "07.png': cannot be read" in ended.last and "(and 1 more below data/train)" in ended.last
    assert "30.png: cannot be read" in ended.err and ended.err.count("07.png") == 2
