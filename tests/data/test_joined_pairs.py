"""Files of A|B are told from single images by the proportions of their halves."""

import numpy as np
import pytest

from data.joined_pairs import MAX_MEASURED_FILES, fits_pair
from tests.support.data_folders import make, save
from tests.support.images import picture
from util.errors import DataError
from util.size import Size


@pytest.mark.parametrize(("width", "height", "trained", "fits"), [
    (512, 256, (1, 1), True), (256, 256, (1, 1), False), (300, 200, (1, 1), False), (1920, 1080, (1, 1), False),
    (1200, 600, (1, 1), True), (602, 300, (1, 1), True), (601, 300, (1, 1), True), (620, 300, (1, 1), False),
    (800, 300, (4 / 3, 4 / 3), True), (400, 300, (4 / 3, 4 / 3), False), (600, 300, (4 / 3, 4 / 3), False),
    (300, 300, (0.5, 0.5), True), (600, 300, (0.5, 0.5), False), (64, 64, (0.4, 1.6), True),
    (700, 300, (1, 4 / 3), True), (300, 300, (1, 4 / 3), False), (33, 16, (1, 1), True), (30, 16, (1, 1), True),
    (2, 1, (1, 1), True), (300, 200, None, True), (200, 200, None, False),
])  # fmt: skip
def test_a_file_is_a_pair_by_the_proportions_of_its_halves(width, height, trained, fits):
    assert fits_pair(Size(width, height), trained) == fits


@pytest.mark.parametrize("layout", ["joined", "sides"])
def test_training_records_the_proportions_of_its_images(tmp_path, layout):
    for number, (width, height) in enumerate([(48, 40), (48, 40), (30, 60)]):
        if layout == "joined":
            save(picture(number, 2 * width, height), tmp_path / "train" / f"{number}.png")
        else:
            for side in "AB":
                save(picture(number, width, height), tmp_path / f"train{side}" / f"{number}.png")
    assert make("aligned", tmp_path).spec().pair_proportions == (0.5, 1.2)


def test_the_line_of_pairs_tells_the_size_of_a_half(tmp_path):
    save(picture(1, 96, 40), tmp_path / "train" / "1.png")
    assert make("aligned", tmp_path).notes == ["pairs: train, 1 file of A|B, halves of 48x40"]
    save(picture(1, 96, 50), tmp_path / "train" / "2.png")
    assert make("aligned", tmp_path).notes == ["pairs: train, 2 files of A|B, halves of 48x40 and others"]


def test_files_that_are_not_wider_than_high_are_asked_about(tmp_path):
    """With the names of the models for other images, from the registry; each file is still read as a pair."""
    save(picture(1, 96, 40), tmp_path / "train" / "1.png")
    save(picture(2, 60, 60), tmp_path / "train" / "2.png")
    dataset = make("aligned", tmp_path)
    assert len(dataset.notes) == 2 and "B" in dataset[1]
    assert dataset.notes[1].startswith("question: are these pairs of A|B? 1 of 2 files are not wider than high")
    assert (
        "2.png (60x60)" in dataset.notes[1] and "; if not, use --model cgan or --model gan (python " in dataset.notes[1]
    )
    assert "pix2pix" not in dataset.notes[1] and " test" not in dataset.notes[1]


PHOTOGRAPHS = [(60, 40), (64, 48), (70, 40)]  # 3:2, 4:3, 16:9


@pytest.mark.parametrize(("sizes", "asks"), [
    (PHOTOGRAPHS, True), ([*PHOTOGRAPHS, (80, 40)], True), ([(80, 40), (120, 40), (60, 40)], False),
    ([(80, 40)] * 3, False), ([(78, 40)], False), ([(60, 40)], True),
])  # fmt: skip
def test_photographs_are_asked_about_but_remain_suggested(tmp_path, sizes, asks):
    """Pairs of upright images have the same sizes, so that only the user knows."""
    for number, (width, height) in enumerate(sizes):
        save(picture(number, width, height), tmp_path / "train" / f"{number}.png")
    dataset = make("aligned", tmp_path)
    questions = [note for note in dataset.notes if note.startswith("question: are these pairs of A|B? ")]
    assert len(questions) == asks and not dataset.questions and "B" in dataset[0]
    assert all(
        text in line for line in questions for text in ("narrower than two squares", "; if not, use --model cgan")
    )
    assert all("here 30x40" in line for line in questions)
    assert not any("question" in note for note in make("aligned", tmp_path, "--pairs", "joined").notes)


