"""Files on disk, in a zip file and in `demo` are found in few calls, and answer the same questions."""

import os
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.listing.demo import Demo, draw_image
from data.listing.disk import Disk
from data.listing.files import find_storage
from data.listing.layouts import find_sides
from data.listing.zips import Zip
from tests.support.data_folders import flags, make
from tests.support.images import picture

ROOT = Path(__file__).resolve().parents[2]
LAYOUT_FOLDERS = {"joined": ["train"], "sides": ["trainA", "trainB"], "nested": ["A/train", "B/train"]}
JUNK = [".DS_Store", "trainA/.hidden.png", "trainA/notes.txt", "trainB/.secret/1.png", "empty/.only/1.png"]


def build(root, layout):
    """Write two images into each folder of a layout."""
    for folder in LAYOUT_FOLDERS[layout]:
        for number in range(2):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture(number).save(root / folder / f"{number}.png")
    return root


def pack(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return target


def make_dataset(place, layout, folder):
    """Return the dataroot of a small dataset on disk, in a zip file, in `demo`, or named by a manifest."""
    if place == "demo":
        return "demo"
    root = build(folder / "data", layout)
    if place == "manifest":
        first, second = LAYOUT_FOLDERS[layout]
        (root / "pairs.csv").write_text(f"a,b\n{first}/0.png,{second}/0.png\n")
    return str(pack(root, folder / "data.zip") if place == "zip" else root)


SEARCHES = [
    ("disk", "joined", "aligned"), ("disk", "sides", "aligned"), ("disk", "nested", "aligned"),
    ("disk", "sides", "unaligned"), ("zip", "joined", "aligned"), ("zip", "sides", "aligned"),
    ("zip", "sides", "unaligned"), ("demo", "", "aligned"), ("demo", "", "unaligned"),
    ("manifest", "sides", "aligned"), ("manifest", "sides", "unaligned"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "layout", "mode"), SEARCHES)
def test_a_search_enters_at_most_twelve_functions(place, layout, mode, tmp_path, monkeypatch):
    """Functions of this repository, from the search for the two sides on; comprehensions belong to their function."""
    monkeypatch.chdir(tmp_path)
    dataroot = make_dataset(place, layout, tmp_path)
    o = flags("--dataroot", dataroot, "--dataset_mode", mode)
    calls: Counter = Counter()

    def count(frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{ROOT}/") and "/.venv/" not in code.co_filename:
            calls[f"{os.path.relpath(code.co_filename, ROOT)}: {code.co_qualname}"] += code.co_name[0] != "<"

    sys.setprofile(count)
    try:
        sides = find_sides(o, dataroot, mode == "aligned")
    finally:
        sys.setprofile(None)
    entered = [f"{number:4} {name}" for name, number in calls.items() if number]
    assert all(len(paths) for paths in sides.paths) and "data/listing/layouts.py: find_sides" in calls
    assert len(entered) <= 12, "\n".join([f"{len(entered)} functions, {calls.total()} calls:", *entered])


def test_a_zip_file_answers_as_the_folder_does(tmp_path):
    """Hidden files are no images, and a folder of hidden files alone is none; a hidden folder may be asked for."""
    root = build(tmp_path / "data", "sides")
    for name in JUNK:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    packed = pack(root, tmp_path / "data.zip")
    on_disk, zipped = find_storage(str(root)), find_storage(str(packed))
    assert isinstance(on_disk, Disk) and isinstance(zipped, Zip)
    for below in ("", "trainA", "trainB", "trainB/.secret", "nowhere"):
        folder, inside = os.path.join(root, below), os.path.join(packed, below)
        found, expected = zipped.list_images(inside), on_disk.list_images(folder)
        assert [os.path.relpath(p, packed) for p in found] == [os.path.relpath(p, root) for p in expected]
        assert found.sizes.tolist() == expected.sizes.tolist()
        assert zipped.entry_type(inside) == on_disk.entry_type(folder)
    assert zipped.list_folders(str(packed)) == ["trainA", "trainB"] and zipped.entry_type(f"{packed}/empty") == ""
    for name in ("trainA/0.png", "trainA/.hidden.png"):
        assert zipped.entry_type(f"{packed}/{name}") == on_disk.entry_type(f"{root}/{name}") == "file"
        assert zipped.open(f"{packed}/{name}").read() == (root / name).read_bytes()
    status = os.stat(packed)
    assert zipped.size_and_mtime(f"{packed}/trainA/0.png") == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize("path", ["demo/trainA/0003.png", "demo/test/0000.png", "demo/train/cone/0001.png"])
def test_demo_images_are_png_files_of_the_same_pixels(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = find_storage(path)
    assert isinstance(storage, Demo) and storage.size_and_mtime(path) == (0, 0)
    with storage.open(path) as file, Image.open(file) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.asarray(draw_image(path)))
    assert path in set(storage.list_images(os.path.dirname(path)))
    os.makedirs("demo/trainA")
    assert isinstance(find_storage(path), Disk), "a real folder takes precedence"


def test_a_manifest_in_a_zip_file_is_a_dataroot(tmp_path):
    packed = make_dataset("zip", "sides", tmp_path)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("mine.csv", "a,b\ntrainA/0.png,trainB/1.png\n")
    dataset = make("aligned", f"{packed}/mine.csv")
    assert [*dataset.paths, *dataset.partners] == [f"{packed}/trainA/0.png", f"{packed}/trainB/1.png"]
