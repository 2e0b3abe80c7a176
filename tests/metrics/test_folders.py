"""Two folders are evaluated: pairs by name, sets whole, classes by sub-folder or name."""

import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from metrics.evaluation import Evaluation
from metrics.folders import add_classes, check_apart, class_notes, evaluate_sides, list_side, read_image
from metrics.settings import Settings
from util.errors import DataError


def save(folder, names, size=(20, 16), shift=0):
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 200, (size[1], size[0], 3)) + shift
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    return str(folder)


@pytest.fixture
def evaluation():
    return Evaluation(["L1"], Settings())


def test_pairs_have_one_name_whatever_their_format_and_label(tmp_path, evaluation):
    real = list_side(save(tmp_path / "real", ["1.png", "a/2.bmp", "3.png"]), ("real_B",))
    names = ["1_fake_B.png", "a/2_fake_B.png", "4_fake_B.png", "1_real_A.png"]
    fake = list_side(save(tmp_path / "fake", names, shift=10), ("fake_B", "fake"))
    notes = evaluate_sides(evaluation, real, fake, None)
    assert notes == ["1 real and 1 generated images have no partner; metrics of pairs omit them"]
    assert evaluation.per_image() == {n: {"L1": pytest.approx(10 / 127.5, abs=1e-6)} for n in ("1", "a/2")}
    assert evaluation.results()["L1"].n == 2


