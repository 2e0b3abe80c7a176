"""Several inputs are stacked to A, each with its own channels and range, alike in every layout and storage."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data.names.inputs import Input, format_inputs, numbered_inputs, parse_inputs
from options.store import fill_from_dataset
from registry import discovery
from tests.support.data_folders import epoch, flags, load, make, sample, save
from tests.support.training_runs import plugin_files
from util.errors import DataError, OptionError

PLAIN = ("--preprocess", "none", "--no_flip")
NUMBER = {"A1": 1, "A2": 2, "A3": 3, "B": 4}


def values(side, number, size=(32, 24)):
    """Return the pixels of one image: A1 and B are in colours, A2 is a mask, A3 has 16 bits."""
    rng = np.random.default_rng([NUMBER[side], number])
    width, height = size
    if side == "A2":
        return (rng.random((height, width)) > 0.5).astype(np.uint8) * 255
    if side == "A3":
        return rng.integers(0, 65536, (height, width)).astype(np.uint16)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def expected(side, number):
    """Return the tensor of one image that is neither scaled nor cropped."""
    array = values(side, number)
    greatest = np.iinfo(array.dtype).max
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy((array / greatest * 2 - 1).astype(np.float32))


def write(root, layout="sides", sides=("A1", "A2", "A3", "B"), count=3, phase="train"):
    """Write images in one of the layouts; return the dataroot."""
    places = {"sides": "{phase}{side}", "nested": "{side}/{phase}", "undivided": "{side}"}
    place = places.get(layout, places["sides"])
    names = [f"{number}.png" for number in range(count)]
    folders = {side: place.format(phase=phase, side=side) for side in sides}
    for side, folder in folders.items():
        for number, name in enumerate(names):
            save(Image.fromarray(values(side, number)), root / folder / name)
    if layout not in ("csv", "jsonl"):
        return root
    rows = [{side.lower(): f"{folder}/{name}" for side, folder in folders.items()} for name in names]
    file = root / f"pairs.{layout}"
    if layout == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)))
    else:
        with open(file, "w", newline="") as text:
            writer = csv.DictWriter(text, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return root


def refused(error, root, *argv, mode="aligned", **how):
    with pytest.raises(error) as caught:
        make(mode, root, *argv, **how).spec()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("layout", ["sides", "nested", "undivided", "csv", "jsonl"])
def test_inputs_are_found_counted_and_stacked(layout, packed, tmp_path):
    """Each layout gives A1 (colours), A2 (a mask), A3 (16 bits) as one A of 5 channels, value by value."""
    root = write(tmp_path / "data", layout)
    if packed:
        root = shutil.make_archive(str(root), "zip", root)
    split = ["--split", 0.999] if layout == "undivided" else []
    dataset = make("aligned", root, *PLAIN, *split)
    spec = dataset.spec()
    assert (spec.input_nc, spec.output_nc, spec.inputs) == (5, 3, "A1:3,A2:1,A3:1")
    assert spec.range_A == ";;uint16"
    assert "inputs: A1 (3 channels) + A2 (1 channel) + A3 (1 channel) = A of 5 channels" in dataset.notes
    assert len(dataset) == 3
    for number in range(3):
        got = sample(dataset, number)
        assert list(got) == ["A", "B", "path_A", "path_B"]
        stack = torch.cat([expected(side, number) for side in ("A1", "A2", "A3")])
        assert torch.allclose(got["A"], stack, atol=1e-6) and torch.allclose(got["B"], expected("B", number), atol=1e-6)
        assert got["path_A"].endswith(f"A1/train/{number}.png" if layout == "nested" else f"A1/{number}.png")


def test_the_flag_chooses_inputs_their_order_and_their_channels(tmp_path):
    root = write(tmp_path)
    dataset = make("aligned", root, *PLAIN, "--inputs", "A3,A1:1")
    assert dataset.spec().inputs == "A3:1,A1:1"
    grey = np.asarray(Image.fromarray(values("A1", 0)).convert("L"))
    A = sample(dataset)["A"]
    assert torch.allclose(A[:1], expected("A3", 0), atol=1e-6)
    assert np.array_equal(((A[1] + 1) / 2 * 255).round().numpy(), grey)


def test_inputs_of_any_name(tmp_path):
    root = write(tmp_path)
    for old, new in (("A1", "photo"), ("A2", "_mask")):
        (root / f"train{old}").rename(root / f"train{new}")
    dataset = make("aligned", root, *PLAIN, "--inputs", "photo, _mask")
    assert dataset.spec().inputs == "photo:3,_mask:1"
    assert "inputs: A1 = photo (3 channels) + A2 = _mask (1 channel) = A of 4 channels" in dataset.notes


@pytest.mark.parametrize(
    "words",
    [
        ["--preprocess", "crop", "--crop_size", 8],
        ["--preprocess", "resize_and_crop", "--load_size", 12, "--crop_size", 8],
        ["--preprocess", "crop", "--crop_size", 16, "--augment", "rotation(40) random_perspective(0.4, p=1)"],
        ["--preprocess", "crop", "--crop_size", 8, "--interpolation_A", "nearest", "--interpolation_B", "nearest"],
    ],
    ids=["crop", "resize", "augment", "nearest"],
)
@pytest.mark.parametrize("cache", ["off", "ram"])
def test_all_inputs_and_b_get_the_same_geometry(words, cache, tmp_path):
    """Equal images in three folders stay equal, whatever is drawn; a grey copy of another depth too."""
    image = Image.fromarray(values("A1", 0))
    grey = np.asarray(image.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for side, each in (("A1", image), ("A2", image), ("A3", deep), ("B", image)):
        save(each, tmp_path / f"train{side}" / "0.png")
    dataset = make("aligned", tmp_path, *words, "--cache", cache, "--inputs", "A1:1,A2:1,A3", "--output_nc", 1)
    dataset.spec()
    seen = []
    for draw in range(6):
        got = sample(dataset, draw=draw)
        A = got["A"]
        assert torch.equal(A[0], A[1]) and torch.equal(A[0], got["B"][0])
        assert torch.allclose(A[0], A[2], atol=0.012)  # 8 bits are rounded after scaling and augmentation
        seen.append(A)
    assert any(not torch.equal(seen[0], other) for other in seen[1:])


def test_interpolation_of_a_holds_for_each_input(tmp_path):
    root = write(tmp_path)
    words = ("--preprocess", "resize", "--load_size", 50, "--no_flip", "--inputs", "A1,A2")
    nearest = sample(make("aligned", root, *words, "--interpolation_A", "nearest"))["A"][3]
    assert set(nearest.unique().tolist()) == {-1.0, 1.0}
    assert len(sample(make("aligned", root, *words))["A"][3].unique()) > 2


def test_each_input_has_its_own_range(tmp_path):
    """Measured for each, and given for each; a remembered range is used as it is."""
    for name, low, high in (("A1", 0, 255), ("A2", 100, 4000), ("A3", -5, 7)):
        array = np.linspace(low, high, 64, dtype=np.float32).reshape(8, 8)
        array = array.astype({"A1": np.uint8, "A2": np.uint16, "A3": np.float32}[name])
        (tmp_path / f"train{name}").mkdir()
        np.save(tmp_path / f"train{name}" / "0.npy", array)
    (tmp_path / "trainB").mkdir()
    np.save(tmp_path / "trainB" / "0.npy", np.zeros((8, 8, 3), np.uint8))
    dataset = make("aligned", tmp_path, *PLAIN, "--range_A", ";auto;")
    spec = dataset.spec()
    assert spec.range_A == ";100,4000 uint16;-5,7 float32"
    A = sample(dataset)["A"]
    assert A.amin((1, 2)).tolist() == pytest.approx([-1, -1, -1]) and A.amax((1, 2)).tolist() == pytest.approx([1] * 3)
    again = make("aligned", tmp_path, *PLAIN, "--range_A", spec.range_A)
    assert again.spec().range_A == spec.range_A and torch.equal(sample(again)["A"], A)
    said = refused(OptionError, tmp_path, *PLAIN, "--range_A", "0,1;0,2")
    assert "--range_A" in said and "2 ranges for 3 inputs" in said


def test_workers_and_batches_of_several_inputs(tmp_path):
    root = write(tmp_path, count=6)
    words = ("--preprocess", "resize_and_crop", "--load_size", 20, "--crop_size", 16)
    here, there = (epoch(make("aligned", root, *words), threads=threads) for threads in (0, 2))
    assert [batch["A"].shape for batch in here] == [(4, 5, 16, 16), (2, 5, 16, 16)]
    assert all(torch.equal(one["A"], two["A"]) for one, two in zip(here, there, strict=True))


def test_the_sheet_of_the_data_shows_each_input(tmp_path):
    dataset = make("aligned", write(tmp_path, count=2), *PLAIN)
    fill_from_dataset(dataset.o, dataset.spec())
    sheet = load(dataset).preview_grid(2)
    assert sheet.shape[0] // 26 == 4  # rows of A1, A2, A3 and B, with a margin of 2
    assert np.array_equal(sheet[:24, :32], values("A1", 0)) and np.array_equal(sheet[26:50, :32, 0], values("A2", 0))


CHANNELS = {  # what a file holds -> its channels
    "1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3, "CMYK": 3, "I;16": 1, "F.tif": 1, "hw.npy": 1, "hwc5.npy": 5,
    "c6hw.npy": 6, "rgba.npy": 3, "bands4.tif": 4, "bands7.tif": 7,
    "pages3.tif": 3, "pages5.tif": 5, "8 bits, pages3": 1, "8 bits, pages5": 5,
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANNELS)
def test_channels_are_counted_for_every_kind_of_file(kind, tmp_path):
    """Transparency is no channel, as with 1 or 3 channels everywhere."""
    import tifffile

    write(tmp_path, sides=("A1", "B"), count=1)
    folder = tmp_path / "trainA2"
    folder.mkdir()
    shapes = {"hw.npy": (24, 32), "hwc5.npy": (24, 32, 5), "c6hw.npy": (6, 24, 32), "rgba.npy": (24, 32, 4)}
    if kind in shapes:
        np.save(folder / "0.npy", np.ones(shapes[kind], np.uint8))
    elif "pages" in kind:
        pages = int(kind.removesuffix(".tif")[-1])
        array = np.arange(pages * 24 * 32).reshape(pages, 24, 32).astype(np.uint8 if kind[0] == "8" else np.uint16)
        tifffile.imwrite(folder / "0.tif", array, photometric="minisblack")
    elif kind.endswith(".tif"):
        bands = 1 if kind[0] == "F" else int(kind[5])
        array = np.ones((24, 32, bands), np.float32 if kind[0] == "F" else np.uint16).squeeze()
        planes = "contig" if bands > 1 else None
        tifffile.imwrite(folder / "0.tif", array, photometric="minisblack", planarconfig=planes)
    elif kind == "CMYK":
        Image.new(kind, (32, 24)).save(folder / "0.jpg")
    else:
        Image.new(kind, (32, 24)).save(folder / "0.png")
    dataset = make("aligned", tmp_path, *PLAIN)
    spec = dataset.spec()
    assert spec.inputs == f"A1:3,A2:{CHANNELS[kind]}" and spec.input_nc == 3 + CHANNELS[kind]
    assert len(sample(dataset)["A"]) == spec.input_nc


def test_grey_and_colour_files_of_an_input_become_colours(tmp_path):
    root = write(tmp_path)
    Image.new("RGB", (32, 24)).save(root / "trainA2" / "1.png")
    assert make("aligned", root, *PLAIN, "--inputs", "A1,A2").spec().inputs == "A1:3,A2:3"
    np.save(root / "trainA3" / "2.npy", np.ones((24, 32, 5), np.uint8))
    (root / "trainA3" / "2.png").unlink()
    said = refused(DataError, root, *PLAIN)
    assert "input 'A3'" in said and "1 and 5 channels" in said and "2.npy" in said


MISTAKES = {  # flags -> what the error says
    "BtoA": (["--direction", "BtoA"], ["--direction", "A1, A2, A3 are inputs"]),
    "channels": (["--input_nc", 3], ["--input_nc", "A1:3,A2:1,A3:1 have 5 channels"]),
    "missing": (["--inputs", "A1,A4"], ["trainA4", "--inputs A1,A2,A3"]),
    "twice": (["--inputs", "A1,a1"], ["--inputs", "a1 twice"]),
    "empty": (["--inputs", "A1,,A2"], ["--inputs", "A1:3,A2:1"]),
    "no number": (["--inputs", "A1:x"], ["--inputs", "A1:3,A2:1"]),
    "B": (["--inputs", "A1,B"], ["--inputs", "'B' is not an input"]),
    "joined": (["--inputs", "A1,A2", "--pairs", "joined"], ["--pairs", "in a folder each"]),
    "ranges": (["--range_A", "0,1;0,2"], ["--range_A", "3 inputs"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_answered_in_one_line(case, tmp_path):
    words, said = MISTAKES[case]
    text = refused((OptionError, DataError), write(tmp_path), *PLAIN, *words)
    assert all(part in text for part in said), text


@pytest.mark.parametrize("mode", ["unaligned", "single", "labeled", "colorization"])
def test_data_sets_of_one_input_refuse_the_flag(mode, tmp_path):
    said = refused(OptionError, write(tmp_path), "--inputs", "A1,A2", mode=mode)
    assert "--inputs" in said and "--dataset_mode aligned" in said


def test_unpaired_data_with_several_inputs_name_the_model(tmp_path):
    said = refused(DataError, write(tmp_path), mode="unaligned")
    assert "--model pix2pix" in said and "A1 and A2 and A3" in said


def test_a_missing_partner_names_the_input(tmp_path):
    root = write(tmp_path / "folders")
    (root / "trainA2" / "1.png").unlink()
    assert "trainA1/1.png" in (said := refused(DataError, root)) and "has no partner in " in said
    assert f"{root}/trainA2" in said
    root = write(tmp_path / "manifest", "csv")
    text = (root / "pairs.csv").read_text()
    (root / "pairs.csv").write_text(text.replace("trainA2/1.png", ""))
    assert "has no partner in column a2" in refused(DataError, root)
    (root / "pairs.csv").write_text(text.replace("trainA3/1.png", "gone.png"))
    assert "gone.png" in (said := refused(DataError, root)) and "column a3, row 2" in said


@pytest.mark.parametrize("side", ["A2", "A3", "B"])
def test_an_input_of_another_size_is_refused_with_both_files(side, tmp_path):
    root = write(tmp_path)
    Image.fromarray(values(side, 1, (16, 16))).save(root / f"train{side}" / "1.png")
    said = refused(DataError, root, "--preprocess", "resize", "--load_size", 16, "--crop_size", 16)
    assert "trainA1/1.png" in said and f"train{side}/1.png" in said and "16x16" in said
    with pytest.raises(DataError, match=f"train{side}/1.png"):  # test.py checks no headers
        sample(make("aligned", root, *PLAIN), 1)


def test_a_plain_a_goes_before_numbered_ones_with_a_note(tmp_path):
    root = write(tmp_path)
    (root / "trainA1").rename(root / "trainA")
    dataset = make("aligned", root, *PLAIN)
    spec = dataset.spec()
    assert spec.input_nc == 3 and spec.inputs == ""
    assert any("A2, A3 are not used; --inputs A,A2,A3 " in note for note in dataset.notes)
    assert make("aligned", root, *PLAIN, "--inputs", "A,A2,A3").spec().input_nc == 5


def test_names_and_numbers_of_inputs():
    assert parse_inputs("A1, A2:4") == (Input("A1", 0), Input("A2", 4)) and parse_inputs("") == ()
    assert format_inputs(parse_inputs("x:1,y:2")) == "x:1,y:2"
    names = ["trainA10", "trainA2", "trainA", "trainB", "trainA01", "testA3"]
    assert numbered_inputs(names, "train") == ("A2", "A10") and numbered_inputs(names) == ()


# --- data sets that choose their channels themselves

SIX = """
import torch
from data.base import BaseDataset

