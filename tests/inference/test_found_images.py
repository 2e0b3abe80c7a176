"""test.py translates new images with a trained run: what is at the path decides how it is read."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from inference.found_images import folder_side
from tests.support.images import picture
from tests.support.tested_runs import TINY, pictures, pixels, save_pairs
from util.errors import count_text


def save_images(folder, *sizes):
    """Write images of these sizes, 0.png, 1.png, ...; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        picture(number, *size).save(folder / f"{number}.png")
    return folder


def scaled(path, size=(32, 32)):
    """Return the pixels of a whole image, scaled as the runs p2p and cyc scale it."""
    return np.asarray(Image.open(path).resize(size, Image.Resampling.BICUBIC))


def lines(ended):
    return ended.out.splitlines()


def zipped(folder):
    return shutil.make_archive(str(folder), "zip", folder.parent, folder.name)


SQUARE = [(64, 64), (40, 40), (30, 30)]
PLACES = {  # where the images are -> the path to give
    "a folder": lambda p: save_images(p / "new", *SQUARE),
    "sub-folders": lambda p: save_images(p / "new" / "deep" / "er", *SQUARE).parents[1],
    "one file": lambda p: save_images(p / "new", *SQUARE) / "0.png",
    "a nameless file": lambda p: (save_images(p / "new", *SQUARE) / "0.png").rename(p / "new" / "photo"),
    "a zip file": lambda p: zipped(save_images(p / "new", *SQUARE)),
    "a file in a zip file": lambda p: zipped(save_images(p / "new", *SQUARE)) + "/new/0.png",
    "testA alone": lambda p: save_images(p / "new" / "testA", *SQUARE).parent,
    "A alone": lambda p: save_images(p / "new" / "A", *SQUARE).parent,
    "nested testA": lambda p: save_images(p / "new" / "A" / "test", *SQUARE).parents[1],
    "the folder testA": lambda p: save_images(p / "new" / "testA", *SQUARE),
    "test": lambda p: save_images(p / "new" / "test", *SQUARE).parent,
    "too deep": lambda p: save_images(p / "new" / "data" / "testA", *SQUARE).parents[1],
    "far too deep": lambda p: save_images(p / "new" / "x" / "data" / "testA", *SQUARE).parents[2],
    "an empty testB": lambda p: (
        [save_images(p / "new" / f"test{s}", *SQUARE[: 3 * (s == "A")]) for s in "BA"][1].parent
    ),
}


@pytest.mark.parametrize("flag", [[], ["--dataroot"]], ids=["position", "dataroot"])
@pytest.mark.parametrize("run", ["p2p", "cyc"])
@pytest.mark.parametrize("place", PLACES)
def test_images_without_counterparts_are_translated_whole(tested, tmp_path, place, run, flag):
    """Square images at all kinds of places: not cut in half, no metrics, and one line says what was found."""
    path = PLACES[place](tmp_path)
    done = tested("--name", run, *flag, path)
    stems = (
        ["photo"] if place == "a nameless file" else ["0"] if "file" in place and place[-8:] != "zip file" else "012"
    )
    stems = ["0"] if place == "a file in a zip file" else stems
    labels = ("real_A", "fake_B") if run == "p2p" else ("real_A", "fake_B", "rec_A")
    found = pictures(done.images)
    assert set(found) == {f"{stem}_{label}.png" for stem in stems for label in labels}
    source = next(p for p in (tmp_path / "new").rglob("*") if p.stem == stems[0])
    assert np.array_equal(found[f"{stems[0]}_real_A.png"], scaled(source))
    assert "mean" not in json.loads((done.folder / "metrics.json").read_text()) and "mean over" not in done.out
    said = [line for line in lines(done) if line.startswith("images: ")]
    assert len(said) == 1 and str(len(stems)) in said[0]
    assert run == "p2p" or "G_A translates A to B" in said[0]


