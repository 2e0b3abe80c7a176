"""Each wrong option, file or machine state gives a one-line error with a remedy."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cli.main
from registry.kinds import PART_FLAGS, PART_TABLES
from registry.lookup import entries
from tests.support.images import picture
from tests.support.refusals import PIX2PIX, check, late_picture, without_end
from tests.support.runs import ROOT, SMALL

CYCLE = [*SMALL, "--model", "cycle_gan", "--netG", "resnet_4blocks", "--dataroot", "unpaired", "--n_epochs", "2",
         "--n_epochs_decay", "0", "--name", "run"]  # fmt: skip


def listing(folder):
    """Every path under a folder, and its size."""
    return sorted((str(p.relative_to(folder)), p.stat().st_size if p.is_file() else 0) for p in folder.rglob("*"))


# --- options: exit code 2, and nothing is made

OPTIONS = {
    "crop larger than load": (["--crop_size", 64], ["--load_size", "--crop_size 64"]),
    "too small for D": (["--crop_size", 20], ["--crop_size", "20x20", "at least 24"]),
    "too small for a deeper D": (["--netD", "n_layers", "--n_layers_D", 5], ["--crop_size", "at least 96"]),
    "no epochs": (["--n_epochs", 0], ["--n_epochs", "no epoch"]),
    "preprocess": (["--preprocess", "resize_and_crop_and_spin"], ["--preprocess", "scale_width_and_crop"]),
    "two scalings": (["--preprocess", "resize_and_scale_width"], ["--preprocess", "contradict"]),
    "no number": (["--lr", "fast"], ["--lr", "'fast' is not a number"]),
    "not finite": (["--lr", "nan"], ["--lr", "not a finite number"]),
    "negative": (["--batch_size", -1], ["--batch_size", "at least 1"]),
    "too large": (["--batch_size", 10**9], ["--batch_size", "at most 100000"]),
    "zero": (["--crop_size", 0], ["--crop_size", "at least 1"]),
    "beta1": (["--beta1", 2], ["--beta1", "below 1"]),
    "no whole number": (["--n_epochs", 1.5], ["--n_epochs", "whole number"]),
    "misspelt flag": (["--lamda_L1", 5], ["--lamda_L1", "did you mean --lambda_L1?"]),
    "another command's flag": (["--num_test", 5], ["--num_test", "it belongs to test.py"]),
    "another model's flag": (["--lambda_A", 5], ["--lambda_A", "pix2pix", "cycle_gan"]),
    "abbreviated flag": (["--n_epoch", 5], ["--n_epoch", "did you mean --n_epochs?"]),
    "a stray word": (["stray"], ["'stray'"]),
    "a flag without its value": (["--lr"], ["--lr"]),
    "several devices": (["--gpu_ids", "0,1"], ["--gpu_ids", "torchrun"]),
    "no device": (["--gpu_ids", "abc"], ["--gpu_ids", "'abc'"]),
    "direction": (["--direction", "AtoC"], ["--direction", "AtoB, BtoA"]),
    "epoch": (["--epoch", "last"], ["--epoch", "latest"]),
    "label smoothing of a critic": (["--gan_mode", "hinge", "--label_smoothing", 0.1], ["--label_smoothing", "hinge"]),
    "config absent": (["--config", "none.yaml"], ["--config", "none.yaml", "No such file"]),
    "config malformed": (["--config", "bad.yaml"], ["--config", "bad.yaml"]),
    "config no table": (["--config", "list.json"], ["--config", "list.json", "not a table"]),
    "config unknown flag": (["--config", "unknown.yaml"], ["unknown.yaml", "--lamda_L1", "did you mean --lambda_L1?"]),
    "config wrong value": (["--config", "wrong.yaml"], ["wrong.yaml", "--lr"]),
    "plug-in absent": (["--plugin", "none.py"], ["none.py", "no such file"]),
    "plug-in broken": (["--plugin", "broken.py", "--model", "broken"], ["broken.py", "ZeroDivisionError"]),
    "data without counterparts": (["--dataset_mode", "single"], ["--dataset_mode", "single", "pix2pix"]),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_wrong_options_are_answered_before_anything_is_made(command, files, case):
    flags, said = OPTIONS[case]
    before = listing(files)
    check(command("train", *PIX2PIX, *flags), 2, said)
    assert [row for row in listing(files) if "__pycache__" not in row[0]] == before


@pytest.mark.parametrize("kind", [kind for kind in PART_TABLES if kind != "metric"])
def test_a_wrong_name_is_answered_with_the_right_ones(command, files, kind):
    names = [e.name for e in entries(kind)]
    wrong = names[0][:-1] + "q"
    near = [f"did you mean {names[0]}?"] if len(names[0]) > 2 else []  # two letters are too few for a guess
    before = listing(files)
    ended = command("train", *PIX2PIX, PART_FLAGS[kind], wrong)
    check(ended, 2, [PART_FLAGS[kind], f"there is no {kind} '{wrong}'", *near, *names])
    assert listing(files) == before


def test_identity_between_unequal_channels_names_the_remedy(command, files):
    before = listing(files)
    check(command("train", *CYCLE, "--output_nc", 1), 2, ["--lambda_identity", "3 and 1", "--lambda_identity 0"])
    assert listing(files) == before
    assert command("train", *CYCLE, "--output_nc", 1, "--lambda_identity", 0, "--max_dataset_size", 1).code == 0


# --- data: exit code 3, and nothing is made either


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def broken(text):
    """Return what makes every picture of a folder a file of these bytes."""

    def write(folder):
        for path in folder.iterdir():
            path.write_bytes(text)

    return write


DATA = {
    "no dataroot": (PIX2PIX, "paired", shutil.rmtree, ["--dataroot", "paired", "no such folder"]),
    "dataroot a file": (PIX2PIX, "paired", lambda p: (shutil.rmtree(p), p.touch()), ["paired", "a file"]),
    "no phase folder": (PIX2PIX, "paired/train", shutil.rmtree, ["paired/train", "'test'", "--phase"]),
    "empty folder": (PIX2PIX, "paired/train", empty, ["paired/train", "holds no files"]),
    "no pictures": (PIX2PIX, "paired/train", lambda p: (empty(p), (p / "notes.txt").touch()),
                    ["paired/train", "no images", "notes.txt"]),
    "hidden files": (PIX2PIX, "paired/train", lambda p: (empty(p), (p / ".x.png").touch()), ["paired/train"]),
    "text": (PIX2PIX, "paired/train", broken(b"these are words"), ["paired/train/0.png", "cannot be read"]),
    "empty files": (PIX2PIX, "paired/train", broken(b""), ["paired/train/0.png", "empty file"]),
    "a web page": (PIX2PIX, "paired/train", broken(b"<!DOCTYPE html><p>404"), ["paired/train/0.png", "a web page"]),
    "a pointer": (PIX2PIX, "paired/train", broken(b"version https://git-lfs.github.com/spec/v1\n"),
                  ["paired/train/0.png", "Git LFS"]),
    "one cut short": (PIX2PIX, "paired/train/0.png", without_end, ["paired/train/0.png", "cannot be read"]),
    "a pair of one pixel": (PIX2PIX, "paired/train/0.png", lambda p: picture(1, 1, 9).save(p),
                            ["paired/train/0.png", "1x9", "side by side"]),
    "no A": (CYCLE, "unpaired/trainA", shutil.rmtree, ["unpaired/trainA", "'trainB'"]),
    "no B": (CYCLE, "unpaired/trainB", shutil.rmtree, ["unpaired/trainB", "'trainA'"]),
    "B empty": (CYCLE, "unpaired/trainB", empty, ["unpaired/trainB", "holds no files"]),
    "channels of pairs": ([*PIX2PIX, "--input_nc", "7"], "paired", lambda p: None,
                          ["cannot be converted to 7", "--input_nc"]),
    "channels": ([*CYCLE, "--input_nc", "7", "--output_nc", "7"], "paired", lambda p: None,
                 ["3 channels and cannot be converted to 7", "--input_nc"]),
    "too small a picture": ([*PIX2PIX, "--preprocess", "crop", "--crop_size", "44"], "paired", lambda p: None,
                            ["paired/train/0.png", "48x40", "--crop_size 44"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_wrong_data_is_answered_before_anything_is_made(command, files, case):
    flags, place, spoil, said = DATA[case]
    spoil(files / place)
    before = listing(files)
    check(command("train", *flags), 3, said)
    assert listing(files) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_two_sizes_in_a_batch_are_refused(command, files, workers):
    picture(1, 112, 40).save(files / "paired" / "train" / "3.png")
    ended = command("train", *PIX2PIX, "--preprocess", "none", "--batch_size", 2, "--num_threads", workers)
    check(ended, 3, ["cannot be batched", "--batch_size 1"])
    assert re.search(r"48x40 and 56x40|56x40 and 48x40", ended.last)


def test_a_picture_size_the_network_refuses_in_mid_epoch_is_told(command, files):
    """Unlike the first picture, by which the networks were judged; no traceback of a tensor."""
    picture(1, 40, 16).save(files / "paired" / "train" / "4.png")
    ended = command("train", *PIX2PIX, "--preprocess", "none", "--serial_batches")
    check(ended, 3, ["20x16", "at least"])


def test_test_py_answers_wrong_data_likewise(command, files):
    assert command("train", *PIX2PIX, "--max_dataset_size", 1).code == 0
    before = [row for row in listing(files) if "checkpoints" not in row[0]]
    check(command("test", "--name", "run", "--dataroot", "nowhere"), 3, ["nowhere", "no such folder"])
    check(command("test", "--name", "run", "--dataroot", "paired", "--phase", "val"), 3, ["paired/val", "'train'"])
    assert [row for row in listing(files) if "checkpoints" not in row[0]] == before
    without_end(files / "paired" / "test" / "1.png")
    ended = command("test", "--name", "run", "--dataroot", "paired")
    check(ended, 3, ["image 'paired/test/1.png'", "cannot be read"])


# --- weights: exit code 4


@pytest.fixture
def trained(command, files):
    """A run with the weights latest, 1 and 2."""
    ended = command("train", *PIX2PIX, "--max_dataset_size", 1, "--save_epoch_freq", 1)
    assert ended.code == 0, ended.err
    return files / "checkpoints" / "run"


def test_a_missing_run_is_answered_with_those_there(command, files):
    before = listing(files)
    check(command("test", "--name", "nobody"), 4, ["checkpoints/nobody", "no such folder", "--name"])
    assert listing(files) == before


def test_a_missing_epoch_is_answered_with_those_there(command, trained):
    there = "1_net_G.pth, 2_net_G.pth, latest_net_G.pth"
    said = ["checkpoints/run/7_net_G.pth", there, "--epoch"]
    check(command("test", "--name", "run", "--dataroot", "paired", "--epoch", 7), 4, said)
    said = ["iter_70_net_G.pth", there, "--load_iter"]
    check(command("test", "--name", "run", "--dataroot", "paired", "--load_iter", 70), 4, said)
    check(command("train", "--name", "run", "--continue_train", "--epoch", 7), 4, ["7_net_", "1_net_", "latest_net_"])


def test_a_missing_file_of_weights_is_named(command, trained):
    (trained / "latest_net_G.pth").unlink()
    said = ["checkpoints/run/latest_net_G.pth", "1_net_G.pth, 2_net_G.pth", "--epoch"]
    check(command("test", "--name", "run", "--dataroot", "paired"), 4, said)


def test_the_wrong_model_for_a_run_is_refused(command, trained):
    ended = command("test", "--name", "run", "--dataroot", "unpaired", "--model", "cycle_gan")
    check(ended, 4, ["latest_net_G_A.pth", "latest_net_G.pth", "--model"])


def test_a_discriminator_for_a_generator_is_refused(command, trained):
    shutil.copy(trained / "latest_net_D.pth", trained / "latest_net_G.pth")
    ended = command("test", "--name", "run", "--dataroot", "paired")
    check(ended, 4, ["latest_net_G.pth", "does not fit this network", "'model."])


def test_a_file_of_no_known_generator_is_refused(command, files):
    folder = files / "checkpoints" / "theirs"
    folder.mkdir(parents=True)
    torch.save({"layer.weight": torch.ones(3, 3)}, folder / "latest_net_G.pth")
    ended = command("test", "--name", "theirs", "--dataroot", files / "unpaired" / "testA", "--crop_size", 32)
    check(ended, 4, ["latest_net_G.pth", "--netG"])


# --- the machine: exit code 5


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/run"])
def test_a_file_in_a_folders_place_is_named(command, files, place):
    (files / place).parent.mkdir(exist_ok=True)
    (files / place).write_text("in the way")
    ended = command("train", *PIX2PIX)
    check(ended, 5, ["checkpoints/run", "--checkpoints_dir"])
    assert (files / place).read_text() == "in the way"


@pytest.fixture
def unwritable(tmp_path):
    """Return a folder that is not writable; root ignores permissions, so for root it is /proc/self."""
    if os.geteuid() == 0:
        place = Path("/proc/self")
        if not place.is_dir():
            pytest.skip("root may write everywhere here")
        yield place
        return
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def test_a_folder_without_write_access_is_named(command, files, unwritable):
    ended = command("train", *PIX2PIX, "--checkpoints_dir", unwritable)
    check(ended, 5, [str(unwritable / "run"), "--checkpoints_dir"])


def test_results_that_cannot_be_written_are_one_line(command, trained, files, unwritable):
    ended = command("test", "--name", "run", "--dataroot", "paired", "--results_dir", unwritable)
    check(ended, 5, [str(unwritable / "run"), "--results_dir"])
    (files / "results").write_text("in the way")
    ended = command("test", "--name", "run", "--dataroot", "paired")
    check(ended, 5, ["results/run", "--results_dir"])


@pytest.mark.skipif(torch.cuda.device_count() > 99, reason="this machine has a GPU of that number")
def test_a_missing_device_is_named(command, files):
    ended = command("train", *PIX2PIX, "--gpu_ids", 99)
    check(ended, 5, ["--gpu_ids", "no GPU 99", "--gpu_ids -1"])
    assert not list((files / "checkpoints").rglob("*.pth"))


# --- what a bug of ours looks like


def third_time(monkeypatch, problem):
    """Let a part of ours fail in the third step."""
    from training.loss_meter import LossMeter

    add, calls = LossMeter.add, []

    def failing(self, losses):
        calls.append(0)
        if len(calls) == 3:
            raise problem
        add(self, losses)

    monkeypatch.setattr(LossMeter, "add", failing)


@pytest.mark.parametrize("debug", [False, True])
def test_any_other_error_is_one_line_and_keeps_its_traceback(command, files, debug, monkeypatch):
    third_time(monkeypatch, LookupError("a\x1b[2J strange\nthing"))
    flags = ["--debug"] if debug else []
    ended = command("train", *PIX2PIX, *flags)
    assert ended.code == 1
    assert ended.last.startswith("error: bug 'LookupError': a\\x1b[2J strange") and "please report" in ended.last
    assert ("Traceback" in ended.err) == debug
    assert debug or ended.err.count("\n") == 1
    folder = files / "checkpoints" / "run"
    assert "raise problem" in (folder / "error.log").read_text()
    assert json.loads((folder / "exit.json").read_text())["code"] == 1


def test_the_log_of_an_error_goes_when_the_run_succeeds(command, files):
    name = late_picture(files / "paired" / "train")
    assert command("train", *PIX2PIX, "--fixed_samples", 0, "--serial_batches").code == 3
    folder = files / "checkpoints" / "run"
    assert (folder / "error.log").is_file()
    (files / "paired" / "train" / name).unlink()
    assert command("train", *PIX2PIX).code == 0
    assert not (folder / "error.log").exists()
    assert json.loads((folder / "exit.json").read_text()) == {"code": 0, "message": ""}


def test_drop_last_that_leaves_no_batch_is_refused(command, tmp_path):
    ended = command(
        "train", *SMALL, "--drop_last", "--batch_size", 9, "--max_dataset_size", 3, "--netG", "resnet_4blocks"
    )
    assert ended.code == 2
    assert "'--drop_last'" in ended.last
    assert list(tmp_path.iterdir()) == []


CHOOSY = """
from dataclasses import dataclass
from models.pix2pix import Pix2Pix
from networks import generator
from options.fields import option
from util.image_pool import ImagePool


