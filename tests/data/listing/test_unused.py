"""Files that are not used are counted in one line, and are named where a partner is missing."""

import os
import shutil
import subprocess
import sys

import pytest

from data.listing.files import list_files
from data.listing.unused import unused_notes
from tests.support.data_folders import make, save
from tests.support.images import picture
from tests.support.runs import ROOT, SMALL
from util.errors import DataError

# names of files that hold images, but are not listed as images
OTHER_NAMES = ["x.jfif", "x.jpe", "x.HEIC", "x.avif", "x", "x.jpg.download", "x.png.crdownload", "x.jpg~", "x.jpg (1)",
               "x.jp2", "x.dcm", "x.mat", "x.mp4", "x.zip"]  # fmt: skip
COMPANIONS = ["x.txt", "labels.json", "README.md", "list.csv", "Thumbs.db", "desktop.ini", ".DS_Store", "._x.jpg"]


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(3).save(path, "JPEG")


def notes(dataset):
    return [note for note in dataset.file_notes() if "not used" in note]


def storages(folder):
    """Return the folder, and a zip file of the same content."""
    return [folder, shutil.make_archive(str(folder), "zip", folder)]


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_every_kind_of_unused_file_is_counted_with_an_example(name, tmp_path):
    save(picture(1), tmp_path / "d" / "trainA" / "1.png")
    save(picture(1), tmp_path / "d" / "trainB" / "2.png")
    put(tmp_path / "d" / "trainB" / "deep" / name)
    put(tmp_path / "d" / "trainB" / f"y{os.path.splitext(name)[1]}")
    for root in storages(tmp_path / "d"):
        dataset = make("unaligned", root)
        assert (len(dataset.paths_A), len(dataset.paths_B)) == (1, 1)
        kind = os.path.splitext(name)[1].lower() or "without an extension"
        assert notes(dataset) == [
            f"note: 2 files are not used (2 {kind}), such as '{root}/trainB/deep/{name}': only names with the "
            "extension of an image are read; rename JPEGs to .jpg, convert other images to PNG"
        ]


@pytest.mark.parametrize(("mode", "phase"), [("unaligned", "trainA"), ("aligned", "train"), ("labeled", "train/cat")])
def test_images_inside_a_folder_of_images_are_noted(mode, phase, tmp_path):
    """Thumbnails, for one. Folders without images beside them are a way of sorting, and get no note."""
    sorted_class = ("train/dog/1", "train/dog/2") if mode == "labeled" else ()
    for place in (phase, "trainB", *sorted_class):
        for n in range(3):
            save(picture(n, 64, 32), tmp_path / "d" / place / f"{n}.png")
    for n in range(2):
        save(picture(n, 16, 8), tmp_path / "d" / phase / "thumbs" / f"{n}.png")
    for root in storages(tmp_path / "d"):
        said = [note for note in make(mode, root).file_notes() if "folders inside" in note]
        where = f"{root}/{phase}"
        assert said == [
            f"note: 2 of the 5 images of '{where}' are in folders inside, the others are not: all are used; move away "
            f"those that you do not mean, such as '{where}/thumbs/0.png'"
        ]


def test_one_note_for_all_classes_names_the_fewer_images(tmp_path):
    for name in "abc":
        for place in (name, f"{name}/1", f"{name}/2"):
            save(picture(1), tmp_path / "d" / place / "x.png")
    (said,) = [note for note in make("labeled", tmp_path / "d").file_notes() if "folders inside" in note]
    where = tmp_path / "d"
    assert said.startswith(f"note: 6 of the 9 images of '{where}/a' and 2 more are in folders inside")
    assert said.endswith(f"such as '{where}/a/x.png'")


@pytest.mark.parametrize("name", COMPANIONS)
def test_what_lies_beside_images_everywhere_gets_no_note(name, tmp_path):
    save(picture(1), tmp_path / "d" / "train" / "1.png")
    put(tmp_path / "d" / "train" / name)
    for root in storages(tmp_path / "d"):
        assert not notes(make("aligned", root))


def test_one_line_speaks_of_all_classes_and_kinds(tmp_path):
    for name in "abc":
        save(picture(1), tmp_path / "train" / name / "1.png")
        for end in ("heic", "heic", "jfif", "avif", "jxl")[: 2 + ord(name) - ord("a") + 1]:
            put(tmp_path / "train" / name / f"{name}{end}.{end}")
    found = notes(make("labeled", tmp_path))
    assert len(found) == 1
    assert "note: 9 files are not used (3 .heic, 3 .jfif, 2 .avif, ...), such as " in found[0]


