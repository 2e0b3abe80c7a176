"""Four layouts of pairs give the same batches, missing images are named, and splits are stable."""

import contextlib
import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.data_folders import SIDES, channels_first, load, make, pixels, save
from tests.support.images import picture
from util.errors import DataError, OptionError

COUNT = {"train": 6, "test": 3, "val": 2}


def pair(phase, number):
    """Two pictures of one size that are not alike."""
    seed = 10 * number + list(COUNT).index(phase)
    return picture(seed), picture(500 + seed)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def build(kind, root):
    """Write the same pairs in a layout, one of each phase in a sub-folder; return the folder."""
    rows = []
    for phase, count in COUNT.items():
        for number in range(count):
            name = f"{'sub/' * (number == 2)}n{number}"
            A, B = pair(phase, number)
            if kind == "joined":
                both = np.concatenate([np.asarray(A), np.asarray(B)], axis=1)
                save(Image.fromarray(both), root / phase / f"{name}.png")
                continue
            places = {"sides": (f"{phase}A", f"{phase}B"), "nested": (f"A/{phase}", f"B/{phase}")}
            a, b = places.get(kind, (f"of_{phase}", f"targets/{phase}_of"))
            save(A, root / a / f"{name}.png")
            save(B, root / b / f"{name}.bmp")  # extensions may differ
            rows.append({"A": f"{a}/{name}.png", " B ": f"{b}/{name}.bmp", "Split": phase})
    rows.reverse()  # their order is not the samples'
    if kind == "csv":
        with open(root / "pairs.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "json":
        (root / "pairs.json").write_text(json.dumps(rows))
    elif kind == "jsonl":
        (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


KINDS = ["joined", "sides", "nested", "csv", "json", "jsonl"]


@pytest.fixture(params=KINDS)
def layout(request, tmp_path):
    """The pairs in each of the layouts: (kind, dataroot)."""
    return request.param, build(request.param, tmp_path / request.param)


FLAGS = ("--load_size", 40, "--crop_size", 32, "--batch_size", 2)


def batches(dataset, epoch=3):
    return [(batch["A"], batch["B"]) for batch in load(dataset, shuffle=True).epoch(epoch)]


@pytest.mark.parametrize("phase", COUNT)
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_every_layout_gives_the_same_batches(direction, phase, tmp_path):
    """Pixels, crops, flips and order, with A and B not exchanged."""
    got = {}
    for kind in KINDS:
        root = build(kind, tmp_path / kind)
        dataset = make("aligned", root, *FLAGS, "--direction", direction, phase=phase)
        assert len(dataset) == COUNT[phase]
        got[kind] = batches(dataset)
    for found in got.values():
        assert len(found) == -(-COUNT[phase] // 2)
        for one, other in zip(found, got["joined"], strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert not torch.equal(*got["joined"][0])
    plain = make("aligned", tmp_path / "sides", "--direction", direction, "--preprocess", "none", "--no_flip")
    A, B = pair("train", 0) if direction == "AtoB" else pair("train", 0)[::-1]
    assert (pixels(plain[0]["A"]) == channels_first(A)).all() and (pixels(plain[0]["B"]) == channels_first(B)).all()


def test_paths_are_those_of_the_real_files(layout):
    kind, root = layout
    for direction in ("AtoB", "BtoA"):
        dataset = make("aligned", root, "--direction", direction)
        for index in range(len(dataset)):
            one = dataset[index]
            assert os.path.isfile(one["path_A"]) and os.path.isfile(one["path_B"])
            assert (one["path_A"] == one["path_B"]) == (kind == "joined")
            if kind != "joined":
                assert one["path_A"].endswith(".png" if direction == "AtoB" else ".bmp")


def test_what_was_found_is_said_in_one_line(layout):
    kind, root = layout
    said = make("aligned", root).notes
    assert len(said) == 1
    assert (
        said[0]
        == {
            "joined": "pairs: train, 6 files of A|B, halves of 48x40",
            "sides": "pairs: trainA + trainB, 6 pairs by name",
            "nested": f"pairs: {os.path.join('A', 'train')} + {os.path.join('B', 'train')}, 6 pairs by name",
            "csv": f"pairs: {root}/pairs.csv, 6 pairs",
            "json": f"pairs: {root}/pairs.json, 6 pairs",
            "jsonl": f"pairs: {root}/manifest.jsonl, 6 pairs",
        }[kind]
    )


def test_a_layout_can_be_asked_for(layout):
    kind, root = layout
    how = {"csv": "pairs.csv", "json": root / "pairs.json", "jsonl": "manifest.jsonl"}.get(kind, kind)
    assert len(make("aligned", root, "--pairs", how)) == 6
    for other in {"joined", "sides", "nested"} - {kind}:
        with pytest.raises(DataError, match="there is no such folder"):
            make("aligned", root, "--pairs", other)
    with pytest.raises(OptionError, match="neither joined, sides, nested nor the name of a file"):
        make("aligned", root, "--pairs", "beside")


def test_the_references_layout_wins_over_others_and_is_told(tmp_path):
    for place in ("train", "trainA", "trainB"):
        save(picture(1, 80, 40), tmp_path / place / "1.png")
    assert make("aligned", tmp_path).notes == [
        "pairs: train, 1 file of A|B, halves of 40x40 (--pairs sides would use other files)"
    ]
    assert "trainA + trainB" in make("aligned", tmp_path, "--pairs", "sides").notes[0]
    (tmp_path / "train" / "1.png").unlink()
    assert "trainA + trainB" in make("aligned", tmp_path).notes[0], "an empty folder hides nothing"
    (tmp_path / "pairs.csv").write_text("a,b\ntrainA/1.png,trainB/1.png\n")
    assert make("aligned", tmp_path).notes == [
        f"pairs: {tmp_path}/pairs.csv, 1 pair, for every phase (it has no column split)"
    ]


# --- what does not fit ----------------------------------------------------------------------------------------------


def test_partners_are_found_where_extensions_change_the_order(tmp_path):
    """a.jpg comes before a.k.jpg, a.png after a.k.png."""
    for side, end in (("A", "jpg"), ("B", "png")):
        for name in ("a", "a.k"):
            save(picture(1), tmp_path / f"train{side}" / f"{name}.{end}")
    dataset = make("aligned", tmp_path)
    assert [os.path.basename(path) for path in dataset.paths] == ["a.jpg", "a.k.jpg"]
    assert [os.path.basename(path) for path in dataset.partners] == ["a.png", "a.k.png"]


def test_two_files_of_one_name_are_no_pair(sides):
    save(picture(3), sides / "trainA" / "03.jpg")
    save(picture(3), sides / "trainB" / "03.jpg")
    with pytest.raises(DataError, match=r"trainA/03.jpg.*only in its extension \(and 1 more"):
        make("aligned", sides)


def test_partners_are_measured_as_their_cameras_held_them(sides):
    """Stored lying and turned by EXIF, a picture is as high as its partner."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(4).transpose(Image.Transpose.ROTATE_90).save(sides / "trainB" / "04.png", exif=exif)
    assert make("aligned", sides).spec().width == 32


def test_a_test_names_both_files_of_other_sizes(sides):
    save(picture(4, 52, 40), sides / "trainB" / "04.png")
    with pytest.raises(DataError, match=r"trainA/04.png': is 48x40, but its partner .*trainB/04.png is 52x40"):
        make("aligned", sides)[4]


def test_joined_is_no_layout_of_unpaired_pictures(sides):
    with pytest.raises(OptionError, match="--pairs"):
        make("unaligned", sides, "--pairs", "joined")


# --- unpaired pictures ----------------------------------------------------------------------------------------------


def test_unaligned_takes_nested_folders_and_manifests(tmp_path):
    for number in range(4):
        save(picture(number), tmp_path / "A" / "train" / f"{number}.png")
    for number in range(2):
        save(picture(50 + number), tmp_path / "B" / "train" / f"other{number}.png")
    nested = make("unaligned", tmp_path)
    assert nested.notes == ["unpaired: A/train + B/train, 4 + 2 images"]
    rows = ["a,b"] + [f"A/train/{n}.png," for n in range(4)] + [f",B/train/other{n}.png" for n in range(2)]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    table = make("unaligned", tmp_path, "--pairs", "list.csv")
    for one, other in ((table.paths_A, nested.paths_A), (table.paths_B, nested.paths_B)):
        assert list(map(os.path.abspath, one)) == list(other)
    with pytest.raises(DataError, match=r"A/train/0.png': has no partner .*\(and 5 more"):
        make("aligned", tmp_path, "--pairs", "list.csv")


def test_a_hint_where_every_picture_has_a_partner(tmp_path):
    for side, number in (("A", 1), ("A", 2), ("B", 1), ("B", 2)):
        save(picture(number), tmp_path / f"train{side}" / f"{number}.{'png' if side == 'A' else 'jpg'}")
    hints = [note for note in make("unaligned", tmp_path).notes if note.startswith("hint: ")]
    assert len(hints) == 1 and "--dataset_mode aligned" in hints[0]
    (tmp_path / "trainB" / "2.jpg").rename(tmp_path / "trainB" / "3.jpg")
    assert not any("hint" in note for note in make("unaligned", tmp_path).notes)


# --- manifests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text", "said"), [
    ("x.csv", "left,right\n1,2\n", "has no column a and no column b (it has left, right)"),
    ("x.csv", "", "it has no rows"),
    ("x.json", "[1, 2]", "is not a row of named columns"),
    ("x.json", "[{\"a\": ", "cannot be read as a table"),
    ("x.json", "[" * 100_000, "cannot be read as a table"),
    ("x.jsonl", "{\"a\": 1}\n{", "cannot be read as a table"),
    ("x.csv", b"a,b\n\xff\xfe\x00,1\n", "cannot be read as a table"),
    ("x.csv", "a,b\n1.png,nowhere.png\n", "does not exist (row 1 of"),
    ("x.csv", "a,b\n,\n", "names no file in row 1"),
    ("x.csv", "a,b,split\n1.png,1.png,test\n", "has no rows for it (its column split has test)"),
])  # fmt: skip
def test_manifests_that_cannot_be_used_are_refused_in_one_line(name, text, said, tmp_path):
    save(picture(1), tmp_path / "1.png")
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        make("aligned", tmp_path, "--pairs", name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_may_name_files_in_any_folder(tmp_path):
    save(picture(1), tmp_path / "here" / "1.png")
    save(picture(2), tmp_path / "data" / "sub" / "a\\b.png")
    save(picture(3), tmp_path / "else" / "3.png")
    rows = [
        "b , A",
        f"1.png,{tmp_path}/else/3.png",
        " sub/a\\b.png,1.png",
        "../data\\sub\\..\\..\\here/1.png,sub/a\\b.png",
    ]
    (tmp_path / "here" / "t.csv").write_text("\ufeff" + "\n".join(rows))
    dataset = make("aligned", tmp_path / "data", "--pairs", tmp_path / "here" / "t.csv")
    found = [[os.path.relpath(p, tmp_path) for p in paths] for paths in (dataset.paths, dataset.partners)]
    assert sorted(zip(*found, strict=True)) == [
        ("data/sub/a\\b.png", "here/1.png"),
        ("else/3.png", "here/1.png"),
        ("here/1.png", "data/sub/a\\b.png"),
    ]


def test_labels_come_from_a_manifest(tmp_path):
    rows = ["a,label,split"]
    for number, label in enumerate(["cat", "dog", "cat", "eel"]):
        save(picture(number), tmp_path / "all" / f"{number}.png")
        rows.append(f"all/{number}.png,{label},{'training' if number < 3 else 'test'}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    dataset = make("labeled", tmp_path)
    assert dataset.classes == ("cat", "dog")
    got = [(os.path.basename(dataset[i]["path_A"]), dataset[i]["label"]) for i in range(len(dataset))]
    assert got == [("0.png", 0), ("1.png", 1), ("2.png", 0)]
    (tmp_path / "pairs.csv").write_text("a,label\nall/0.png,cat\nall/1.png,\n")
    with pytest.raises(DataError, match=r"all/1.png': has no label"):
        make("labeled", tmp_path)


def test_a_manifest_is_a_dataroot_too(tmp_path):
    save(picture(1), tmp_path / "d" / "1.png")
    (tmp_path / "d" / "x.csv").write_text("a,b\n1.png,1.png\n")
    assert len(make("aligned", tmp_path / "d" / "x.csv")) == 1


# --- a folder that is not divided -----------------------------------------------------------------------------------


def spread(root, mode, share=0.7):
    """Return {phase: names} of a data set that is divided by --split."""
    found = {}
    for phase in ("train", "test", "val"):
        dataset = make(mode, root, "--split", share, phase=phase)
        paths = [dataset.paths_A, dataset.paths_B] if mode == "unaligned" else [dataset.paths]
        found[phase] = [{os.path.relpath(path, root) for path in side} for side in paths]
    return found


@pytest.mark.parametrize("mode", ["aligned", "unaligned", "colorization"])
def test_a_share_of_a_folder_trains_and_pictures_keep_their_part(mode, tmp_path):
    folders = ["A", "B"] if mode == "unaligned" else ["."]
    for folder in folders:
        for number in range(60):
            save(picture(number % 5, 4, 4), tmp_path / "d" / folder / f"{number}.png")
    before = spread(tmp_path / "d", mode)
    for train, test, val in zip(*before.values(), strict=True):
        assert test == val and not train & test and len(train | test) == 60
        assert 30 < len(train) < 54
    for folder in folders:
        for number in range(60, 90):
            save(picture(1, 4, 4), tmp_path / "d" / folder / f"{number}.png")
    after = spread(tmp_path / "d", mode)
    for phase in before:
        assert all(old < new for old, new in zip(before[phase], after[phase], strict=True))
    train, test = (spread(tmp_path / "d", mode, 0.5)[phase][0] for phase in ("train", "test"))
    assert train < after["train"][0], "a smaller share only takes some away"
    moved = shutil.move(tmp_path / "d", tmp_path / "elsewhere")
    assert spread(moved, mode) == after


def test_pairs_of_two_folders_are_divided_together(tmp_path):
    for side in "AB":
        for number in range(40):
            save(picture(number, 4, 4), tmp_path / side / f"{number}.{'png' if side == 'A' else 'bmp'}")
    dataset = make("aligned", tmp_path, "--split", 0.5)
    assert 10 < len(dataset) < 30
    assert "A + B" in dataset.notes[0] and "the part of train (--split 0.5)" in dataset.notes[0]
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"A/{n}.png,B/{39 - n}.bmp" for n in range(40)))
    parts = [make("aligned", tmp_path, "--pairs", "t.csv", "--split", 0.5, phase=p) for p in ("train", "test")]
    assert len(parts[0]) + len(parts[1]) == 40
    assert not {*parts[0].paths} & {*parts[1].paths}


@pytest.mark.parametrize(("mode", "folders"), [("aligned", ["."]), ("aligned", ["A", "B"]), ("unaligned", ["A", "B"]),
                                               ("colorization", ["."])])  # fmt: skip
def test_an_undivided_folder_is_refused_naming_the_split_flag(mode, folders, tmp_path):
    for folder in folders:
        save(picture(1), tmp_path / "d" / folder / "1.png")
    with pytest.raises(DataError, match=r"not divided into phases.*; (if so, )?use --split 0\.9"):
        make(mode, tmp_path / "d")


OTHER_ROOTS = {  # mode, folders with images, --dataroot below tmp_path -> the advice
    "the folder above": (
        "unaligned",
        ("d/trainA", "d/trainB"),
        "d/trainA",
        "give --dataroot {}/d, the folder above it",
    ),
    "the folder of pairs": ("aligned", ("d/train",), "d/train", "give --dataroot {}/d, the folder above it"),
    "a folder below": ("unaligned", ("o/d/trainA", "o/d/trainB"), "o", "give --dataroot {}/o/d"),
    "two folders below": ("aligned", ("o/x/d/trainA", "o/x/d/trainB"), "o", "give --dataroot {}/o/x/d"),
}


@pytest.mark.parametrize("case", OTHER_ROOTS)
def test_advice_about_another_root_can_be_followed(case, tmp_path):
    mode, folders, root, advice = OTHER_ROOTS[case]
    for folder in folders:
        save(picture(1), tmp_path / folder / "1.png")
    advice = advice.format(tmp_path)
    with pytest.raises(DataError) as caught:
        make(mode, tmp_path / root)
    assert str(caught.value).endswith("; " + advice)
    assert len(make(mode, advice.split()[2].rstrip(","))) == 1


def test_one_side_is_no_advice_for_another_layout(tmp_path):
    """colorization reads train: the folder above trainA does not help, a split does."""
    for number in range(20):
        save(picture(1, 8, 8), tmp_path / "d" / "trainA" / f"{number}.png")
    with pytest.raises(DataError, match=r"use --split 0\.9"):
        make("colorization", tmp_path / "d" / "trainA")
    assert len(make("colorization", tmp_path / "d" / "trainA", "--split", 0.9)) > 10
    with pytest.raises(DataError, match="unaligned needs images of two kinds: put them into trainA and trainB"):
        make("unaligned", tmp_path / "d" / "trainA")


def test_a_share_that_leaves_nothing_is_refused(tmp_path):
    save(picture(1), tmp_path / "d" / "1.png")
    found = {"train": 1, "test": 1}
    for phase in found:
        with contextlib.suppress(DataError):
            make("aligned", tmp_path / "d", "--split", 0.5, phase=phase)
            continue
        found[phase] = 0
    lacking = min(found, key=found.__getitem__)
    assert sorted(found.values()) == [0, 1]
    with pytest.raises(DataError, match=f"phase '{lacking}': --split 0.5 leaves none of 1 image for it; use another"):
        make("aligned", tmp_path / "d", "--split", 0.5, phase=lacking)


def test_folders_of_phases_go_before_a_share(paired):
    assert len(make("aligned", paired, "--split", 0.5)) == 5


def test_a_run_from_two_folders_trains_and_is_tested(sides, command):
    """The line is printed once, also where a validation phase is looked for; test.py finds the same layout."""
    shutil.copytree(sides / "trainA", sides / "testA")
    shutil.copytree(sides / "trainB", sides / "testB")
    ended = command("train", *SIDES, "--n_epochs", 1, "--n_epochs_decay", 0, "--max_dataset_size", 2, "--name", "run")
    assert ended.code == 0, ended.err
    assert ended.out.count("pairs: trainA + trainB, 30 pairs by name") == 1
    ended = command("test", "--name", "run", "--num_test", 3)
    assert ended.code == 0, ended.err
    assert "pairs: testA + testB, 30 pairs by name" in ended.out