def test_results_and_pairs_that_are_taken_for_inputs_are_told(tested, tmp_path):
    """All images of an earlier test were translated, and pairs whole, without a word."""

    def told(run, path):
        done = tested("--name", run, path)
        (tmp_path / "results").rename(tmp_path / f"results of {run} {path.name}")
        return lines(done)

    told("p2p", save_images(tmp_path / "new", *SQUARE))
    (former,) = (tmp_path / "results of p2p new").rglob("images")
    for run in ("cyc", "p2p"):
        said = "note: these seem to be results of a test, of which all of fake_B, real_A are translated; give a folder"
        assert sum(line.startswith(said) for line in told(run, former)) == 1
    said = "note: these images are twice as wide as high, like pairs A|B; each is translated whole"
    assert said in told("cyc", save_images(tmp_path / "wide", (64, 32), (80, 40)))
    assert said not in told("cyc", save_images(tmp_path / "other", (64, 32), (80, 41)))


# --- pairs, and files that are none


@pytest.mark.parametrize("path", ["pairs/test", "pairs", "pairs/test/3.png"])
def test_pairs_stay_pairs_at_any_place(tested, runs, tmp_path, path):
    done = tested("--name", "p2p", runs / path)
    found, figures = pictures(done.images), json.loads((done.folder / "metrics.json").read_text())
    shutil.rmtree(tmp_path / "results")
    whole = pictures(tested("--name", "p2p", "--dataroot", runs / "pairs").images)
    assert found and all(np.array_equal(array, whole[name]) for name, array in found.items())
    assert len(figures["images"]) == len(found) // 3
    counted = count_text(len(figures["images"]), "file")
    assert any(f"{counted} of A|B, halves of 48x40" in line for line in lines(done))


@pytest.mark.parametrize("more", [[], ["--batch_size", 2]])
def test_single_images_among_pairs_are_told_apart(tested, runs, tmp_path, more):
    save_pairs(tmp_path / "mixed", 3)
    picture(9, 64, 64).save(tmp_path / "mixed" / "1a.png")
    done = tested("--name", "p2p", tmp_path / "mixed", *more)
    assert set(json.loads((done.folder / "metrics.json").read_text())["images"]) == {"0", "1", "2"}
    assert not (done.images / "1a_real_B.png").exists()
    assert np.array_equal(pixels(done.images / "1a_real_A.png"), scaled(tmp_path / "mixed" / "1a.png"))
    assert "pairs: mixed, 3 files of A|B, halves of 48x40" in lines(done)
    assert any("mixed, 1 of 4 files are single images" in line for line in lines(done))


def test_without_recorded_proportions_pairs_are_wider_than_high(command, runs, tmp_path):
    """Runs of earlier versions."""
    shutil.copytree(runs / "checkpoints" / "p2p", tmp_path / "checkpoints" / "old")
    file = tmp_path / "checkpoints" / "old" / "options.json"
    tables = json.loads(file.read_text())
    assert tables["spec"].pop("pair_proportions") == [1.2, 1.2]
    tables["options"]["name"] = "old"
    file.write_text(json.dumps(tables))
    folder = save_images(tmp_path / "new", (64, 64), (96, 40))
    ended = command("test", "--name", "old", folder)
    assert ended.code == 0, ended.err
    found = {p.name for p in (tmp_path / "results").rglob("*_real_B.png")}
    assert found == {"1_real_B.png"} and "1 of 2 files are single images" in ended.out


def test_damaged_proportions_are_named(command, runs, tmp_path):
    shutil.copytree(runs / "checkpoints" / "p2p", tmp_path / "checkpoints" / "p2p")
    file = tmp_path / "checkpoints" / "p2p" / "options.json"
    file.write_text(file.read_text().replace('"pair_proportions": [', '"pair_proportions": ["x",'))
    ended = command("test", "--name", "p2p", runs / "pairs")
    assert ended.code == 4 and "pair_proportions" in ended.last


EXPLICIT = {  # flags, path below `runs` -> real images
    "single": (["--dataset_mode", "single"], "pairs", {f"{n}_real_A.png" for n in range(7)}),
    "test": (["--model", "test"], "pairs/test", {f"{n}_real.png" for n in range(7)}),
    "joined": (["--pairs", "joined"], "pairs", {f"{n}_real_{side}.png" for n in range(7) for side in "AB"}),
    "aligned": (["--dataset_mode", "aligned"], "pairs", {f"{n}_real_{side}.png" for n in range(7) for side in "AB"}),
}


