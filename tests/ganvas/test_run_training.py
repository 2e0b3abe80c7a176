"""ganvas.train gives train.py's weights; ganvas.training stops cleanly, and leaves the caller's process as it is."""

import logging
import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import ganvas
from tests.support.runs import SMALL
from tests.support.training_runs import run_in, weights

FLAGS = {"gpu_ids": -1, "ngf": 4, "ndf": 4, "load_size": 36, "crop_size": [32, 32], "num_threads": 0, "display_id": 0,
         "max_dataset_size": 4, "n_epochs": 1, "n_epochs_decay": 1, "netG": "unet_32", "model": "pix2pix",
         "lambda_L1": 10.0, "no_flip": True, "no_dropout": False, "metrics": ["L1"], "print_freq": 1}  # fmt: skip
TEXT = "--crop_size 32x32 --max_dataset_size 4 --n_epochs 1 --n_epochs_decay 1 --netG unet_32 --model pix2pix"
WORDS = [*SMALL, *TEXT.split(), *"--lambda_L1 10 --no_flip --dropout --metrics L1 --print_freq 1".split()]


def drawn():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def process():
    """Return what no call may change."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return sys.argv[:], dict(os.environ), handlers, set(threading.enumerate()), torch.get_num_threads(), drawn()


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A folder with a run of train.py."""
    where = tmp_path_factory.mktemp("training")
    assert run_in(where, "train", *WORDS, "--name", "command").code == 0
    return where


def test_train_gives_the_weights_of_train_py(ended, monkeypatch, caplog, capsys):
    monkeypatch.chdir(ended)
    before = process()
    with caplog.at_level(logging.INFO, "ganvas"):
        run = ganvas.train(name="called", **FLAGS)
    assert process() == before and capsys.readouterr() == ("", "")
    assert same_weights(run.folder, ended / "checkpoints" / "command")
    assert any("done: 2 epochs" in record.getMessage() for record in caplog.records)
    assert run.folder == Path("checkpoints/called") and run.options["model"] == "pix2pix"
    assert {"epoch", "step", "samples", "at", "G_L1", "D_real"} <= run.losses.keys()
    assert not {"iters", "time"} & run.losses.keys()
    assert run.losses["step"] == list(range(1, 9)) and len(run.losses["G_L1"]) == 8 and run.losses["epoch"][-1] == 2
    assert len(run.metrics["L1"]) == 2 and {"real_A", "fake_B"} <= run.pictures.keys()
    assert "<polyline" in run._repr_html_() and "<img" in run._repr_html_()
    assert run.load(device="cpu")(run.pictures["real_A"]).size == (32, 32)


def same_weights(one, other):
    found, expected = weights(one), weights(other)
    return found.keys() == expected.keys() and all(
        torch.equal(found[net][key], value) for net in found for key, value in expected[net].items()
    )


@pytest.mark.parametrize("steps", [1, 6])
def test_a_caller_who_leaves_the_loop_can_continue(ended, monkeypatch, steps):
    """The caller draws random numbers and translates between steps, which changes nothing for the run."""
    monkeypatch.chdir(ended)
    name, g, kept = f"left{steps}", ganvas.load("checkpoints/command", device="cpu"), process()
    for progress in ganvas.training(name=name, **FLAGS):
        assert process()[:-1] == kept[:-1]
        assert progress.losses.keys() >= {"G_L1", "D_real"} and progress.folder.name == name
        random.random(), torch.rand(3), np.random.rand()
        g(np.zeros((8, 8, 3), np.uint8))
        if progress.step == steps:
            break
    del progress
    assert (Path("checkpoints") / name / f"state_{steps:09d}.pt").is_file()
    run = ganvas.train(name=name, continue_train=True)
    assert same_weights(run.folder, Path("checkpoints/command"))


ERRORS = [
    ({"lamda_L1": 5}, ganvas.OptionError, "--lamda_L1.*did you mean --lambda_L1"),
    ({"dataroot": "nowhere"}, ganvas.DataError, "nowhere"),
    ({"name": "command"}, ganvas.UserError, "command"),
    ({"help": True}, ganvas.OptionError, "command line"),
    ({"dry_run": True}, ganvas.OptionError, "trains nothing"),
    ({"lr": 1e9, "on_nan": "stop", "name": "diverged"}, ganvas.Diverged, "--on_nan|NaN|Inf"),
]


@pytest.mark.parametrize(("flags", "kind", "text"), ERRORS, ids=[next(iter(flags)) for flags, _, _ in ERRORS])
def test_an_error_is_the_commands_line_as_an_exception(ended, monkeypatch, flags, kind, text):
    monkeypatch.chdir(ended)
    before = process()
    with pytest.raises(kind, match=text):
        ganvas.train(**FLAGS | {"name": "bad"} | flags)
    assert process() == before


def test_a_plug_ins_error_names_its_line(ended, monkeypatch, tmp_path):
    monkeypatch.chdir(ended)
    (tmp_path / "faulty.py").write_text(
        "from ganvas import BaseModel\nclass Faulty(BaseModel):\n    def __init__(self, o, spec):\n        1 / 0\n"
    )
    with pytest.raises(ganvas.OptionError, match=r"plug-in 'faulty'.*ZeroDivisionError.*faulty.py, line 4"):
        ganvas.train(model="faulty", plugin=tmp_path / "faulty.py", name="faulty")