class Choosy(Pix2Pix):
    defaults = {"netG": "unet_32"}

    @dataclass
    class Options:
        netE: str = option("unet_64", "another network by name", choices="generator")

    def __init__(self, o, spec):
        super().__init__(o, spec)
        self.G.add_module("kept", ImagePool(2))  # a part with state of its own
"""


def test_plug_ins_may_name_generators_in_flags_and_hold_state(command, tmp_path):
    (tmp_path / "choosy.py").write_text(CHOOSY)
    argv = ["--plugin", "choosy.py", "--model", "choosy"]
    wrong = command("train", *argv, "--netE", "unet_65")
    assert wrong.code == 2
    assert "option '--netE': there is no generator 'unet_65'; did you mean unet_64?" in wrong.last
    good = command(
        "train",
        *SMALL,
        *argv,
        "--netE",
        "Unet-128",
        "--n_epochs",
        1,
        "--n_epochs_decay",
        0,
        "--name",
        "c",
        "--max_dataset_size",
        1,
    )
    assert good.code == 0, good.err
    assert command("test", "--name", "c", "--num_test", 1).code == 0


def test_a_default_for_a_flag_that_does_not_exist_is_refused(command, tmp_path):
    (tmp_path / "typo.py").write_text(CHOOSY.replace('"netG"', '"netGG"'))
    ended = command("train", "--plugin", "typo.py", "--model", "typo")
    assert (ended.code, "sets a default for --netGG, which is not a flag" in ended.last) == (2, True)


def test_a_python_without_packages_is_told_the_remedy(tmp_path):
    """-S leaves site-packages out: what a user meets who has not activated the environment."""
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "train.py"), "--name", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "is not installed in this Python; run make, then" in done.stderr.splitlines()[-1]


def test_every_package_of_requirements_is_known_to_be_required():
    """So that one that is missing is an error of the environment; visdom and tornado are optional."""
    modules = {"pillow": "PIL", "PyYAML": "yaml", "visdom": None, "tornado": None}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    named = [match[0] for line in lines if (match := re.match(r"[A-Za-z][\w-]*", line))]
    assert {modules.get(name, name) for name in named} - {None} == set(cli.main._REQUIRED_PACKAGES)


def test_help_into_a_closed_pipe_ends_quietly(tmp_path):
    """train.py --help | head -1."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, str(ROOT / "train.py"), "--help"]
    done = subprocess.run(argv, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