@pytest.mark.parametrize("case", EXPLICIT)
def test_flags_of_the_reference_keep_their_meaning(tested, runs, tmp_path, case):
    """single: every image below --dataroot, whole, also A|B; aligned and joined: every file is cut, also a square."""
    flags, path, expected = EXPLICIT[case]
    root = tmp_path / "data"
    shutil.copytree(runs / path, root)
    picture(1, 64, 64).save((root / "test" if path == "pairs" else root) / "0.png")
    done = tested("--name", "p2p", "--dataroot", root, *flags)
    found = {name for name in pictures(done.images) if "real" in name}
    assert expected <= found and (case != "single" or any(len(name) > 10 for name in found) or len(found) == 10)
    shown = "0_real.png" if case == "test" else "0_real_A.png"
    image = next(root.rglob("0.png")) if case == "test" else root / "test" / "0.png"
    if case in ("joined", "aligned"):
        half = Image.open(image).crop((0, 0, 32, 64)).resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(pixels(done.images / shown), np.asarray(half))
        assert "question: are these pairs" in done.out


# --- the sides of a CycleGAN


@pytest.fixture
def both(tested, runs, tmp_path):
    """The results of a test of both sides of the run cyc, which the tests of one side must equal."""
    found = pictures(tested("--name", "cyc", "--dataroot", runs / "sides").images)
    shutil.rmtree(tmp_path / "results")
    return found


ONE_SIDE = {  # arguments below `runs` -> the side that is translated
    "testB": (["sides/testB"], "B"),
    "a file of testB": (["sides/testB/1.png"], "B"),
    "the other direction": (["sides", "--direction", "BtoA"], "B"),
    "testA": (["sides/testA"], "A"),
    "testA, said": (["sides/testA", "--direction", "AtoB"], "A"),
}


@pytest.mark.parametrize("case", ONE_SIDE)
def test_one_side_uses_its_own_generator(tested, runs, both, case):
    """Its images equal those of a test of both sides, and have the same names; the line names the generator."""
    (path, *flags), side = ONE_SIDE[case]
    other = {"A": "B", "B": "A"}[side]
    done = tested("--name", "cyc", runs / path, *flags)
    found = pictures(done.images)
    assert {name.split("_", 1)[1] for name in found} == {f"real_{side}.png", f"fake_{other}.png", f"rec_{side}.png"}
    assert all(np.array_equal(array, both[name]) for name, array in found.items())
    assert f"G_{side} translates {side} to {other}" in done.out


def test_direction_says_which_side_a_folder_without_a_side_is(tested, runs, tmp_path, both):
    shutil.copytree(runs / "sides" / "testB", tmp_path / "photos")
    done = tested("--name", "cyc", tmp_path / "photos", "--direction", "BtoA")
    assert np.array_equal(pixels(done.images / "0_fake_A.png"), both["0_fake_A.png"])
    shutil.rmtree(tmp_path / "results")
    done = tested("--name", "cyc", tmp_path / "photos")
    assert "G_A translates A to B (--direction BtoA: B to A)" in done.out


def test_the_other_generator_of_other_channels_and_direction(command, runs, tmp_path):
    """Trained from B (grey) to A (colour): testA needs G_B, whose outputs are grey."""
    flags = ["--model", "cycle_gan", "--dataroot", runs / "sides", "--name", "back", "--direction", "BtoA",
             "--input_nc", 1, "--lambda_identity", 0, "--no_html"]  # fmt: skip
    assert command("train", *TINY, *flags).code == 0
    assert command("test", "--name", "back", "--results_dir", "both").code == 0
    whole = pictures(tmp_path / "both" / "back" / "test_latest" / "images")
    for side, generator in (("A", "G_B translates A to B"), ("B", "G_A translates B to A")):
        ended = command("test", "--name", "back", runs / "sides" / f"test{side}", "--results_dir", side)
        assert ended.code == 0 and generator in ended.out, ended.err
        found = pictures(tmp_path / side / "back" / f"test{side}_latest" / "images")
        same = {name: np.array_equal(array, whole[name]) for name, array in found.items() if name in whole}
        assert len(same) >= 6 and all(same.values())


