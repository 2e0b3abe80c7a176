"""semantic reads the folders of pix2pixHD: partners by name, ids as they are, one crop and flip for all maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.published.semantic import semantic_channels, semantic_input
from registry.lookup import find
from tests.support.runs import options
from util.errors import DataError, OptionError, UserError

NAMES = ("a_10", "a_9", "b_2")


@pytest.fixture
def city(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        ids = np.zeros((40, 64), np.uint8)
        ids[:, 20 + number :] = number + 1
        maps = {"label": ids, "inst": ids.astype(np.uint16) * 1000, "img": np.stack([ids * 60] * 3, -1)}
        for kind, ending in (("label", "_ids"), ("inst", "_objects"), ("img", "_photo")):
            (tmp_path / f"train_{kind}").mkdir(exist_ok=True)
            Image.fromarray(maps[kind]).save(tmp_path / f"train_{kind}" / f"{name}{ending}.png")
    return tmp_path


def dataset(root, *argv):
    o = options("--model", "pix2pixhd", "--no_vgg_loss", "--dataroot", str(root), "--load_size", "32", *argv)
    return find("dataset", "semantic")(o)


def test_maps_and_photographs_belong_together(city):
    data = dataset(city, "--label_nc", "4")
    for number in range(3):
        sample = data[number]
        assert sample["A"].shape == (1, 20, 32)  # the height follows from the width; --crop_size does not count
        assert set(sample["A"].unique().tolist()) == {0.0, number + 1}
        assert torch.equal(sample["instance"], sample["A"][0].long() * 1000)
        grey = (sample["B"][0] + 1) * 127.5
        inside = (sample["A"][0, :, 1:-1] == sample["A"][0, :, :-2]) & (
            sample["A"][0, :, 1:-1] == sample["A"][0, :, 2:]
        )
        assert ((grey[:, 1:-1] - 60 * sample["A"][0, :, 1:-1]).abs()[inside] < 25).all()


@pytest.mark.parametrize(("maps", "photographs", "said"), [
    (["1", "2", "10", "11"], ["001", "002", "010", "011"], None),  # belong together by their numbers
    (["seg 1 (2)", "seg 1 (10)"], ["img-01-02", "img-01-10"], None),
    (["img_0", "img_1", "img_2"], ["img_0", "img_1", "img_9"], "image 'train_label/img_2.png': has no partner in "),
    (["a", "b"], ["b", "c"], "note: names differ, so files are taken in order: train_label/a.png with train_img/b.png"),
    (["a1", "b"], ["a1", "c"], "note: names differ, so files are taken in order: train_label/b.png with"),
    (["cat"], ["dog"], "note: names differ, so files are taken in order: train_label/cat.png with train_img/dog.png"),
])  # fmt: skip
def test_files_of_other_names_are_paired_by_numbers_or_told(tmp_path, monkeypatch, maps, photographs, said):
    """Plain order took 10 for the partner of 002, and one renamed file shifted those after it."""
    monkeypatch.chdir(tmp_path)
    for kind, names in (("label", maps), ("img", photographs)):
        (tmp_path / f"train_{kind}").mkdir()
        for name in names:
            Image.new("L" if kind == "label" else "RGB", (32, 32)).save(f"train_{kind}/{name}.png")
    if said and said.startswith("image"):
        with pytest.raises(DataError, match=said):
            dataset(".", "--label_nc", "4", "--no_instance")
        return
    data = dataset(".", "--label_nc", "4", "--no_instance")
    if said is None:
        place = {f"train_label/{one}.png": f"train_img/{other}.png" for one, other in zip(maps, photographs)}
        assert {data[number]["path_A"]: data[number]["path_B"] for number in range(len(data))} == place
    assert [note.startswith(said) for note in data.notes if "differ" in note] == [True] * bool(said)


def test_networks_see_classes_and_edges(city):
    data = dataset(city, "--label_nc", "4")
    sample = data[0]
    batch = {"A": sample["A"][None], "instance": sample["instance"][None]}
    made = semantic_input(batch, data.o)
    assert semantic_channels(data.o, data.spec()) == made.shape[1] == 5
    assert torch.equal(made[:, :4].argmax(1), batch["A"][:, 0].long())
    assert made[:, 4].sum() == 2 * 20  # both sides of the one vertical edge


@pytest.mark.parametrize(("flags", "spoil", "why"), [
    ("--label_nc 3", None, "b_2_ids.png': holds the id 3, and --label_nc 3 names the classes 0 to 2; use --label_nc 4"),
    ("--label_nc 4", "train_inst/a_9_objects.png", "train_inst': holds 2 images, and"),
    ("--label_nc 0", None, "train_A': holds no images"),
])  # fmt: skip
def test_what_does_not_fit_is_named(city, flags, spoil, why):
    if spoil:
        (city / spoil).unlink()
    with pytest.raises(DataError) as caught:
        list(map(dataset(city, *flags.split()).__getitem__, range(3)))
    assert why in str(caught.value)


def test_other_models_name_those_of_label_maps(city):
    for model, mode in (("pix2pix", "aligned"), ("cycle_gan", "unaligned")):
        o = options("--model", model, "--dataroot", str(city))
        with pytest.raises(DataError, match="use --model pix2pixhd "):
            find("dataset", mode)(o)


def test_missing_instances_name_the_flag(city):
    for file in (city / "train_inst").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"(?!.*use --model).*--no_instance"):
        dataset(city, "--label_nc", "4")
    assert "instance" not in dataset(city, "--label_nc", "4", "--no_instance")[0]


def test_pictures_are_no_label_maps(city):
    o = options("--model", "pix2pixhd", "--no_vgg_loss", "--dataset_mode", "aligned")
    with pytest.raises(OptionError, match="aligned gives pictures and no label maps"):
        semantic_channels(o, find("dataset", "aligned")(o).spec())


@pytest.mark.parametrize(("classes", "said"), [(8, True), (7, False), (35, True)])
def test_classes_that_no_map_holds_are_told(city, classes, said):
    data = dataset(city, "--label_nc", str(classes), "--no_instance")
    data.spec()
    notes = [note for note in data.notes if "useless channels" in note]
    assert len(notes) == said
    assert not said or f"--label_nc is {classes}, and 3 label maps looked at hold no class above 3" in notes[0]


@pytest.mark.parametrize(("picture", "why"), [
    (np.repeat(np.arange(8, dtype=np.uint8), 24).reshape(8, 8, 3), "of 8 colours.*Colours instead of ids"),
    (np.arange(32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8) * 7, "of 256 colours"),
    (np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), "like a photograph, of 1,600 colours"),
])  # fmt: skip
def test_colours_in_place_of_ids_are_told_how_to_become_ids(city, picture, why):
    Image.fromarray(picture).save(city / "train_label/a_10_ids.png")
    with pytest.raises(DataError, match=f"{why}.*--label_nc 0, train_A, train_B"):
        dataset(city, "--label_nc", "4")[0]


@pytest.mark.parametrize("place", ["train_label", "train_label/a_9_ids.png", "none"])
def test_what_lacks_instance_maps_or_is_not_there_is_named(city, place):
    o = options("--model", "pix2pixhd", "--no_vgg_loss", "--dataroot", str(city / place), "--label_nc", "4")
    o.isTrain, o.phase, o.saved = False, "" if place != "none" else "test", {"dataroot": str(city)}
    with pytest.raises(DataError) as caught:
        find("dataset", "semantic")(o)
    _, name, why, remedy = caught.value.args
    assert str(name) == str(city / place) and "--label_nc 0" not in remedy
    if place == "none":
        assert why == "there is no such folder"
    else:
        assert "trained with instance maps" in why and f"--dataroot {city} --phase train" in remedy


@pytest.mark.parametrize(("model", "flags"), [
    ("pix2pix", ["--split", "0.8"]), ("cycle_gan", ["--split", "0.8"]), ("gan", ["--split", "0.8"]),
    ("cgan", []), ("stargan", []), ("colorization", ["--split", "0.8"]),
])  # fmt: skip
def test_other_models_do_not_take_these_folders_as_one_list(city, model, flags):
    o = options("--model", model, "--dataroot", str(city), *flags)
    with pytest.raises(DataError, match="use --model pix2pixhd or --model spade"):
        find("dataset", o.dataset_mode)(o)


@pytest.mark.parametrize(("flags", "said"), [
    ("--layout custom --label_dir train_label", "option '--image_dir': names no folder, .*; name it$"),
    ("--layout ade20k", "put them there, as ade20k is published, or use --layout folders for train_label$"),
    ("--layout cityscapes", "gtFine/train': holds no images: .*, or use --layout folders for train_label$"),
    ("--layout folders --phase val", "val_label': holds no images: .* or use --label_nc 0 for pictures in folders _A"),
])  # fmt: skip
def test_a_layout_without_its_files_is_told_what_to_do(city, flags, said):
    with pytest.raises(UserError, match=said):
        dataset(city, "--label_nc", "4", "--no_instance", *flags.split())


@pytest.mark.parametrize("given", [set(), {"label_dir"}])
def test_a_test_of_the_folders_of_training_is_told(city, given):
    flags = ["--layout", "custom", "--label_dir", "train_label", "--image_dir", "train_img", "--no_instance"]
    o = options("--model", "pix2pixhd", "--no_vgg_loss", "--label_nc", "4", *flags)
    o.isTrain, o.saved, o.given = False, {"label_dir": "train_label"}, given
    found = find("dataset", "semantic")(o)
    assert any("the run was trained on these images" in note for note in found.notes) == (not given)