def test_images_beside_the_folders_of_classes_are_counted(tmp_path):
    for name in ("a/1.png", "b/1.png", "stray.png", "another.jpg", "notes.txt"):
        save(picture(1), tmp_path / "d" / "train" / name) if name[-3:] != "txt" else put(tmp_path / "d/train" / name)
    for root in storages(tmp_path / "d"):
        assert [note for note in make("labeled", root).notes if "another.jpg" in note] == [
            f"note: images in no folder of a class are not used (2, such as '{root}/train/another.jpg')"
        ]


def test_links_to_nothing_are_counted(tmp_path):
    save(picture(1), tmp_path / "d" / "1.png")
    for n in range(3):
        (tmp_path / "d" / f"gone{n}.jpg").symlink_to(tmp_path / "nowhere" / f"{n}.jpg")
    assert notes(make("single", tmp_path / "d")) == [
        f"note: 3 files are not used, such as '{tmp_path}/d/gone0.jpg': links to files that do not exist; "
        "restore these files"
    ]
    (tmp_path / "d" / "1.png").unlink()
    with pytest.raises(DataError, match=r"holds no images, but 3 links to nothing such as 'gone0.jpg'"):
        make("single", tmp_path / "d")


@pytest.mark.parametrize("place", ["1.heic", "deep/1.heic"])
def test_a_folder_of_other_files_only_says_so(place, tmp_path):
    put(tmp_path / "d" / "trainA" / place)
    save(picture(1), tmp_path / "d" / "trainB" / "1.png")
    for root in storages(tmp_path / "d"):
        with pytest.raises(DataError, match=f"trainA': holds no images, but 1 other file such as '{place}'"):
            make("unaligned", root)


@pytest.mark.parametrize(("there", "said"), [
    ("trainB/1.heic", "1.heic, not read because of its extension)"),
    ("trainB/1", "1, not read because of its extension)"),
    ("trainB/1.jfif", "1.jfif, not read because of its extension)"),
    ("trainB/1.png.download", "1.png.download, not read because of its extension)"),
    ("trainB/1.txt", "1.txt, not read because of its extension)"),
    ("trainB/deep/1.png", "deep/1.png)"),
    ("trainB/deep/1.PNG", "deep/1.PNG)"),
    ("else/9.png", ""),
])  # fmt: skip
def test_a_missing_partner_is_looked_for_by_its_stem(there, said, tmp_path):
    for side in "AB":
        save(picture(0), tmp_path / "d" / f"train{side}" / "0.png")
    save(picture(1), tmp_path / "d" / "trainA" / "1.png")
    put(tmp_path / "d" / there)
    for root in storages(tmp_path / "d"):
        with pytest.raises(DataError) as caught:
            make("aligned", root, "--pairs", "sides")
        text = str(caught.value)
        assert f"pair '{root}/trainA/1.png': has no partner in {root}/trainB" in text
        assert (f" (there is {root}/trainB/" in text) == bool(said) and said in text


def test_a_partner_that_is_a_link_is_named(tmp_path):
    for side in "AB":
        save(picture(0), tmp_path / f"train{side}" / "0.png")
    save(picture(1), tmp_path / "trainA" / "1.png")
    (tmp_path / "trainB" / "1.png").symlink_to(tmp_path / "trainB" / "0.png")
    with pytest.raises(DataError, match=r"1.png, a link to an image that is used already"):
        make("aligned", tmp_path)
    (tmp_path / "trainB" / "1.png").unlink()
    (tmp_path / "trainB" / "1.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"1.png, a link to nothing"):
        make("aligned", tmp_path)


def test_the_commands_say_it_once(tmp_path, command):
    for phase in ("train", "test"):
        for side in "AB":
            save(picture(1, 32, 32), tmp_path / "d" / (phase + side) / "1.png")
            put(tmp_path / "d" / (phase + side) / "2.heic")
    ended = command("train", *SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--dataroot", tmp_path / "d",
                    "--n_epochs", 2, "--n_epochs_decay", 0, "--name", "x")  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.out.count("note: 2 files are not used (2 .heic), such as ") == 1
    ended = command("test", "--name", "x")
    assert ended.code == 0, ended.err
    assert ended.out.count("note: 2 files are not used (2 .heic), such as ") == 1 and "testA/2.heic" in ended.out
    argv = [sys.executable, ROOT / "scripts/check_data.py", "--dataroot", tmp_path / "d"]
    checked = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert checked.stdout.count("2 files are not used") == 2


def test_a_listing_keeps_what_it_left_out(tmp_path):
    save(picture(1), tmp_path / "1.png")
    put(tmp_path / "b.heic")
    put(tmp_path / "a.heic")
    paths = list_files(str(tmp_path))
    assert paths.unused == paths.take([0]).unused == b"a.heic\0b.heic\0"
    assert not unused_notes([(paths.root, paths[:1].unused)])