@pytest.mark.parametrize("where", ["pairs", "new"])
def test_a_direction_without_a_generator_is_refused(command, runs, tmp_path, where):
    path = runs / "pairs" if where == "pairs" else save_images(tmp_path / "new", (64, 64))
    flags = ["--checkpoints_dir", runs / "checkpoints", "--name", "p2p", "--dataroot", path, "--direction", "BtoA"]
    ended = command("test", *flags)
    assert ended.code == 2 and ended.last.startswith("error: option '--direction'"), ended.err
    assert ended.last.endswith("; omit --direction") and not (tmp_path / "results").exists()
    ended = command("test", *flags, "--dataset_mode", "single")
    assert ended.code == 0 and "note: --direction has no effect" in ended.out, ended.err


@pytest.mark.parametrize(("path", "side"), [
    ("x/testA", "A"), ("x/trainB", "B"), ("x/A", "A"), ("B/test", "B"), ("x/val_B", "B"), ("testB.zip", "B"),
    ("x/photos", ""), ("x/monaA", ""), ("B/photos", ""), ("x/test", ""),
])  # fmt: skip
def test_the_side_that_a_folders_name_states(path, side):
    assert folder_side(path) == side


# --- folders above, below and beside


def test_a_data_set_one_level_too_deep_is_found(tested, runs, tmp_path, both):
    shutil.copytree(runs / "sides", tmp_path / "OUTER" / "DATA")
    (tmp_path / "OUTER" / "__MACOSX").mkdir()
    done = tested("--name", "cyc", tmp_path / "OUTER")
    assert pictures(done.images).keys() == both.keys()
    assert f"note: the images are those of {tmp_path}/OUTER/DATA" in done.out


