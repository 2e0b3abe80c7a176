"""test.py takes one folder or file without a flag; train.py takes none."""

import shlex

import pytest

from options.parse import parse
from tests.support.images import picture


@pytest.fixture(autouse=True)
def _pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sides = [f"pair/{phase}{side}" for phase in ("train", "test") for side in "AB"]
    for name in ("photos", "My Pictures", "My new Pictures", "-odd", *sides):
        (tmp_path / name).mkdir(parents=True)
        picture(1).save(tmp_path / name / "1.png")


@pytest.mark.parametrize("argv", [
    ["photos", "--name", "x"], ["--name", "x", "photos"], ["--eval", "photos"], ["--name", "x", "--", "photos"],
    ["--lr", "1", "photos"],
])  # fmt: skip
def test_the_position_is_the_dataroot(argv):
    if "--lr" in argv:  # a flag of train.py, with its value
        with pytest.raises(ValueError, match="--lr"):
            parse(argv, "test")
        return
    o = parse(argv, "test")
    assert o.dataroot == o.input == "photos" and "dataroot" in o.given
    assert parse(["--dataroot", "photos"], "test").input == ""


def test_a_folder_after_a_valued_switch_is_the_position():
    o = parse(["--model", "test", "--no_dropout", "photos"], "test")
    assert (o.input, o.no_dropout) == ("photos", True)
    assert not parse(["--model", "test", "--no_dropout", "False", "photos"], "test").no_dropout


def test_words_after_two_dashes_are_no_flags():
    assert parse(["--name", "x", "--", "-odd"], "test").dataroot == "-odd"


@pytest.mark.parametrize(("words", "said"), [
    ("photos --dataroot photos", "give one of them"), ("--dataroot photos photos", "give one of them"),
    ("photos 'My Pictures'", "second folder or file beside photos"),
    ("--classes paper rock", "join the words by commas: --classes paper,rock"),
    ("--classes paper rock scissors", "join the words by commas: --classes paper,rock,scissors"),
    ("My Pcitures", "did you mean 'My Pictures'?"), ("pair/testA pair/testB", "that holds both: --dataroot pair"),
    ("--dataroot pair/testA pair/testB/", "that holds both: --dataroot pair"), ("phots photo", "give one: a folder"),
    ("photos pair", "give one of them; or put two folders of unpaired images into one, as testA and testB"),
    ("My Pictures", "put it in quotes: 'My Pictures'"), ("My new Pictures", "put it in quotes: 'My new Pictures'"),
    ("--dataroot My Pictures", "put it in quotes: --dataroot 'My Pictures'"),
    ("--dataroot My new Pictures --eval", "put it in quotes: --dataroot 'My new Pictures'"),
])  # fmt: skip
def test_what_is_no_single_path_is_refused(command, words, said):
    ended = command("test", *shlex.split(words))
    assert ended.code == 2 and said in ended.last and ended.err.count("\n") == 1, ended.err


@pytest.mark.parametrize(("words", "said"), [
    ("photos", "give the images with --dataroot photos"), ("--name x photos", "with --dataroot photos"),
    ("--dataroot pair/trainA pair/trainB", "that holds both: --dataroot pair"),
    ("pair/trainB pair/trainA", "that holds both: --dataroot pair"), ("--name x y", "quotes: --name 'x y'"),
    ("--dataroot photos pair", "give one of them; or put two folders of unpaired images into one, as trainA and"),
    ("--dataroot pair/testA pair/testB", "into one, as trainA"), ("--dataroot photos x", "write --dataroot photos"),
    ("--dataroot My Pictures1", "did you mean --dataroot 'My Pictures'?"), ("nowhere", "does not belong to a flag"),
    ("--dataroot My Pictures", "put it in quotes: --dataroot 'My Pictures'"),
    ("My Pictures", "put it in quotes: --dataroot 'My Pictures'"),
])  # fmt: skip
def test_training_takes_no_position(command, words, said):
    ended = command("train", *shlex.split(words))
    assert ended.code == 2 and said in ended.last, ended.err
