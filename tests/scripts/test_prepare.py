"""scripts/combine_A_and_B, make_aligned, split and prepare_cityscapes pair and split images, and report problems."""

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.aligned import Aligned
from data.prepare import batch, lossless
from data.prepare.pairs import list_images
from data.transforms import to_tensor
from tests.support.images import picture
from tests.support.packages import marks, needs
from tests.support.runs import ROOT, options
from util.errors import DataError

COMBINE = ("combine_A_and_B", "--fold_A", "A", "--fold_B", "B", "--fold_AB", "AB")
BATCH = {  # the least command line of every script that writes files, and what it writes
    "combine_A_and_B": (COMBINE[1:], "AB"),
    "make_aligned": (("--dataset-path", "set"), "set/train"),
    "split": (("--input", "A", "--output", "parts", "--group", "(.+)"), "parts"),  # train and test are mixed
    "resize": (("--input", "A", "--output", "small", "--size", "8"), "small"),
    "edges": (("--input", "A", "--output", "drawn"), "drawn"),
    "prepare_cityscapes": (("--gtFine_dir", "gt", "--leftImg8bit_dir", "left", "--output_dir", "city"), "city"),
}
SCRIPTS = [*BATCH, "check_data"]


def cases(*names):
    """Return parameters of scripts; edges is skipped without scikit-image."""
    return [pytest.param(name, marks=marks("skimage") if name == "edges" else ()) for name in names]


def save(folder, *names, start=0, **size):
    for number, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(start + number, **size).save(path)


