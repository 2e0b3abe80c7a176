"""Published data sets of label maps are read as they are: every --layout, in training and in tests."""

import numpy as np
import pytest
from PIL import Image

from options.parse import parse
from registry.lookup import find
from util.errors import DataError, OptionError

INST, LABEL = "_gtFine_instanceIds.png", "_gtFine_labelIds.png"
CITY = {"gtFine/{}/a/a_{}_0" + INST: "inst", "gtFine/{}/a/a_{}_0" + LABEL: "label",
        "gtFine/{}/a/a_{}_0_gtFine_color.png": "img", "leftImg8bit/{}/a/a_{}_0_leftImg8bit.png": "img"}  # fmt: skip
IN_FOLDERS = {f"{{}}_{kind}/{{}}.png": kind for kind in ("label", "inst", "img")}
FILES = {  # {a file, with its phase and its number: its kind}; files to leave out among them
    "coco": IN_FOLDERS,
    "facades": {name: kind for name, kind in IN_FOLDERS.items() if kind != "inst"},
    "ade20k": {"images/x/ADE_{}_{}.jpg": "img", "annotations/y/ADE_{}_{}.png": "label"},
    "cityscapes": CITY,
    "custom": {"maps {}/{}.png": "label", "photos {}/{}.png": "img"},
}
UNKNOWN = {"coco": 255, "ade20k": 0}  # in files; the other ids of ADE20K are one more


def save(path, kind, number, unknown, first):
    """Save a map whose right half has the class 1 + number; a photograph is as bright as that class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.full((40, 40), unknown, np.uint8)
    ids[:, 20:] = first + 1 + number
    image = np.stack([(ids - first) * 50] * 3, -1) if kind == "img" else ids
    Image.fromarray(image).save(path)


@pytest.fixture(params=FILES)
def mode(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = int(request.param == "ade20k")
    for phase in ("train", "val"):
        for number in range(3 if phase == "train" else 2):
            for name, kind in FILES[request.param].items():
                save(tmp_path / name.format(phase, number), kind, number, UNKNOWN.get(request.param, 0), first)
    return request.param


def dataset(mode, phase="train", *argv):
    small = ["--load_size", "16", "--crop_size", "16", "--preprocess", "resize", "--no_flip", "--gpu_ids", "-1"]
    folder = "train" if phase == "train" else "val"
    named = ["--label_dir", f"maps {folder}", "--image_dir", f"photos {folder}", "--no_instance"]
    where = named if mode == "custom" else ["--dataroot", "."]
    o = parse(["--model", "spade", "--dataset_mode", mode, *where, *small, *argv], phase)
    return find("dataset", o.dataset_mode)(o)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_files_of_a_layout_belong_together(mode, phase):
    data = dataset(mode, phase)
    assert len(data) == (3 if phase == "train" else 2)
    for number in range(len(data)):
        sample = data[number]
        assert set(sample["A"][0, :, 8:].unique().tolist()) == {1 + number}
        left = {"coco": 182, "ade20k": 150}.get(mode, 0)
        assert set(sample["A"][0, :, :8].unique().tolist()) == {left}, "unknown pixels are the last class"
        brightness = (sample["B"][:, :, 10:].mean() + 1) * 127.5
        assert abs(float(brightness) - 50 * (1 + number)) < 5
        assert ("instance" in sample) == (mode in ("coco", "cityscapes"))


def test_portraits_are_for_training_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("train_{}", "train_{}_portrait", "val_{}", "val_{}_portrait"):
        for kind in ("label", "img"):
            save(tmp_path / folder.format(kind) / f"{len(folder)}.png", kind, 0, 255, 0)
    assert len(dataset("coco", "train", "--no_instance")) == 2
    assert len(dataset("coco", "train", "--no_instance", "--coco_no_portraits")) == 1
    assert len(dataset("coco", "test", "--no_instance")) == 1


def test_a_missing_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="gtFine/train"):
        dataset("cityscapes")
    with pytest.raises(OptionError, match="--label_dir"):
        dataset("custom", "train", "--label_dir", "")
