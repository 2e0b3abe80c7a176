"""Counts in messages are in the singular where they are 1."""

import re

import pytest

from tests.support.images import picture
from tests.support.runs import SMALL
from util.errors import are_text, count_text


@pytest.mark.parametrize(("number", "noun", "text"), [
    (1, "image", "1 image"), (2, "image", "2 images"), (0, "file", "0 files"), (2, "class", "2 classes"),
    (1, "class", "1 class"), (3, "batch", "3 batches"), (1, "other file", "1 other file"),
])  # fmt: skip
def test_a_count_has_its_noun_in_the_right_number(number, noun, text):
    assert count_text(number, noun) == text
    assert are_text(number, noun) == f"{text} {'is' if number == 1 else 'are'}"


def test_a_run_of_one_image_and_one_epoch_says_so(command, tmp_path):
    """Training, resuming, testing and a dry run print no "1 images"."""
    for phase in ("train", "test"):
        (tmp_path / "data" / phase).mkdir(parents=True)
        picture(1, 80, 40).save(tmp_path / "data" / phase / "1.png")
        (tmp_path / "data" / phase / "1.heic").touch()
    argv = ["--model", "pix2pix", "--dataroot", "data", "--n_epochs", 1, "--n_epochs_decay", 0, "--batch_size", 2]
    commands = [["train", *SMALL, *argv, "--name", "one"], ["train", "--name", "one", "--continue_train"]]
    commands += [["test", "--name", "one"], ["train", *SMALL, *argv, "--dry_run"]]
    said = ""
    for words in commands:
        ended = command(*words)
        assert ended.code == 0, ended.err
        said += ended.out
    assert not re.search(r"(?<![\d.])1 (\w+ )?(images|files|pairs|epochs|steps|classes)\b", said), said
    assert all(
        text in said for text in ("1 image, 1 step an epoch", "1 file of A|B", "1 image ->", "1 epoch is trained")
    )