def test_several_data_sets_below_are_named(command, runs, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(runs / "sides", tmp_path / "OUTER" / name)
    flags = ["--checkpoints_dir", runs / "checkpoints", "--name", "cyc"]
    ended = command("test", *flags, "OUTER")
    assert ended.code == 3 and "holds several data sets: one, two; give one of them, such as OUTER/one" in ended.last
    assert command("test", *flags, "OUTER/one").code == 0


def test_training_images_are_tested_as_such_without_others(tested, runs, tmp_path):
    for side in "AB":
        shutil.copytree(runs / "sides" / f"train{side}", tmp_path / "DATA" / f"train{side}")
    done = tested("--name", "cyc", tmp_path / "DATA")
    assert done.folder.name == "DATA_latest" and "note: there are no images of test: these are of train" in done.out


REFUSED = {  # flags and path -> the remedy, which must work
    "phase": (["--phase", "val", "--dataroot", "new"], "omit --phase", ["--dataroot", "new"]),
    "mode": (["--dataset_mode", "aligned", "--dataroot", "new"], "omit --dataset_mode", ["--dataroot", "new"]),
    "pairs": (["--pairs", "joined", "--dataroot", "new"], "omit --pairs", ["--dataroot", "new"]),
    "partners": (["--dataroot", "sides"], "test one folder alone, such as sides/testA", ["sides/testA"]),
    "nowhere": (["nowhere"], "give a folder, a zip file or an image", ["new"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_remedy_of_a_refusal_works(command, runs, tmp_path, case):
    save_images(tmp_path / "new", (64, 64))
    shutil.copytree(runs / "sides", tmp_path / "sides")
    flags, remedy, followed = REFUSED[case]
    run = ["--checkpoints_dir", runs / "checkpoints", "--name", "p2p"]
    ended = command("test", *run, *flags)
    assert ended.code == 3 and remedy in ended.last and "--split" not in ended.last, ended.err
    ended = command("test", *run, *followed)
    assert ended.code == 0, ended.err


def test_a_run_divided_by_split_takes_all_of_a_new_folder(command, tmp_path):
    save_pairs(tmp_path / "all", 12)
    save_pairs(tmp_path / "new", 5, 100)
    flags = ["--model", "pix2pix", "--dataroot", "all", "--split", 0.5, "--name", "run", "--no_html"]
    assert command("train", *TINY, *flags).code == 0
    ended = command("test", "--name", "run")
    assert ended.code == 0 and "the part of test (--split 0.5)" in ended.out and "12 images ->" not in ended.out
    ended = command("test", "--name", "run", "new", "--results_dir", "other")
    assert ended.code == 0 and "5 images -> other" in ended.out


def test_a_manifest_of_the_training_is_not_read_for_new_images(command, tmp_path):
    save_pairs(tmp_path / "all", 3)
    for side in "AB":
        save_images(tmp_path / "all" / side, (48, 40), (48, 40))
    (tmp_path / "list.csv").write_text("a,b\nall/A/0.png,all/B/0.png\nall/A/1.png,all/B/1.png\n")
    flags = ["--model", "pix2pix", "--dataroot", "all", "--pairs", "list.csv", "--name", "run", "--no_html"]
    assert command("train", *TINY, *flags).code == 0
    save_images(tmp_path / "new", (48, 40), (48, 40), (48, 40))
    ended = command("test", "--name", "run", "new")
    assert ended.code == 0 and "images: new, 3 single images" in ended.out, ended.err


def test_colour_images_of_any_folder_are_coloured(command, tmp_path):
    save_images(tmp_path / "photos" / "train", (48, 40), (48, 40))
    flags = ["--model", "colorization", "--dataroot", "photos", "--name", "col", "--no_html"]
    assert command("train", *TINY, *flags).code == 0
    for number, path in enumerate(("photos/train", "photos/train/1.png", "photos")):
        ended = command("test", "--name", "col", path, "--results_dir", f"r{number}")
        assert ended.code == 0, ended.err
        count = len(list((tmp_path / f"r{number}").rglob("*_fake_B_rgb.png")))
        assert count == (1 if path.endswith("png") else 2)


PLUGIN = '''
"""Pairs of an image and itself."""
from data.base import BaseDataset


class Same(BaseDataset):
    paired = True

    def __init__(self, o):
        super().__init__(o)
        self.paths = self.files(o.phase)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        sample = self.input_sample(self.paths[index])
        return sample | {"B": sample["A"], "path_B": sample["path_A"]}
'''


def test_a_plugins_data_set_reads_a_folder_without_phases(command, tmp_path):
    (tmp_path / "same.py").write_text(PLUGIN)
    save_images(tmp_path / "data" / "train", (48, 40))
    flags = ["--model", "pix2pix", "--dataset_mode", "same", "--plugin", "same.py", "--dataroot", "data"]
    assert command("train", *TINY, *flags, "--name", "run", "--no_html").code == 0
    save_images(tmp_path / "new", (48, 40), (48, 40))
    ended = command("test", "--name", "run", "new")
    assert ended.code == 0 and "2 images ->" in ended.out, ended.err
    ended = command("test", "--name", "run", "nowhere")
    assert ended.code == 3 and "nowhere" in ended.last


# --- runs that were trained on crops

WHOLE = {  # flags of the training -> size of a 48x40 image in test.py
    "crop": (["--preprocess", "crop", "--crop_size", 24, "--load_size", 24], (48, 40)),
    "patch": (["--preprocess", "patch", "--crop_size", 24, "--load_size", 24], (48, 40)),
    "scale_width": (["--preprocess", "scale_width_and_crop", "--load_size", 60, "--crop_size", 24], (60, 50)),
    "shortside": (["--preprocess", "scale_shortside_and_crop", "--load_size", 60, "--crop_size", 24], (72, 60)),
    "shortside, patch": (["--preprocess", "scale_shortside_and_patch", "--load_size", 60, "--crop_size", 24], (72, 60)),
    "resize": (["--preprocess", "resize_and_crop", "--load_size", 36, "--crop_size", 32], (32, 32)),
    "resize, patch": (["--preprocess", "resize_and_patch", "--load_size", 36, "--crop_size", 32], (32, 32)),
    "fixsize": (["--preprocess", "fixsize_and_crop", "--load_size", 36, "--crop_size", 32], (32, 32)),
}


@pytest.mark.parametrize("case", WHOLE)
def test_runs_trained_on_crops_are_tested_on_whole_images(command, runs, tmp_path, case):
    """Scaled as in training; both sides of a pair; --no_native cuts as before, with a note."""
    flags, size = WHOLE[case]
    data = ["--model", "pix2pix", "--dataroot", runs / "pairs", "--name", "run", "--no_html"]
    assert command("train", *TINY, *data, *flags).code == 0
    ended = command("test", "--name", "run", "--num_test", 2)
    assert ended.code == 0 and "at a random place" not in ended.out, ended.err
    images = pictures(tmp_path / "results" / "run" / "test_latest" / "images")
    assert {array.shape[1::-1] for array in images.values()} == {size}
    left = Image.open(runs / "pairs" / "test" / "0.png").crop((0, 0, 48, 40))
    assert np.array_equal(images["0_real_A.png"], np.asarray(left.resize(size, Image.Resampling.BICUBIC)))
    ended = command("test", "--name", "run", "--num_test", 2, "--no_native", "--results_dir", "cut")
    assert ended.code == 0, ended.err
    crop = int(flags[flags.index("--crop_size") + 1])
    cut = pictures(tmp_path / "cut" / "run" / "test_latest" / "images")
    assert {array.shape[1::-1] for array in cut.values()} == {(crop, crop)}
    assert ("at a random place" in ended.out) == (size != (crop, crop))


@pytest.mark.parametrize(("flags", "size"), [
    (["--crop_size", 16], (16, 16)), (["--preprocess", "scale_width_and_crop"], (24, 24)), (["--native"], (48, 40)),
    (["--load_size", 90], (90, 75)), (["--preprocess", "scale_width", "--load_size", 90], (90, 75)),
    (["--preprocess", "none"], (48, 40)), (["--preprocess", "resize_and_crop", "--crop_size", 20], (20, 20)),
])  # fmt: skip
def test_flags_given_to_a_test_of_crops_mean_what_they_say(tested, runs, tmp_path, command, flags, size):
    train = ["--model", "cycle_gan", "--dataroot", runs / "sides", "--name", "run", "--no_html",
             "--preprocess", "scale_width_and_crop", "--load_size", 60, "--crop_size", 24]  # fmt: skip
    assert command("train", *TINY, *train).code == 0
    ended = command("test", "--name", "run", runs / "sides" / "testA", *flags)
    assert ended.code == 0, ended.err
    found = pictures(tmp_path / "results" / "run" / "testA_latest" / "images")
    assert {array.shape[1::-1] for array in found.values()} == {size}


def test_halves_of_odd_width_of_a_crop_run_have_one_size(command, runs, tmp_path):
    """Scaled apart, halves of 48 and 49 pixels would differ in height."""
    save_pairs(tmp_path / "odd" / "test", 1)
    both = Image.open(tmp_path / "odd" / "test" / "0.png")
    both.resize((97, 140)).save(tmp_path / "odd" / "test" / "0.png")
    train = ["--model", "pix2pix", "--dataroot", runs / "pairs", "--name", "run", "--no_html",
             "--preprocess", "scale_width_and_crop", "--load_size", 91, "--crop_size", 24]  # fmt: skip
    assert command("train", *TINY, *train).code == 0
    ended = command("test", "--name", "run", "--dataroot", "odd", "--dataset_mode", "aligned")
    assert ended.code == 0, ended.err


def test_a_side_of_a_phase_of_any_name(tested, runs, tmp_path, both):
    shutil.copytree(runs / "sides" / "testB", tmp_path / "data" / "nightB")
    done = tested("--name", "cyc", tmp_path / "data", "--phase", "night")
    assert "G_B translates B to A" in done.out and done.folder.name == "data_latest"
    assert np.array_equal(pixels(done.images / "0_fake_A.png"), both["0_fake_A.png"])