@pytest.mark.parametrize(("mode", "files", "asked"), [
    ("labeled", ["train/0.png", "train/1.png"], "are these single images? They are twice as wide as high (80x40), "),
    ("colorization", ["train/0.png"], "are these single images? They are twice as wide as high (80x40), "),
    ("labeled", ["train/0.png", "shore/0.png"], "is train the folder of a phase? It may be a class beside shore"),
    ("aligned", ["train/A/0.png", "train/A/1.png", "train/B/0.png"], "are these pairs of A|B? they are in folders "),
    ("labeled", ["images/0.png", "Masks/0.png"], "is Masks a class? It may hold the other sides of pairs, "),
    ("labeled", ["A/0.png", "B/0.png"], "are A and B two classes? They may be the two sides"),
    ("labeled", ["all/a/0.png", "all/b/0.png"], "is all one class? "),
])  # fmt: skip
def test_a_question_asks_whether_the_data_are_as_taken(tmp_path, mode, files, asked):
    """The advice that follows it begins with "if not"."""
    for number, file in enumerate(files):
        save(picture(number, 80, 40), tmp_path / file)
    (note,) = (note for note in make(mode, tmp_path).notes if note.startswith("question: "))
    assert note.startswith(f"question: {asked}")
    assert "single images" not in asked or "; if not, use --model pix2pix (" in note


@pytest.mark.parametrize("flags", [(), ("--split", "0.9")])
def test_loose_photographs_are_asked_about_too(tmp_path, flags):
    """The error names both ways; the one with --split trains, with the question."""
    for number in range(12):
        save(picture(number, 60, 40), tmp_path / f"{number}.png")
    if flags:
        assert sum("question: are these pairs" in note for note in make("aligned", tmp_path, *flags).notes) == 1
        return
    with pytest.raises(
        DataError, match=r"are these pairs .*; if so, use --split 0\.9 .*; if not, use --model cgan or --model gan \("
    ):
        make("aligned", tmp_path)


def test_a_plugin_with_a_data_set_of_its_own_is_named_too(tmp_path):
    from registry import discovery

    save(picture(2, 60, 60), tmp_path / "train" / "2.png")
    source = "from models.base import BaseModel\n\n\nclass Mine(BaseModel):\n    dataset_mode = 'labeled'\n"
    (tmp_path / "my_gan.py").write_text(source)
    discovery.clear()
    discovery.add_paths([tmp_path / "my_gan.py"])
    assert "use --model my_gan or --model cgan or --model gan (python" in make("aligned", tmp_path).notes[1]
    discovery.clear()


def test_few_headers_are_read_of_many_files(tmp_path, monkeypatch):
    number = MAX_MEASURED_FILES + 50
    for i in range(number):
        save(picture(1, 8, 4), tmp_path / "train" / f"{i}.bmp")
    read = []
    monkeypatch.setattr("data.joined_pairs.read_header", lambda path, _: read.append(path))
    with pytest.raises(AttributeError):  # it returns no header
        make("aligned", tmp_path)
    assert 0 < len(read) <= MAX_MEASURED_FILES


def test_arrays_are_measured_by_their_pixels(tmp_path):
    """Their headers do not say which axis is which."""
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train" / "square.npy", np.zeros((16, 16, 3), np.uint8))
    np.save(tmp_path / "train" / "wide.npy", np.zeros((16, 32, 3), np.uint8))
    dataset = make("aligned", tmp_path)
    dataset.separate_single_images((1.0, 1.0))
    assert dataset.pair_count == 1 and dataset.paths[0].endswith("wide.npy") and "B" not in dataset[1]