def files(folder):
    """Every file below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """In the current folder: A, B, set/trainA, set/trainB, gt and left with enough for every script."""
    monkeypatch.chdir(tmp_path)
    save("A", *(f"train/{i}.png" for i in range(10)), "test/deep/x.png")
    save("B", *(f"train/{i}.png" for i in range(10)), "test/deep/x.png", start=50)
    save("set", "trainA/1.png", "trainA/2.png", "trainB/1.png", "trainB/2.png")
    for phase in ("train", "val"):
        for i in range(2):
            save(f"gt/{phase}/ulm", f"ulm_{i}_gtFine_color.png", start=i, width=64, height=32)
            save(f"left/{phase}/ulm", f"ulm_{i}_leftImg8bit.png", start=9 + i, width=64, height=32)
    return tmp_path


# combine_A_and_B


def test_combined_pairs_give_the_tensors_of_their_sources(script, sources):
    ended = script(*COMBINE)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["11 pairs: 1 in test, 10 in train", "11 written to AB"]
    assert files("AB") == files("A")
    o = options("--dataroot", "AB", "--preprocess", "none", "--no_flip", "--model", "pix2pix")
    for phase, count in (("train", 10), ("test", 1)):
        o.phase = phase
        dataset = Aligned(o)
        assert len(dataset) == count
        for sample in map(dataset.__getitem__, range(count)):
            for side in "AB":
                source = Path(side, Path(sample["path_A"]).relative_to("AB"))
                assert torch.equal(sample[side], to_tensor(Image.open(source))), source


def test_one_after_the_other_and_at_most_so_many_of_each_folder(script, sources):
    ended = script(*COMBINE, "--num_imgs", 3, "--no_multiprocessing")
    assert ended.code == 0, ended.err
    assert files("AB") == ["test/deep/x.png", "train/0.png", "train/1.png", "train/2.png"]


def test_folders_without_phases_and_other_extensions(script, sources):
    save("flat/A", "a.png", "b.bmp")
    save("flat/B", "a.bmp", "b.png")
    ended = script("combine_A_and_B", "--fold_A", "flat/A", "--fold_B", "flat/B", "--fold_AB", "AB")
    assert ended.code == 0, ended.err
    assert files("AB") == ["a.png", "b.png"]
    assert "note: pix2pix reads the sub-folder train; scripts/split.py splits" in ended.out


@pytest.mark.parametrize(("names", "flags"), [
    (("1_A.png", "2_A.png", "1_B.png", "2_B.png", "other.png"), ("--use_AB",)),  # one folder for both
    (None, ("--use_AB",)),
    (None, ()),  # found by looking
])  # fmt: skip
def test_names_that_end_in_a_and_b_are_partners(script, sources, names, flags):
    if names:
        save("both/train", *names)
        folders = ("both", "both")
    else:
        save("fa/train", "1_A.png", "2_A.png")
        save("fb/train", "2_B.png", "1_B.png", start=2)
        folders = ("fa", "fb")
    ended = script("combine_A_and_B", "--fold_A", folders[0], "--fold_B", folders[1], "--fold_AB", "AB", *flags)
    assert ended.code == 0, ended.err
    assert files("AB") == ["train/1.png", "train/2.png"]
    left = np.asarray(Image.open("AB/train/1.png"))[:, :48]
    assert np.array_equal(left, np.asarray(Image.open(f"{folders[0]}/train/1_A.png")))


def test_missing_partners_are_listed_and_nothing_is_written(script, sources):
    for i in range(12):
        save("A", f"train/more{i:02}.png")
    os.remove("A/train/3.png")
    ended = script(*COMBINE)
    assert ended.code == 3 and not Path("AB").exists()
    first = ", ".join(f"train/more{i:02}" for i in range(10))
    assert ended.last == (
        f"error: folders 'A and B': 12 of 22 images of A have no partner: {first} and 2 more; "
        "1 of 11 images of B have no partner: train/3; give partners equal names, or skip "
        "the others with --allow_missing"
    )
    ended = script(*COMBINE, "--allow_missing")
    assert ended.code == 0 and len(files("AB")) == 10


def test_folders_that_share_no_name_are_always_refused(script, sources):
    save("C", "train/z.png")
    ended = script("combine_A_and_B", "--fold_A", "A", "--fold_B", "C", "--fold_AB", "AB", "--allow_missing")
    assert ended.code == 3 and "have no partner" in ended.last


def test_several_pictures_of_one_name_are_refused(script, sources):
    save("A", "train/3.bmp")
    ended = script(*COMBINE)
    assert ended.code == 3 and "hold several images with the same name: train/3; rename" in ended.last


def test_sizes_that_differ_are_listed_or_matched_on_request(script, sources):
    save("B", "train/4.png", "train/7.png", width=24, height=20)
    ended = script(*COMBINE)
    assert ended.code == 3 and not Path("AB").exists()
    assert "2 of 11 differ in size: train/4 (48x40 and 24x20), train/7 (48x40 and 24x20); " in ended.last
    ended = script(*COMBINE, "--resize", "nearest")
    assert ended.code == 0, ended.err
    wanted = Image.open("B/train/4.png").resize((48, 40), Image.Resampling.NEAREST)
    assert np.array_equal(np.asarray(Image.open("AB/train/4.png"))[:, 48:], np.asarray(wanted))
    ended = script(*COMBINE, "--resize", "--overwrite")
    assert ended.code == 0, ended.err
    wanted = Image.open("B/train/4.png").resize((48, 40), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(Image.open("AB/train/4.png"))[:, 48:], np.asarray(wanted))


@pytest.mark.parametrize(("A", "B", "flags", "name"), [
    ("x.jpg", "x.jpg", (), "x.jpg"), ("x.jpg", "x.png", (), "x.png"), ("x.bmp", "x.bmp", (), "x.png"),
    ("x.jpg", "x.jpg", ("--format", "png"), "x.png"), ("x.png", "x.png", ("--format", "jpg"), "x.jpg"),
    ("x.jpeg", "x.jpg", (), "x.jpeg"), ("x.png", "x.png", ("--format", "tif"), "x.tif")])  # fmt: skip
def test_pairs_are_without_loss_unless_both_were_jpeg(script, sources, A, B, flags, name):
    save("a", A)
    save("b", B, start=1)
    ended = script("combine_A_and_B", "--fold_A", "a", "--fold_B", "b", "--fold_AB", "AB", *flags)
    assert ended.code == 0, ended.err
    assert files("AB") == [name]
    difference = np.asarray(Image.open(f"AB/{name}"), int) - np.hstack([Image.open(f"a/{A}"), Image.open(f"b/{B}")])
    assert np.abs(difference).mean() < 2 if name.endswith(("jpg", "jpeg")) else not difference.any()


@pytest.mark.parametrize("mode", ["I;16", "RGB;16", "F"])
def test_every_bit_of_deep_pictures_is_kept(script, sources, mode):
    rng = np.random.default_rng(1)
    for side in "ab":
        values = rng.integers(0, 65536, (8, 9, 3), dtype=np.uint16)
        values = values if mode == "RGB;16" else values[..., 0] if mode == "I;16" else values[..., 0] / np.float32(7)
        Path(side).mkdir()
        kind = "TIFF" if mode == "F" else "PNG"
        lossless.write_image(lossless.LosslessImage(values, kind), Path(side, f"x{lossless.SUFFIXES[kind]}"), kind)
    ended = script("combine_A_and_B", "--fold_A", "a", "--fold_B", "b", "--fold_AB", "AB")
    assert ended.code == 0, ended.err
    (name,) = files("AB")
    sides = [lossless.read_image(Path(side, name)).values for side in "ab"]
    assert np.array_equal(lossless.read_image(Path("AB", name)).values, np.hstack(sides))


def test_other_profiles_become_srgb_and_equal_ones_are_kept(script, sources, shared):
    for side, name in (("a", "one"), ("a", "two"), ("b", "two")):
        Path(side).mkdir(exist_ok=True)
        Path(side, f"{name}.jpg").write_bytes((shared / "data/odd_images/readable/icc_profile_big.jpg").read_bytes())
    save("b", "one.png", width=425, height=250)
    ended = script("combine_A_and_B", "--fold_A", "a", "--fold_B", "b", "--fold_AB", "AB")
    assert ended.code == 0, ended.err
    one = lossless.read_image("AB/one.png")
    assert one.profile is None
    assert np.array_equal(one.values[:, :425], lossless.read_image("a/one.jpg", srgb=True).values)
    assert not np.array_equal(one.values[:, :425], lossless.read_image("a/one.jpg").values)
    assert lossless.read_image("AB/two.jpg").profile == lossless.read_image("a/two.jpg").profile is not None


# make_aligned


def test_pairs_keep_their_names(script, sources):
    save("set", "valA/b/3_A.jpg", "testA/9.png")
    save("set", "valB/b/3_B.png", "testB/9.png", start=5)
    ended = script("make_aligned", "--dataset-path", "set")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "train: 2 pairs, the first 1.png and 1.png",
        "val: 1 pair, the first 3_A.jpg and 3_B.png",
        "test: 1 pair, the first 9.png and 9.png",
        "4 written to set",
    ]
    made = [name for name in files("set") if name.startswith(("train/", "val/", "test/"))]
    assert made == ["test/9.png", "train/1.png", "train/2.png", "val/b/3.png"]
    both = np.hstack([Image.open("set/trainA/2.png"), Image.open("set/trainB/2.png")])
    assert np.array_equal(np.asarray(Image.open("set/train/2.png")), both)


def test_order_never_mispairs_silently(script, sources):
    """The reference pairs the sorted names: after one missing picture, all others wrongly."""
    save("set", "trainA/0.png", "trainB/3.png")
    ended = script("make_aligned", "--dataset-path", "set", "--output", "out")
    assert ended.code == 3 and not Path("out").exists()
    assert "1 of 3 images of A have no partner: 0; 1 of 3 images of B have no partner: 3; " in ended.last
    ended = script("make_aligned", "--dataroot", "set", "--output", "out", "--by_order")
    assert ended.code == 0, ended.err
    both = np.hstack([Image.open("set/trainA/2.png"), Image.open("set/trainB/3.png")])
    assert np.array_equal(np.asarray(Image.open("out/train/2.png")), both)
    save("set", "trainA/4.png")
    ended = script("make_aligned", "--dataset_path", "set", "--output", "out", "--by_order", "--overwrite")
    assert ended.code == 3 and "hold 4 and 3 images; remove those without a partner" in ended.last


@pytest.mark.parametrize(("there", "said"), [
    ((), "set: no such folder"), (("other/1.png",), "(other)"), (("trainA/1.png",), "trainB': there is no such folder "
     "(beside it: trainA)"), (("trainA/1.png", "trainB/x.txt"), "trainB': holds no images, only x.txt")])  # fmt: skip
def test_missing_folders_are_told_with_those_there(script, tmp_path, there, said):
    for name in there:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True)
        path.write_text("x")
    ended = script("make_aligned", "--dataset-path", "set")
    assert ended.code == 3, ended.err
    assert said.replace("set: ", "") in ended.last


# split


@pytest.mark.parametrize("folders", [("train", "test"), ("Training", "Testing"), ("trainA", "testA")])
def test_a_division_that_is_there_is_not_mixed(script, tmp_path, folders):
    """The test images of a data set went to train, without a word."""
    for folder in folders:
        save("in", *(f"{folder}/{i}.png" for i in range(6)), width=4, height=4)
    ended = script("split", "--input", "in", "--output", "out")
    first, last = sorted(folders)
    assert ended.code == 3 and f"folder 'in': is divided already, into {first}, {last}; give" in ended.last
    assert f"--input in/{last}, or mix them with --group" in ended.last and not Path("out").exists()
    assert script("split", "--input", f"in/{folders[0]}", "--output", "out").code == 0
    assert script("split", "--input", "in", "--output", "mixed", "--group", "([^/]+)$").code == 0


def test_masks_beside_their_images_are_told(script, tmp_path):
    save("in", *(f"{i}{end}.png" for i in range(6) for end in ("", "_mask")), width=4, height=4)
    said = "note: 6 of 12 images are named like masks, such as '0_mask.png': images and their masks go to one part only"
    assert said in script("split", "--input", "in", "--output", "out").out
    ended = script("split", "--input", "in", "--output", "kept", "--group", "^([^_.]+)")
    assert "masks" not in ended.out
    of = {
        part: {name.removesuffix("_mask.png").removesuffix(".png") for name in names}
        for part, names in parts("kept").items()
    }
    assert sum(map(len, of.values())) == 6


def parts(folder):
    return {part: sorted(p.name for p in Path(folder, part).rglob("*.png")) for part in ("train", "val", "test")}


def test_parts_are_of_names_alone(script, tmp_path):
    save("one", *(f"{i}.png" for i in range(60)), width=4, height=4)
    save("two", *(f"sub/{i}.png" for i in range(9)), *(f"{i}.jpg" for i in range(0, 90)), width=4, height=4)
    ended = script("split", "--input", "one", "--output", "a", "--train", 0.5, "--val", 0.25)
    assert ended.code == 0, ended.err
    first = parts("a")
    assert sorted(name for names in first.values() for name in names) == sorted(f"{i}.png" for i in range(60))
    assert all(abs(len(first[part]) - wanted) < 12 for part, wanted in (("train", 30), ("val", 15), ("test", 15)))
    counts = ", ".join(f"{part} {len(names)}" for part, names in first.items())
    assert ended.out.splitlines() == [f"60 images: {counts}", "60 written to a"]
    assert Path("a/train", first["train"][0]).read_bytes() == Path("one", first["train"][0]).read_bytes()
    assert len(files("one")) == 60, "copies"
    # others beside them, other extensions: each name stays where it was
    assert script("split", "--input", "two", "--output", "b", "--train", 0.5, "--val", 0.25).code == 0
    for part, names in first.items():
        assert {Path(name).stem for name in names} <= {path.stem for path in Path("b", part).glob("*.jpg")}
    assert len(files("b")) == 99 and any("sub/" in name for name in files("b"))
    # another seed is another split
    assert script("split", "--input", "one", "--output", "c", "--train", 0.5, "--val", 0.25, "--seed", 1).code == 0
    assert parts("c") != first


@pytest.mark.parametrize(("group", "kept"), [("^[^_]+", 0), ("^([a-z]+)_", 0)])
def test_groups_stay_together(script, tmp_path, group, kept):
    names = [
        f"{video}_{frame}.png" for video in ("cat", "dog", "cow", "hen", "fox", "bat", "eel") for frame in range(5)
    ]
    save("in", *names, width=4, height=4)
    ended = script("split", "--input", "in", "--output", "out", "--train", 0.4, "--val", 0.3, "--group", group)
    assert ended.code == 0, ended.err
    assert "35 images in 7 groups: " in ended.out
    where = {}
    for part, found in parts("out").items():
        for name in found:
            where.setdefault(name.split("_")[0], set()).add(part)
    assert len(where) == 7 and all(len(of_one) == 1 for of_one in where.values())
    assert len(set.union(*where.values())) > 1


def test_pictures_are_moved_or_linked_on_request(script, tmp_path):
    save("in", "a.png", "b/c.png", "d.png")
    before = {name: Path("in", name).read_bytes() for name in files("in")}
    ended = script("split", "--input", "in", "--output", "x/links", "--link", "--suffix", "A")
    assert ended.code == 0, ended.err
    links = sorted(path for path in Path("x/links").rglob("*.png"))
    assert len(links) == 3 and all(path.is_symlink() for path in links)
    assert {path.read_bytes() for path in links} == set(before.values())
    assert {path.parts[2] for path in links} <= {"trainA", "valA", "testA"}
    ended = script("split", "--input", "in", "--output", "moved", "--move", "--train", 1, "--val", 0)
    assert ended.code == 0, ended.err
    assert files("in") == [] and {name: Path("moved/train", name).read_bytes() for name in before} == before
    ended = script("split", "--input", "in", "--output", "moved", "--move")
    assert ended.code == 3 and "holds no images, only b/" in ended.last


def test_another_split_into_the_same_folder_is_refused(script, tmp_path):
    """Images of the test were in train too, once."""
    save("in", *(f"{number}.png" for number in range(12)))
    assert script("split", "--input", "in", "--output", "out", "--train", 0.5).code == 0
    before = sorted(tmp_path.glob("out/*/*"))
    ended = script("split", "--input", "in", "--output", "out", "--train", 0.5, "--seed", 3)
    assert ended.code == 3 and "is of an earlier split, and this one puts it into" in ended.err
    assert sorted(tmp_path.glob("out/*/*")) == before
    assert script("split", "--input", "in", "--output", "out", "--train", 0.5).code == 0  # as after new images


@pytest.mark.parametrize(("flags", "said"), [
    (("--train", "0.8", "--val", "0.3"), "0.8 and 0.3 are not fractions of one whole"),
    (("--train", "-1"), "are not fractions"), (("--train", "x"), "'x' is not a number; give a number"),
    (("--group", "("), "is not a regular expression"),
    (("--group", "zebra"), "matches nothing in 11 of 11 names, such as"),
    (("--suffix", "a/b"), "cannot be part of a folder name"), (("--move", "--link"), "; omit one of them"),
    (("--output", "A/parts"), "is inside the input folder"), (("--output", "A"), "is the input folder")])  # fmt: skip
def test_impossible_splits_are_refused(script, sources, flags, said):
    ended = script("split", "--input", "A", "--output", "parts", *flags)
    assert ended.code == 2 and said in ended.last and ended.err.count("\n") == 1
    assert not Path("parts").exists()


def test_a_train_part_without_pictures_is_refused(script, tmp_path):
    save("in", "a.png")
    codes = {script("split", "--input", "in", "--output", "o", "--train", 0.1, "--seed", i).code for i in range(9)}
    assert 3 in codes


# prepare_cityscapes


@pytest.mark.parametrize(("flags", "size", "suffix"), [
    ((), (256, 256), ".jpg"),
    (("--size", "32x16", "--format", "png", "--resample_labels", "nearest"), (32, 16), ".png"),
])  # fmt: skip
def test_cityscapes(script, sources, flags, size, suffix):
    ended = script("prepare_cityscapes", *BATCH["prepare_cityscapes"][0], *flags)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["train: 2 pairs", "val: 2 pairs", "12 written to city"]
    assert files("city") == sorted(
        f"{ours}{side}/ulm_{i}{suffix}" for ours in ("train", "test") for side in ("", "A", "B") for i in range(2)
    )
    A, B, both = (np.asarray(Image.open(f"city/test{side}/ulm_1{suffix}"), int) for side in ("A", "B", ""))
    assert A.shape == B.shape == (size[1], size[0], 3)
    assert np.abs(both - np.hstack([A, B])).mean() < 1
    photo = Image.open("left/val/ulm/ulm_1_leftImg8bit.png").resize(size, Image.Resampling.BICUBIC)
    how = Image.Resampling.NEAREST if flags else Image.Resampling.BICUBIC
    labels = Image.open("gt/val/ulm/ulm_1_gtFine_color.png").resize(size, how)
    for found, wanted in ((A, photo), (B, labels)):
        assert np.abs(found - np.asarray(wanted, int)).max() <= (0 if suffix == ".png" else 12)


def test_cityscapes_without_a_counterpart(script, sources):
    os.remove("gt/val/ulm/ulm_1_gtFine_color.png")
    ended = script("prepare_cityscapes", *BATCH["prepare_cityscapes"][0])
    assert ended.code == 3 and "1 have only a photograph or only labels: ulm_1; unpack" in ended.last
    os.remove("gt/val/ulm/ulm_0_gtFine_color.png")
    ended = script("prepare_cityscapes", *BATCH["prepare_cityscapes"][0])
    assert ended.code == 3 and "folder 'gt/val': holds no CITY/*_gtFine_color.png (gt has train, val)" in ended.last
    assert not Path("city").exists()


# all of them


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_opens_with_how_to_use_it(script, name):
    ended = script(name, "--help")
    assert ended.code == 0 and ended.out.startswith(f"usage: {name}.py ")
    assert f"python scripts/{name}.py" in " ".join(ended.out.split())


@pytest.mark.parametrize("name", cases(*BATCH))
def test_a_dry_run_writes_nothing_and_says_what_it_would(script, sources, name):
    flags, where = BATCH[name]
    before = files(".")
    ended = script(name, *flags, "--dry_run")
    assert ended.code == 0, ended.err
    assert files(".") == before and not Path(where).exists()
    said = re.findall(r"^would write (\S+\.\w+)$", ended.out, re.M)
    count = int(re.search(r"^(\d+) would be written to ", ended.out, re.M)[1])
    more = re.search(r"would write (\d+) more", ended.out)
    assert len(said) + (int(more[1]) if more else 0) == count > 0
    ended = script(name, *flags)
    assert f"{count} written" in ended.out and set(said) <= set(files(".")) - set(before)


@pytest.mark.parametrize("name", cases(*BATCH))
def test_repeating_keeps_what_is_there_unless_told(script, sources, name):
    flags, where = BATCH[name]
    assert script(name, *flags).code == 0
    made = {path: Path(where, path).read_bytes() for path in files(where)}
    (spoilt, *_), count = made, sum(len(files(folder)) for folder in [where])
    Path(where, spoilt).write_bytes(b"mine")
    ended = script(name, *flags)
    assert ended.code == 0 and f"0 written to {where.split('/')[0]}, {count} already existed" in ended.out
    assert Path(where, spoilt).read_bytes() == b"mine"
    assert script(name, *flags, "--overwrite").code == 0
    assert {path: Path(where, path).read_bytes() for path in files(where)} == made


@pytest.mark.parametrize("name", cases(*(name for name in BATCH if name != "split")))  # split reads no pixels
def test_a_bad_picture_is_named_or_left_out_and_counted(script, sources, name):
    flags, where = BATCH[name]
    bad = {"make_aligned": "set/trainA/1.png", "prepare_cityscapes": "left/train/ulm/ulm_0_leftImg8bit.png"}
    bad = bad.get(name, "A/train/0.png")
    content = Path(bad).read_bytes()
    for broken in (b"<html>", content[: len(content) // 2]):
        Path(bad).write_bytes(broken)
        ended = script(name, *flags)
        assert ended.code == 3 and ended.last.startswith(f"error: image '{bad}': ") and ended.err.count("\n") == 1
        assert "or use --on_bad_image skip (" in ended.last
    ended = script(name, *flags, "--on_bad_image", "skip", "--overwrite")
    assert ended.code == 0, ended.err
    out = 2 if name == "prepare_cityscapes" else 1  # of its photograph, the one alone and the one of the pair
    assert f"skipped: {bad}: cannot be read" in ended.out and f", {out} skipped" in ended.out
    assert not [path for path in files(where) if path.endswith(".tmp")]


@pytest.mark.parametrize("name", cases("combine_A_and_B", "resize", "edges"))
def test_only_bad_pictures_are_an_error_even_if_skipped(script, sources, name):
    for path in Path("A").rglob("*.png"):
        path.write_bytes(b"x")
    ended = script(name, *BATCH[name][0], "--on_bad_image", "skip")
    assert ended.code == 3 and "nothing was written: all 11 are bad" in ended.last


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *((name, "folder 'A': ") for name in ("combine_A_and_B", "split", "resize", "check_data")),
        pytest.param("edges", "folder 'A': ", marks=marks("skimage")),
        ("make_aligned", "folder 'set': "),
        ("prepare_cityscapes", "folder 'left/train': "),
    ],
)
@pytest.mark.parametrize("there", [None, "empty", "x.txt"])
def test_nothing_to_do_names_the_folder_and_what_is_there(script, tmp_path, name, said, there):
    for folder in ("A", "set", "left", "gt") if there else ():
        Path(folder).mkdir()
        if there != "empty":
            Path(folder, there).write_text("x")
    flags = ("--dataroot", "A") if name == "check_data" else BATCH[name][0]
    ended = script(name, *flags)
    assert ended.code == 3 and f"error: {said}" in ended.last
    if name != "check_data":
        assert {None: "no such folder", "empty": "empty", "x.txt": "x.txt"}[there] in ended.last or (
            name == "prepare_cityscapes" and there == "empty" and "(left has nothing)" in ended.last
        )


@pytest.mark.parametrize("name", BATCH)
@pytest.mark.parametrize(("flags", "said"), [
    (("--dryrun",), "option '--dryrun': is not a flag; did you mean --dry_run?"),
    (("--num_threads", "0"), "'0' is not a whole number above 0"),
    (("--on_bad_image", "ask"), "'ask' is not a choice")])  # fmt: skip
def test_wrong_flags_are_one_line(script, sources, name, flags, said):
    ended = script(name, *BATCH[name][0], *flags)
    assert ended.code == 2 and said in ended.last and ended.err.count("\n") == 1
    ended = script(name)
    assert ended.code == 2 and "; add " in ended.last


def test_a_disk_that_refuses_is_one_line_and_leaves_no_halves(script, sources, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lossless.Image.Image, "save", full)
    ended = script(*COMBINE)
    assert ended.code == 5 and "cannot be written (No space left on device); free space there" in ended.last
    assert files("AB") == []


def test_a_file_where_the_folder_should_be_is_one_line(script, sources):
    Path("AB").write_text("x")
    ended = script(*COMBINE)
    assert ended.code == 5 and ended.last.startswith("error: file 'AB/"), ended.last


@needs("skimage")
def test_files_that_would_have_one_name_are_refused(script, sources):
    save("A", "train/0.bmp", start=30)
    ended = script("edges", "--input", "A", "--output", "drawn")
    assert ended.code == 3 and "'A/train/0.bmp' and 'A/train/0.png' would both be written to it" in ended.last


def test_sources_are_never_overwritten(script, sources):
    Path("mirror").symlink_to("A")
    ended = script("resize", "--input", "A", "--output", "mirror", "--size", "8", "--overwrite")
    assert ended.code == 2 and "is the input folder" in ended.last
    ended = script("make_aligned", "--dataset-path", "set", "--output", "set")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_leaves_whole_files_and_resumes(script, sources, monkeypatch, number, code):
    for side in "AB":  # many more than are begun at once
        save(side, *(f"train/more{i}.png" for i in range(40)))
    write, begun, shutdown, heard = lossless.write_image, [], ThreadPoolExecutor.shutdown, threading.Event()

    def stopped_at_the_third(*words, **flags):
        begun.append(words)
        if len(begun) == 3:
            os.kill(os.getpid(), number)
            assert heard.wait(60)
        write(*words, **flags)

    def ending(*words, **flags):
        heard.set()
        shutdown(*words, **flags)

    monkeypatch.setattr(lossless, "write_image", stopped_at_the_third)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", ending)
    before = signal.signal(number, signal.SIG_DFL)  # as in a fresh process: an earlier training may have left its own
    try:
        ended = script(*COMBINE, "--num_threads", 2)
    finally:
        signal.signal(number, before)
    assert ended.code == code and ended.err.count("\n") == 1
    left = files("AB")
    assert 3 <= len(left) < 51 and all(name.endswith(".png") for name in left)
    ended = script(*COMBINE)
    assert ended.code == 0 and ended.out.endswith(
        f"{51 - len(left)} written to AB, {len(left)} already existed (--overwrite replaces them)\n"
    )
    assert all(lossless.read_image(Path("AB", name)).values.shape == (40, 96, 3) for name in files("A"))


def test_odd_names_are_kept_and_told_in_one_line(script, tmp_path):
    names = ["a\nb.png", "ü %20#?.png", "x" * 251 + ".png", "-n.png", "\udcff.png"]
    save("A", *names)
    save("B", *names, start=9)
    ended = script(*COMBINE, "--dry_run")
    assert ended.code == 0 and len(ended.out.splitlines()) == 2 + 5 + 1, ended.err
    ended = script(*COMBINE)
    assert ended.code == 0 and files("AB") == sorted(names), ended.err


def test_work_is_bounded_ordered_and_ends_with_the_first_error():
    begun = []

    def work(number):
        begun.append(number)
        if number == 20:
            raise RuntimeError("at twenty")
        return number

    results = batch.map_in_threads(work, list(range(1000)), 2, "x")
    for number in range(20):
        assert next(results) == (number, number)
        assert max(begun) <= number + 8, "it does not run ahead of who takes the results"
    with pytest.raises(RuntimeError, match="at twenty"):
        next(results)
    assert len(begun) <= 28


def test_progress_is_plain_lines_without_a_terminal(capsys):
    assert len(list(batch.map_in_threads(str, list(range(2000)), 2, "writing"))) == 2000
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"writing: {n} of 2000" for n in range(200, 2001, 200)] and not printed.err


def test_the_command_works_as_a_process(sources):
    command = [sys.executable, str(ROOT / "scripts/combine_A_and_B.py"), *COMBINE[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines()[-1] == "11 written to AB" and len(files("AB")) == 11
    done = subprocess.run([*command, "--num_img", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.endswith("is not a flag; did you mean --num_imgs?\n")


def test_a_folder_of_unread_files_is_one_line(tmp_path, capsys):
    """The error names them; the note on files that are not used would say it twice."""
    (tmp_path / "1.heic").touch()
    with pytest.raises(DataError, match=r"holds no images, only 1\.heic"):
        list_images(tmp_path)
    assert not capsys.readouterr().out
