"""Fixtures of stopped and unbroken runs, and comparisons of them, for the tests of resuming."""

import hashlib
import json
import os
import re
import shutil
import time
from itertools import count

import pytest
import torch

from tests.support.runs import ROOT, SMALL
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, TRAINABLE, Page, history, plugin_files, run_in

# A display with which a test stops a run after a step, by signals to itself or by waiting for a byte on stdin.
STOPPER = """
import os, signal
from displays.base import DISPLAYS, Sink

class Stopper(Sink):
    loss_freq = 1
    def __init__(self, o, folder):
        pass
    def losses(self, at, values):
        if str(at.step) in os.environ.get("STOP_AFTER_STEP", "").split(","):
            for name in os.environ["STOP_BY"].split(","):
                os.read(0, 1) if name == "waiting" else signal.raise_signal(signal.Signals[name])

DISPLAYS["stopper"] = Stopper
"""

# A model that draws from all random number generators, has a phase on every second step, and keeps a counter.
NOISY = '''
"""A model made of noise."""
import random

import numpy as np
import torch
from torch import nn

from models.base import BaseModel, Phase


class Noisy(BaseModel):
    dataset_mode = "aligned"

    def __init__(self, o, spec):
        super().__init__()
        self.G, self.D = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)
        self.count = 0

    def phases(self):
        return [Phase("G", [self.G], self.loss_g), Phase("D", [self.D], self.loss_d, every=2)]

    def forward(self, batch):
        self.count += 1
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"])}

    def loss_g(self, batch, out):
        scale = random.random() + np.random.rand() + torch.rand(()) + self.count
        return {"G": scale * out["fake_B"].square().mean()}

    def loss_d(self, batch, out):
        return {"D": self.D(out["fake_B"].detach() + torch.randn_like(out["fake_B"])).square().mean()}

    def get_extra_state(self):
        return {"count": self.count}

    def set_extra_state(self, state):
        self.count = state["count"]
'''

MODELS = [*TRAINABLE, "wgan_gp", "noisy"]
STEPS = 9  # three epochs of batches of 2, 2 and 1
TIMES = {"time", "data", "seconds", "spent"}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")


def flags(model, plugins):
    return [*SMALL, *DEMO, "--plugin", plugins, "--model", model, "--netG", "resnet_4blocks", *own_networks(model),
            "--print_freq", 1,
            "--batch_size", 2, "--n_epochs", 1, "--n_epochs_decay", 2, "--save_epoch_freq", 1, "--pool_size", 3,
            "--displays", "console,html,stopper", "--name", "run"]  # fmt: skip


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """A folder with the two plug-ins above and the example package's GAN."""
    wgan_gp = (ROOT / "examples" / "ganvas_examples" / "ganvas_examples" / "wgan_gp.py").read_text()
    folder = tmp_path_factory.mktemp("plugins")
    with plugin_files(folder, stopper=STOPPER, noisy=NOISY, wgan_gp=wgan_gp):
        yield folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory, plugins):
    """straight(model): the folder of a model's unbroken run; each model is trained once."""
    done = {}

    def folder(model):
        if model not in done:
            done[model] = tmp_path_factory.mktemp(model)
            ended = run_in(done[model], "train", *flags(model, plugins))
            assert ended.code == 0, ended.err
        return done[model] / "checkpoints" / "run"

    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, plugins):
    """stopped(model): the folder with checkpoints/run, stopped in mid-epoch after step 5; each is made once."""
    done = {}

    def folder(model):
        if model not in done:
            done[model] = tmp_path_factory.mktemp(model)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STOP_AFTER_STEP", "5")
                patch.setenv("STOP_BY", "SIGINT")
                assert run_in(done[model], "train", *flags(model, plugins)).code == 130
        return done[model]

    return folder


@pytest.fixture
def copied(stopped, tmp_path, monkeypatch):
    """copied(model): copy the stopped run into this test's folder; return the run's folder."""
    monkeypatch.setenv("STOP_AFTER_STEP", "0")

    def folder(model):
        shutil.copytree(stopped(model) / "checkpoints", tmp_path / "checkpoints")
        return tmp_path / "checkpoints" / "run"

    return folder


def newest(folder):
    return max(folder.glob("state_*.pt"))


def state_of(folder):
    """Return the newest state without times and without options that may differ."""
    state = torch.load(newest(folder), weights_only=True)
    for name in ("seconds", "data_seconds"):
        state["position"].pop(name)
    for name in ("continue_train", "num_threads"):
        state["options"].pop(name)
    return state


def unequal(one, other, place):
    """Return the places where two nested containers of tensors and numbers differ."""
    if type(one) is not type(other):
        return [place]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [place]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{place}: {set(one) ^ set(other)}"]
        return [spot for key in one for spot in unequal(one[key], other[key], f"{place}.{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f"{place}: {len(one)} and {len(other)}"]
        pairs = zip(one, other, strict=True)
        return [spot for i, (a, b) in enumerate(pairs) for spot in unequal(a, b, f"{place}[{i}]")]
    return [] if one == other else [f"{place}: {one} and {other}"]


def record(folder):
    """Return the content of losses.jsonl and loss_log.txt without times."""
    events = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    events = [{k: v for k, v in event.items() if k not in TIMES} for event in events]
    lines = (folder / "loss_log.txt").read_text().splitlines()
    return events, [re.sub(r"time: \S+ data: \S+\)", "", line) for line in lines if not line.startswith("=")]


def differences(one, other):
    """Return all differences of two finished runs: state, weights, logs, images, pages and history."""
    found = unequal(state_of(one), state_of(other), "state")
    found += unequal(
        *({p.name: torch.load(p, weights_only=True) for p in f.glob("*.pth")} for f in (one, other)), "pth"
    )
    found += unequal(*(list(record(f)) for f in (one, other)), "logs")
    pictures = ({str(p): p.read_bytes() for p in (f / "web").rglob("*.png")} for f in (one, other))
    pictures = ({name.rpartition("/web/")[2]: file for name, file in found.items()} for found in pictures)
    pages = ([page.texts, page.images] for page in (Page(f / "web" / "index.html") for f in (one, other)))
    told = (history(f) for f in (one, other))
    return found + unequal(*pictures, "pictures") + unequal(*pages, "pages") + unequal(*told, "history")


def tree_hash(folder):
    """Return a digest of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def stopping(monkeypatch):
    """stopping(step, *signal names): send these signals to the next run after a step; stopping(0) sends none."""

    def at(step, *names):
        monkeypatch.setenv("STOP_AFTER_STEP", str(step))
        monkeypatch.setenv("STOP_BY", ",".join(names))

    return at


YEAR = 365 * 86_400.0
CLOCKS = {"normal": 0.0, "a year back": -YEAR, "a year on": YEAR, "2040": 2_218_000_000.0 - 1_750_000_000.0,
          "an hour back": -3600.0, "jumping": None}  # fmt: skip


def move_clock(name):
    """Shift this process's clock and its files' times by an entry of CLOCKS; "jumping": by a year back and forth."""
    offset, numbers = CLOCKS[name], count()
    real, real_strftime, real_replace = time.time, time.strftime, os.replace

    def shift():
        return offset if offset is not None else YEAR * (-1) ** next(numbers)

    def replaced(one, other, **more):
        real_replace(one, other, **more)
        os.utime(other, (real() + shift(), real() + shift()))

    time.time = lambda: real() + shift()
    time.time_ns = lambda: int(1e9 * (real() + shift()))
    time.strftime = lambda text, *when: real_strftime(text, *(when or [time.localtime(real() + shift())]))
    os.replace = replaced
