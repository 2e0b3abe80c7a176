"""Every command of README.md runs in its order, with tiny settings, on data that lie as its table says."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from tests.support.images import picture
from tests.support.runs import ROOT, SMALL
from tests.support.training_runs import run_in

README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("horse2zebra/trainA", "horse2zebra/trainB", "horse2zebra/testA", "horse2zebra/testB", "photos/train",
           "photos/test", "faces/train/happy", "faces/train/sad", "faces/test/happy", "faces/test/sad", "hands/rock",
           "hands/paper", "paintings", "PHOTOS")  # fmt: skip
TINY = [*SMALL, "--max_dataset_size", "2", "--n_epochs", "1", "--n_epochs_decay", "0"]
OWN = {  # what else the smallest networks of a model need
    "pix2pix": ["--netG", "unet_32"], "cycle_gan": ["--netG", "resnet_4blocks"], "cut": ["--netG", "resnet_4blocks"],
    "colorization": ["--netG", "unet_32"], "few_images": ["--netG", "sngan_resnet"], "cgan": [],
    "pix2pixhd": ["--netG", "resnet_4blocks", "--no_vgg_loss", "--no_instance"],
    "spade": ["--no_vgg_loss", "--no_instance", "--norm_G", "spectralspadesyncbatch1x1"],
    "stargan": ["--g_repeat_num", "1", "--d_repeat_num", "3"],
}  # fmt: skip


def alternatives(row):
    """Return the commands of a row: the one that it writes out, and those with other words in the same place."""
    first, *others = re.findall(r"`((?:python|--)[^`]*)`", row.rsplit("|", 2)[1])
    return [first, *(re.sub(rf"{other.split()[0]} \S+|--model \S+", other, first, count=1) for other in others)]


ROWS = [row for row in README.splitlines() if row.startswith("|") and "python train.py" in row]
TRAIN = [command for row in ROWS for command in alternatives(row)]
(BLOCK,) = re.findall(r"^```\n(python test\.py.*?)^```", README, re.MULTILINE | re.DOTALL)
RESULTS_ALONE = "python test.py --name NAME --results_only fake_B"
AFTER = [*(line.partition("#")[0].strip() for line in BLOCK.splitlines()), RESULTS_ALONE]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the data of each row of README's table."""
    folder = tmp_path_factory.mktemp("readme")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        for number in range(2):
            picture(number, 40, 40).save(folder / name / f"{number}.png")
    for name in ("facades/train", "facades/test"):
        (folder / name).mkdir(parents=True)
        picture(1, 80, 40).save(folder / name / "1.png")
    for phase in ("train", "test"):
        for part, values in (("label", np.arange(1600).reshape(40, 40) % 35), ("img", None)):
            (folder / f"city/{phase}_{part}").mkdir(parents=True)
            image = picture(3, 40, 40) if values is None else Image.fromarray(values.astype(np.uint8))
            image.save(folder / f"city/{phase}_{part}/1.png")
    return folder


@pytest.fixture(scope="module")
def trained(data):
    """Run the commands of the table, each once; a later one of the same name replaces the earlier run's folder."""
    ended = {}
    for command in TRAIN:
        argv = shlex.split(command)[2:]
        kind = argv[argv.index("--recipe" if "--recipe" in argv else "--model") + 1]
        ended[command] = run_in(data, "train", *argv, *TINY, *OWN[kind], "--overwrite")
    return ended


@pytest.mark.parametrize("command", TRAIN)
def test_the_commands_that_train_run(command, trained):
    assert trained[command].code == 0, trained[command].err


@pytest.mark.parametrize("command", AFTER)
def test_the_commands_for_a_trained_run_run(command, trained, data):
    python, script, *argv = shlex.split(command.replace("NAME", "fac"))
    more = ["--n_epochs", "2"] if script == "train.py" else []
    ended = run_in(data, script.removesuffix(".py"), *argv, *more, "--gpu_ids", "-1")
    assert (python, ended.code) == ("python", 0), ended.err


def test_no_command_of_the_readme_is_left_out():
    """Others are those of make, which CI runs, of the installation, and of the reference, which tests/faults has."""
    found = re.findall(r"python (?:train|test)\.py --[^`#\n]*", README)
    known = {*TRAIN, *AFTER, "python test.py --name NAME --dataroot PHOTOS"}
    assert {command.strip() for command in found} <= known
