"""Images of domains come from folders or from a list of attributes, and their faults are refused in one line."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from data.published.attribute_list import read_attributes
from data.published.domains import Domains
from tests.support.runs import options
from util.errors import DataError, OptionError

NAMES = "Male", "Young", "Black_Hair"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(path, value=0, size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)


@pytest.fixture
def faces(tmp_path):
    """30 images n.png, of red value n, and list.txt: Male for even n, Young for multiples of 3, Black_Hair for all."""
    rows = []
    for n in range(30):
        picture(tmp_path / "faces" / f"{n}.png", n)
        values = n % 2 == 0, n % 3 == 0, True
        rows.append(f"{n}.png  " + " ".join("1" if value else "-1" for value in values))
    (tmp_path / "list.txt").write_text("\n".join(["30", " ".join(NAMES), *rows]) + "\n")
    return tmp_path / "faces"


def data(*flags, test=False, **changed):
    o = options("--model", "stargan", "--dataroot", "faces", "--attr_path", "list.txt", "--selected_attrs",
                "Young,Male", "--crop_size", "8", "--no_flip", *map(str, flags))  # fmt: skip
    o.load_size = o.crop_size
    if test:
        vars(o).update(isTrain=False, phase="test")
    for name, value in changed.items():
        setattr(o, name, value)
    return Domains(o)


def number(sample):
    return round((float(sample["A"][0, 0, 0]) + 1) * 127.5)


def test_attributes_of_each_image_are_those_of_the_list(faces):
    train, test = data(), data(test=True)
    held = list(map(str, range(30)))
    random.Random(1234).shuffle(held)  # the authors' division; of a short list a tenth
    assert {str(number(sample)) for sample in test} == set(held[:3])
    assert len(train) == 27
    for sample in [*train, *test]:
        n = number(sample)
        assert sample["label"].tolist() == [n % 3 == 0, n % 2 == 0]
        assert sample["label"].dtype == torch.float32
    assert all(set(sample["target"].tolist()) <= {0.0, 1.0} for sample in train)
    assert all("target" not in sample for sample in test)
    assert train.spec().classes == ("Young", "Male") and train.spec().attributes
    assert f"(Young {train.attributes[:, 0].sum()}, Male {train.attributes[:, 1].sum()})" in train.notes[0]


def test_targets_are_drawn_from_all_images(faces):
    train = data()
    random.seed(1)
    drawn = torch.stack([train[0]["target"] for _ in range(300)])
    shares = np.stack([train.attributes[n] for n in range(len(train))]).mean(0)
    assert np.allclose(drawn.mean(0), shares, atol=0.12)
    assert len({tuple(row.tolist()) for row in drawn}) == 4


def test_the_same_table_with_commas_and_below_the_data(faces):
    text = "image_id,Male,Young,Black_Hair\n" + "".join(f"{n}.png,{2 * (n % 2) - 1},0,1\n" for n in range(30))
    (faces / "table.csv").write_text(text)
    table = read_attributes("table.csv", str(faces), "Black_Hair, Male")
    assert table.names == ("Black_Hair", "Male") and table.rows["7.png"].tolist() == [1, 1]
    assert table.rows["8.png"].tolist() == [1, 0]


def test_an_image_with_two_rows_has_one_meaning(faces):
    text = "image_id,Male\n" + "".join(f"{n}.png,1\n" for n in range(30))
    (faces / "table.csv").write_text(text + "3.png,1\n")
    assert read_attributes("table.csv", str(faces), "Male").rows["3.png"].tolist() == [1]
    (faces / "table.csv").write_text(text + "3.png,-1\n")
    with pytest.raises(DataError, match=r"names 3\.png again in line 32, with other values; remove one of these rows"):
        read_attributes("table.csv", str(faces), "Male")


def test_other_images_are_without_attributes_unless_listed(faces, tmp_path):
    picture(tmp_path / "mine" / "6.png", 6)
    picture(tmp_path / "mine" / "x.png", 200)
    test = data("--dataroot", "mine", test=True, saved={"dataroot": "faces"}, run_classes=["Young", "Male"])
    assert {number(sample): sample["label"].tolist() for sample in test} == {6: [1.0, 1.0], 200: [0.0, 0.0]}
    assert any("taken as without attributes (1, such as" in note for note in test.notes)
    (tmp_path / "list.txt").unlink()
    test = data("--dataroot", "mine", test=True, saved={"dataroot": "faces"}, run_classes=["Young", "Male"])
    assert [sample["label"].tolist() for sample in test] == [[0.0, 0.0]] * 2


def test_phases_may_be_folders(faces, tmp_path):
    for n in range(30):
        picture(faces / ("train" if n < 20 else "test") / f"{n}.png", n)
        (faces / f"{n}.png").unlink()
    assert sorted(map(number, data())) == list(range(20))
    assert sorted(map(number, data(test=True))) == list(range(20, 30))


@pytest.mark.parametrize(("change", "error", "words"), [
    (lambda f: (f / "7.png").unlink(), DataError, r"file '7.png': does not exist in faces, and list.txt names it"),
    (lambda f: edit(f, "Young", "Jung"), OptionError, "list.txt has no attribute 'Young'; choose of Male, Jung"),
    (lambda f: edit(f, "30\n", "31\n"), DataError, "states 31 images in its first line and has rows of 30"),
    (lambda f: edit(f, "5.png  -1 -1 1", "5.png  -1 -1"), DataError, "has 2 values in line 8 and 3 names"),
    (lambda f: edit(f, "5.png  -1 -1 1", "5.png  -1 yes 1"), DataError, "has the value 'yes' in line 8, not 1, 0"),
    (lambda f: (f.parent / "list.txt").write_text(""), DataError, "has no rows of images"),
    (lambda f: (f.parent / "list.txt").write_bytes(b"\xff\xfe\x00"), DataError, "cannot be read as text"),
    (lambda f: (f.parent / "list.txt").unlink(), DataError, "there is no such list"),
])  # fmt: skip
def test_a_fault_of_the_list_is_one_line(faces, change, error, words):
    change(faces)
    with pytest.raises(error, match=words) as caught:
        data()
    assert "\n" not in str(caught.value)


def edit(faces, old, new):
    file = faces.parent / "list.txt"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.mark.parametrize(("flags", "words"), [
    (["--c_dim", 5], "is 5, and there are 2 domains: Young, Male"),
    (["--selected_attrs", "Yuong"], "did you mean Young"),
    (["--selected_attrs", ","], "names no attribute"),
    (["--classes", "Male"], "these images are in none; use --selected_attrs"),
])  # fmt: skip
def test_a_wrong_flag_of_attributes_says_what_to_do(faces, flags, words):
    with pytest.raises(OptionError, match=words):
        data(*flags)


def folders(root, *names, count=3):
    for place, name in enumerate(names):
        for n in range(count):
            picture(root / name / f"{n}.png", 10 * place + n)


def test_folders_are_domains(tmp_path):
    folders(tmp_path / "d" / "train", "a", "b", "c")
    train = data("--dataroot", "d", "--attr_path", "")
    assert all(sample["label"] == number(sample) // 10 and sample["target"] in (0, 1, 2) for sample in train)
    assert train.spec().classes == ("a", "b", "c") and not train.spec().attributes
    folders(tmp_path / "flat", ".")
    run = {"saved": {"dataroot": "d"}, "run_classes": ["a", "b", "c"]}
    flat = data("--dataroot", "flat", "--attr_path", "", test=True, **run)
    assert len(flat) == 3 and "label" not in flat[0] and flat.spec().classes == ("a", "b", "c")
    folders(tmp_path / "d" / "test", "b")
    assert [sample["label"] for sample in data("--dataroot", "d", "--attr_path", "", test=True, **run)] == [1, 1, 1]


def test_one_domain_is_refused(tmp_path):
    folders(tmp_path / "d", "a")
    with pytest.raises(DataError, match="holds one domain, a, and there must be two"):
        data("--dataroot", "d", "--attr_path", "")
    (tmp_path / "d" / "a" / "list_attr_celeba.txt").write_text("0")
    with pytest.raises(DataError, match=r"in a list add --attr_path d.a.list_attr_celeba.txt"):
        data("--dataroot", "d", "--attr_path", "")


def test_the_middle_is_cut_before_scaling(tmp_path):
    folders(tmp_path / "d", "a", "b")
    Image.fromarray(np.indices((8, 12)).sum(0).astype(np.uint8) * 10).save(tmp_path / "d" / "a" / "0.png")
    whole, middle = (data("--dataroot", "d", "--attr_path", "", "--crop_size", 4, "--center_crop", n) for n in (0, 4))
    expected = np.indices((8, 12)).sum(0)[2:6, 4:8] * 10
    assert np.allclose((middle[0]["A"][0].numpy() + 1) * 127.5, expected, atol=0.01)
    assert repr(whole.read_options) != repr(middle.read_options)  # of which caches on disk are named


def test_steps_become_epochs(faces):
    train = data("--num_iters", 100, "--num_iters_decay", 40, "--batch_size", 4)  # 27 images: 7 steps
    assert (train.o.n_epochs, train.o.n_epochs_decay) == (8, 6)
    assert train.notes[-1] == "--num_iters 100: epochs of 7 steps, 14 in all; the learning rate falls in the last 6"


def test_folders_of_phases_are_no_domains(tmp_path):
    for name in ("train_img", "train_label", "test_img"):
        picture(tmp_path / "faces" / name / "1.png")
    with pytest.raises(DataError, match=r"test_img, train_img, train_label are folders of phases or sides"):
        data(attr_path="", saved={})


def test_a_test_without_images_says_which_it_translates(tmp_path):
    for name in ("train/red", "train/blue"):
        picture(tmp_path / "faces" / name / "1.png")
    found = data(test=True, attr_path="", run_classes=("blue", "red"), saved={"dataroot": "faces"})
    assert len(found) == 2 and any(
        "there are no images of test: these are all images of faces" in n for n in found.notes
    )


@pytest.mark.parametrize("spoil", ["image", "row"])
def test_a_list_of_attributes_says_whose_data_it_is(faces, spoil):
    if spoil == "image":
        (faces / "7.png").unlink()
    else:
        (faces.parent / "list.txt").write_text("30\nMale Young Black_Hair\n0.png 1 1 1\n")
    with pytest.raises(DataError) as caught:
        data()
    assert "--model" not in str(caught.value) and ("7.png" if spoil == "image" else "rows of 1") in str(caught.value)
