"""The data set and model of the page on plug-ins: label and instance maps, objects, and facts of the data set."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.data_folders import save
from tests.support.images import picture
from tests.support.runs import ROOT

PAGE = (ROOT / "docs" / "plugins_more" / "data.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line)[1:] for language, _, text in BLOCKS if language == "sh" for line in text.splitlines()]
MORE = ["--gpu_ids", "-1", "--num_threads", "0"]


@pytest.fixture
def scenes(tmp_path):
    """The page's files and folders; a test image lacks a class that training has."""
    for language, file, text in BLOCKS:
        if language == "python":
            (tmp_path / file).write_text(text)
    for phase, count, classes in (("train", 4, 5), ("test", 2, 2)):
        for n in range(count):
            labels = (np.arange(40)[:, None] // 9 + np.arange(48) // 7 + n) % classes
            labels[:4] = 255
            colours = Image.fromarray(labels.astype(np.uint8), "P")
            colours.putpalette(list(range(256)) * 3)
            name, root = f"{n}.png", tmp_path / "scenes"
            save(colours, root / f"{phase}_label" / name)
            save(Image.fromarray((labels * 1000 + n % 2).astype(np.uint16)), root / f"{phase}_inst" / name)
            save(picture(n, 48, 40), root / f"{phase}_img" / name)
    return tmp_path


def run(command, argv, *more):
    script, *flags = argv
    ended = command(script.removesuffix(".py"), *flags, *more)
    assert ended.code == 0, ended.err
    return ended.out


def test_the_pages_run_is_trained_continued_and_tested(command, scenes):
    train, resume, test = COMMANDS
    run(command, train, *MORE)
    assert "continuing at epoch 2" in run(command, resume)
    out = run(command, test, *MORE[:2])
    assert "spec.things is (0, 1, 2, 3, 4), as in the run; the images here give (0, 1)" in out
    assert "2 images -> " in out and "mean over the images: L1" in out
    stored = json.loads((scenes / "checkpoints" / "scenes" / "options.json").read_text())
    assert stored["own_spec"]["fields"] == {"things": {"tuple": [0, 1, 2, 3, 4]}}
    assert stored["options"]["max_objects"] == 8


@pytest.mark.parametrize("folder", ["train_img", "train_label/"])
def test_a_folder_of_the_data_is_answered_with_the_one_above(command, scenes, folder):
    script, *flags = COMMANDS[0]
    ended = command(script.removesuffix(".py"), *flags, *MORE, "--dataroot", f"scenes/{folder}")
    assert ended.code != 0 and ended.last.endswith("; give --dataroot scenes, the folder above it"), ended.last


def test_a_resumed_run_ends_as_one_that_was_not_stopped(command, scenes):
    train, resume, _ = COMMANDS
    run(command, train, *MORE, "--name", "whole", "--n_epochs", "2")
    run(command, train, *MORE)
    run(command, resume)
    one, other = (
        torch.load(scenes / "checkpoints" / name / "latest_net_G.pth", weights_only=True)
        for name in ("whole", "scenes")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_flag_that_both_declare_differently_is_named(command, scenes):
    file = scenes / "scenes.py"
    file.write_text(file.read_text().replace("max_objects: int = option(8", "max_objects: int = option(9", 1))
    ended = command(*[word.removesuffix(".py") for word in COMMANDS[0][:1]], *COMMANDS[0][1:])
    assert ended.code == 2
    assert (
        "plug-in 'scenes': its flag --max_objects already belongs to model scenes, with default 8 (here 9)"
        in ended.last
    )