class Six(BaseDataset):
    paired = True
    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files()
    def __len__(self):
        return len(self.paths)
    def __getitem__(self, index):
        path = self.paths[index]
        B = self.preprocess(self.read(path, 3), path, self.preprocess.draw())
        return {"A": torch.cat([B, -B]), "B": B[:2], "path_A": path, "path_B": path}
"""


def test_a_plug_in_that_gives_six_channels_is_counted(tmp_path, tables_as_they_were):
    write(tmp_path, sides=("B",))
    with plugin_files(tmp_path, six=SIX) as folder:
        discovery.add_paths([str(folder / "six.py")])
        dataset = make("six", tmp_path / "trainB", *PLAIN)
        spec = dataset.spec()
        assert (spec.input_nc, spec.output_nc) == (6, 2)
        assert any("--input_nc is 6" in note for note in dataset.notes)
        assert make("six", tmp_path / "trainB", *PLAIN, "--input_nc", 6).spec().input_nc == 6
        for flag, given, right in (("--input_nc", 3, 6), ("--output_nc", 3, 2)):
            said = refused(OptionError, tmp_path / "trainB", *PLAIN, flag, given, mode="six")
            assert said.startswith(f"option '{flag}'") and f"{flag} {right}" in said and "plug-in" not in said


def test_the_flags_follow_what_the_data_set_counts(tmp_path):
    o = flags("--dataset_mode", "aligned", "--dataroot", write(tmp_path), *PLAIN)
    fill_from_dataset(o, make("aligned", tmp_path, *PLAIN).spec())
    assert (o.input_nc, o.output_nc, o.inputs) == (5, 3, "A1:3,A2:1,A3:1")


@pytest.mark.parametrize("layout", ["sides", "nested", "csv"])
def test_check_data_takes_several_inputs_for_pairs(layout, script, tmp_path):
    root = write(tmp_path / "data", layout)
    ended = script("check_data", "--dataroot", root)
    assert ended.code == 0 and "as aligned: 3 samples in train" in ended.out, ended.err
    assert "A of 5 channels" in ended.out