def test_what_cannot_be_compared_is_refused(tmp_path, evaluation):
    real = list_side(save(tmp_path / "real", ["1.png", "2.png"]))
    with pytest.raises(DataError, match="no image has the name of one in"):
        evaluate_sides(evaluation, real, list_side(save(tmp_path / "other", ["5.png"])), None)
    larger = list_side(save(tmp_path / "larger", ["1.png", "2.png"], (40, 32)))
    with pytest.raises(DataError, match=r"is not as large as its partner: 40x32 and 20x16; resize both with --size"):
        evaluate_sides(evaluation, real, larger, None)
    evaluate_sides(evaluation, real, larger, (20, 16))
    with pytest.raises(DataError, match=r"1\.png': has the name of 1\.jpg"):
        list_side(save(tmp_path / "twice", ["1.png", "1.jpg"]))
    with pytest.raises(DataError, match="holds no images"):
        list_side(save(tmp_path / "empty", []) and str(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty"))
    with pytest.raises(DataError, match="does not exist"):
        list_side(str(tmp_path / "missing"))


def test_only_what_a_label_names_is_a_side(tmp_path):
    """Inputs and targets were measured as generated images once, where the label was missing."""
    results = save(tmp_path / "several", ["1_fake_B_1.png", "1_fake_B_2.png", "1_real_A.png", "1_real_B.png"])
    assert sorted(list_side(results, ("fake_B", "fake"), of_test=True).files) == ["1_1", "1_2"]
    assert list(list_side(save(tmp_path / "grey", ["1_fake_B_rgb.png"]), ("fake_B", "fake_B_rgb")).files) == ["1"]
    with pytest.raises(DataError, match=r"holds results of test\.py, and none is named NAME_fake_A"):
        list_side(results, ("fake_A", "fake"), of_test=True)
    assert list(list_side(save(tmp_path / "alone", ["7.png"]), ("fake_B",), of_test=True).files) == ["7"]
    mixed = save(tmp_path / "mixed", ["1.png", "2.png", "3_fake.png"])
    with pytest.raises(DataError, match="holds 1 images NAME_fake_B, and others without such a label"):
        list_side(mixed, ("fake_B", "fake"))


def test_one_side_of_one_test_is_measured(tmp_path):
    """The results of several tests, and both sides of unpaired data, were one set of images once."""
    tests = [f"{test}/images/{n}_{label}.png" for test in ("train_latest", "test_5") for n in (0, 1)
             for label in ("real_A", "fake_B")]  # fmt: skip
    for test in ("train_latest", "test_5"):
        (tmp_path / "results" / test).mkdir(parents=True)
        (tmp_path / "results" / test / "metrics.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds 2 tests: test_5, train_latest; give .* one of them, such as .*test_5"):
        list_side(save(tmp_path / "results", tests), ("fake_B", "fake"))
    assert len(list_side(str(tmp_path / "results" / "test_5"), ("fake_B", "fake"))) == 2
    assert len(list_side(save(tmp_path / "sorted", ["a/images/1.png", "b/images/1.png"]))) == 2  # classes
    by_hand = save(tmp_path / "by_hand", ["cat/images/1_fake.png", "dog/images/1_fake.png"])
    assert len(list_side(by_hand, ("fake_B", "fake"))) == 2
    with pytest.raises(DataError, match=r"holds the images of two sides, valA and valB; give one .*, such as .*valB"):
        list_side(save(tmp_path / "data", ["valA/1.png", "valB/1.png", "trainA/2.png"]))
    assert len(list_side(str(tmp_path / "data" / "valB"))) == 1


def test_one_class_against_all_is_noted(tmp_path):
    real, fake = save(tmp_path / "real", ["cat/1.png", "dog/1.png"]), save(tmp_path / "fake" / "cat", ["7.png"])
    sides = list_side(real), list_side(fake)
    add_classes(*sides)
    assert class_notes(*sides) == [f"cat is a class of {real}, whose images all count; {real}/cat holds its own"]
    for other in (list_side(str(tmp_path / "real" / "cat")), list_side(save(tmp_path / "no", ["cat/1.png"]))):
        assert class_notes(other, sides[1]) == []
    whole = list_side(real), list_side(str(tmp_path / "fake"))
    add_classes(*whole)
    assert class_notes(*whole) == []


def test_a_file_on_both_sides_is_refused(tmp_path):
    real = list_side(save(tmp_path / "real", ["1.png", "fakes/2.png"]))
    fake = list_side(str(tmp_path / "real" / "fakes"))
    with pytest.raises(DataError, match=r"fakes': holds 1 image that .*real holds too, such as .*2\.png"):
        check_apart(real, fake)
    check_apart(real, list_side(save(tmp_path / "other", ["1.png"])))


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_in_one_file_are_not_squashed_in_silence(tmp_path, paired, evaluation):
    """--real with files A|B: the advice that is followed gives another number, and --size says what it does."""
    files = list_side(save(tmp_path / "data", ["1.png", "2.png"], (64, 32)), ("real_B",))
    save(tmp_path / "results", ["1_real_B.png", "2_real_B.png"], (16, 16))
    fake = list_side(save(tmp_path / "results", ["1_fake_B.png", "2_fake_B.png"], (16, 16), 10), ("fake_B",))
    hint = f"if {tmp_path}/data holds pairs A|B, give --real {tmp_path}/results"
    what = "2 real images of 2, such as one of 64x32, differ from the generated ones (16x16) in proportions"
    measure = partial(evaluate_sides, evaluation) if paired else lambda *args: seen(*args)[0]
    assert f"{what}, and are compared distorted; {hint}" in measure(files, fake, (16, 16))
    if paired:
        with pytest.raises(DataError, match=re.escape(f"16x16 and 64x32; {hint}; else resize both with --size WxH")):
            measure(files, fake, None)
    assert measure(list_side(str(tmp_path / "results"), ("real_B",)), fake, None) == []  # the advice
    for size, more in {(16, 24): "", (32, 16): "; if .* a folder of the targets alone", (32, 32): None}.items():
        alone = list_side(save(tmp_path / f"fake{size}", ["1.png", "2.png"], (16, 16)))
        notes = measure(list_side(save(tmp_path / f"{size}", ["1.png", "2.png"], size)), alone, (8, 8))
        assert [bool(re.search(rf"compared distorted{more}$", note)) for note in notes] == [True] * (more is not None)


class Seen:
    """A metric of sets that keeps what it is given."""

    better, paired = "lower", False

    def __init__(self):
        self.given = []

    def update(self, real, fake, labels=None):
        shape = tuple((fake if real is None else real).shape)
        self.given.append(("fake" if real is None else "real", shape, None if labels is None else labels.tolist()))


def seen(real, fake, size=None):
    evaluation, metric = Evaluation((), Settings()), Seen()
    evaluation.metrics = {"seen": metric}
    return evaluate_sides(evaluation, real, fake, size), metric.given


def test_classes_come_from_sub_folders_or_names(tmp_path):
    real = list_side(save(tmp_path / "real", ["rock/1.png", "paper/1.png", "paper/2.png"]))
    written = ["rock_0000_fake.png", "paper_0000_fake.png", "paper_0001_fake.png", "rock_grid.png"]
    fake = list_side(save(tmp_path / "fake", written), ("fake_B", "fake"))
    assert add_classes(real, fake) == ("paper", "rock")
    notes, given = seen(real, fake)
    assert notes == []
    assert given == [("fake", (3, 3, 16, 20), [0, 0, 1]), ("real", (3, 3, 16, 20), [0, 0, 1])]
    other = list_side(save(tmp_path / "other", ["x/1.png"]))
    assert add_classes(real, other) == () and other.labels == {}


def test_the_list_of_a_test_tells_unlike_classes_apart(tmp_path):
    """a/b and a_b, of which a test calls the second a_b_2; Rock and rock, that some disks do not tell apart."""
    stems = {"a_b": "a/b", "a_b_2": "a_b", "Rock": "Rock", "rock_2": "rock", "x y_0001": "x y_0001", "köln": "köln"}
    fake = list_side(save(tmp_path / "fake", [f"{stem}_0000_fake.png" for stem in stems]), ("fake_B", "fake"))
    folders = ["a_b", "Rock", "rock", "x y_0001", "köln"]
    real = list_side(save(tmp_path / "named", [f"{name}/1.png" for name in folders]))
    assert add_classes(real, fake, stems) == ()  # the folder of a/b is not known: it is not that of a_b
    del fake.files["a_b_0000"]
    classes = add_classes(real, fake, stems)
    assert {name: classes[number] for name, number in fake.labels.items()} == {
        f"{stem}_0000": name for stem, name in stems.items() if name != "a/b"
    }
    assert add_classes(real, fake) == ()  # without the list, a_b_2 is no class


def test_a_class_that_is_no_file_name_has_the_folder_of_its_stem(tmp_path):
    fake = list_side(save(tmp_path / "fake", ["a_b_0000_fake.png", "c_0000_fake.png"]), ("fake",))
    real = list_side(save(tmp_path / "real", ["a_b/1.png", "c/1.png"]))
    assert add_classes(real, fake, {"a_b": "a/b", "c": "c"}) == ("a_b", "c") and list(fake.labels.values()) == [0, 1]
    assert add_classes(real, fake, {"c": "c"}) == ()  # the list names none for a_b


def test_real_images_take_the_size_of_the_generated_ones(tmp_path):
    real = list_side(save(tmp_path / "real", [f"{n}.png" for n in range(3)], (40, 40)))
    fake = list_side(save(tmp_path / "fake", [f"{n}.png" for n in range(18)], (16, 12)))
    notes, given = seen(real, fake)
    assert notes[0] == "3 real images of 3 resized to 16x12, the size of the generated ones"
    assert notes[1].startswith("3 real images of 3, such as one of 40x40, differ from the generated ones (16x12) in")
    assert [shape for _, shape, _ in given] == [(16, 3, 12, 16), (2, 3, 12, 16), (3, 3, 12, 16)]
    notes, given = seen(real, fake, (8, 8))
    assert len(notes) == 1 and "(16x12) in proportions, and are compared distorted" in notes[0]
    assert {shape[2:] for _, shape, _ in given} == {(8, 8)}


def test_deep_and_grey_files_are_read_in_their_full_range(tmp_path):
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "deep.png")
    image = read_image(str(tmp_path / "deep.png"))
    assert image.shape == (1, 3, 1, 2) and image[0, :, 0, 0].tolist() == [-1] * 3 and image[0, 0, 0, 1] == 1
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(DataError, match="values of float32, whose range is not known; give --range LO,HI"):
        read_image(str(tmp_path / "x.npy"))
