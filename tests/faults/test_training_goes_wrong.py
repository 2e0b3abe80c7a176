"""NaN losses and weights, dead workers and frozen runs end or continue as documented."""

import json
import re
import subprocess
import threading
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from displays import watchdog
from serialization import weight_files
from tests.support.fault_injection import limit, small_shared_memory
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO, rows
from training.nan_guard import MAX_ROLLBACKS, MAX_SKIPS_IN_ROW, NanGuard
from util.errors import Diverged
from util.progress import Progress

# a model whose loss is not finite at the steps named, and whose weights an infinite slope spoils at another
FAULTY = '''
"""Faulty on demand."""
import os

import torch
from torch import nn

from models.base import BaseModel, Phase


class Faulty(BaseModel):
    dataset_mode = "aligned"

    def __init__(self, o, spec):
        super().__init__()
        self.G, self.D = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):
        self.steps += self.training and not self.steps.is_meta
        return {"real_A": batch["A"], "fake_B": self.G(batch["A"])}

    def at(self, name):
        return not self.steps.is_meta and str(int(self.steps)) in os.environ.get(name, "").split(",")

    def loss_d(self, batch, out):
        return {"D": self.D(out["fake_B"].detach()).square().mean()}

    def loss_g(self, batch, out):
        bad = float("inf") if self.at("INF_AT") else float("nan") if self.at("NAN_AT") else 1.0
        loss = out["fake_B"].square().mean()
        if self.at("SLOPE_AT"):
            loss = loss + torch.sqrt(0 * self.G.weight.sum())  # 0, and its slope is not a number
        return {"G_good": loss, "G_bad": loss * bad}
'''
FLAGS = [*SMALL, "--plugin", "faulty.py", "--model", "faulty", "--dataroot", "demo", "--max_dataset_size", 6,
         "--batch_size", 2, "--n_epochs", 3, "--n_epochs_decay", 0, "--name", "x", "--displays", "console",
         "--print_freq", 2]  # fmt: skip


@pytest.fixture
def train(command, tmp_path, monkeypatch):
    """train(NAN_AT="5", flags...) trains nine steps of three an epoch; a state is saved whenever flags say so."""
    (tmp_path / "faulty.py").write_text(FAULTY)

    def run(*flags, **faults):
        for name, value in faults.items():
            monkeypatch.setenv(name, value)
        return command("train", *FLAGS, *flags)

    return run


@pytest.fixture(params=[False, True], ids=["judged at once", "judged a step later"])
def judged_later(request, monkeypatch):
    """Have losses judged as on a CPU, or as on a GPU."""
    monkeypatch.setattr("training.run.NanGuard", lambda *args, deferred: NanGuard(*args, deferred=request.param))
    return request.param


@pytest.mark.fault(70)
@pytest.mark.parametrize(("fault", "word"), [("NAN_AT", "nan"), ("INF_AT", "inf")])
def test_a_loss_that_is_no_number_ends_the_run(train, tmp_path, fault, word, judged_later):
    """A loss is NaN or Inf: exit 6 with the loss, step, images and the last good state, which is unchanged."""
    assert train("--n_epochs", 1).code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "checkpoints/x").glob("*.p*t*")}
    ended = train("--continue_train", "--n_epochs", 3, **{fault: "5"})
    assert ended.code == 6, ended.err
    said = re.fullmatch(
        rf"error: loss 'G_bad': is {word} in epoch 2, step 5 \(images (.*)\); (.*); .*--lr.*", ended.last
    )
    assert said, ended.last
    assert said[1].count("demo/train/") == 4
    assert said[2] == "the last good state is from step 3"
    after = {p.name: p.read_bytes() for p in (tmp_path / "checkpoints/x").glob("*.p*t*")}
    assert {name: after.get(name) for name in before} == before
    assert json.loads((tmp_path / "checkpoints/x/exit.json").read_text())["code"] == 6
    again = train("--continue_train", "--n_epochs", 3, NAN_AT="", INF_AT="")
    assert again.code == 0, again.err


@pytest.mark.fault(70)
def test_a_loss_of_nan_before_any_save_says_so(train):
    """A loss is NaN in the first step: exit 6, and the line says that no state was saved before."""
    ended = train(NAN_AT="1")
    assert (ended.code, "no state was saved before" in ended.last) == (6, True), ended.last


@pytest.mark.fault(70)
def test_weights_that_are_no_numbers_are_never_saved(train, tmp_path, judged_later):
    """The loss is finite but its gradient is not, so weights become NaN at the last step before the epoch's save: they
    are not saved.
    """
    ended = train("--save_epoch_freq", 1, SLOPE_AT="6")
    assert ended.code == 6, ended.err
    assert re.match(r"error: weights 'G\..*': hold NaN or Inf in epoch \d, after step 6; the last good", ended.last)
    assert "state is from step 3;" in ended.last
    for path in (tmp_path / "checkpoints/x").glob("*_net_*.pth"):
        assert all(torch.isfinite(v).all() for v in weight_files.load_weights(path).values())


@pytest.mark.fault(70)
def test_skip_leaves_the_batch_out_and_goes_on(train, tmp_path, judged_later):
    """Losses are NaN in two steps with --on_nan skip: those batches are skipped and reported, and the run ends well."""
    ended = train("--on_nan", "skip", NAN_AT="2,5")
    assert ended.code == 0, ended.err
    assert ended.out.count("batch skipped (1 in a row)") == 2
    assert "loss 'G_bad' is nan in epoch 2, step 5" in ended.out
    logged, _ = rows(tmp_path / "checkpoints/x")
    assert all(v is not None for row in logged for v in row["losses"].values())
    net = weight_files.load_weights(tmp_path / "checkpoints/x/latest_net_G.pth")
    assert all(torch.isfinite(v).all() for v in net.values())


@pytest.mark.fault(70)
def test_skip_gives_up_when_every_batch_is_nan(train):
    """Every loss is NaN with --on_nan skip: exit 6 after a series of batches, not an endless loop."""
    ended = train(
        "--on_nan",
        "skip",
        "--n_epochs",
        MAX_SKIPS_IN_ROW,
        NAN_AT=",".join(map(str, range(4, 4 + 2 * MAX_SKIPS_IN_ROW))),
    )
    assert (ended.code, ended.out.count("batch skipped")) == (6, MAX_SKIPS_IN_ROW), ended.err


@pytest.mark.fault(70)
def test_rollback_returns_to_the_last_good_weights(train, tmp_path):
    """Weights become NaN with --on_nan rollback: the last saved weights and optimisers are restored, and the run ends
    well.
    """
    ended = train("--on_nan", "rollback", "--save_epoch_freq", 1, SLOPE_AT="5")
    assert ended.code == 0, ended.err
    assert "weights and optimisers are restored from step 3" in ended.out
    net = weight_files.load_weights(tmp_path / "checkpoints/x/latest_net_G.pth")
    assert all(torch.isfinite(v).all() for v in net.values())


@pytest.mark.fault(70)
def test_rollback_gives_up_when_nan_returns_each_time(train, judged_later):
    """NaN occurs again and again with --on_nan rollback: exit 6 after three rollbacks, not an endless loop."""
    bad = ",".join(map(str, range(4, 40)))
    ended = train("--on_nan", "rollback", "--save_epoch_freq", 1, "--n_epochs", 12, NAN_AT=bad)
    assert ended.code == 6 and ended.out.count("weights and optimisers are restored from") == MAX_ROLLBACKS, ended.err
    assert judged_later or ended.out.count("are restored from step 3") == MAX_ROLLBACKS


def test_a_loss_of_the_last_step_is_judged_before_it_is_saved(train, tmp_path, judged_later):
    """Nine steps: the ninth is bad, and no tenth comes that would notice."""
    ended = train("--save_epoch_freq", 1, NAN_AT="9")
    assert ended.code == 6 and "in epoch 3, step 9 (" in ended.last and "state is from step 6;" in ended.last, ended.err


def test_losses_are_judged_in_the_next_step_at_the_latest():
    guard, at = NanGuard("stop", lambda: None, lambda: None, deferred=True), Progress()
    assert guard.check_losses({"a": torch.tensor(float("nan"))}, {}, at)
    assert guard.check_losses({"b": torch.tensor(1.0)}, {}, at), "its second phase"
    at.step += 1
    with pytest.raises(Diverged, match="'a': is nan in epoch 1, step 1"):
        guard.check_losses({"a": torch.tensor(1.0)}, {}, at)


def test_a_sum_that_is_no_number_is_told_by_its_terms():
    terms = {"a": torch.tensor(3e38), "b": torch.tensor(3e38)}
    with pytest.raises(Diverged, match=r"'a \+ b': is inf"):
        NanGuard("stop", lambda: None, lambda: None).check_losses(terms, {}, Progress())


def test_a_run_that_freezes_says_where(capfd, monkeypatch):
    """A run hangs for an event; a process that was halted (SIGSTOP) counts one tick only."""
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    dog, said = watchdog.Watchdog(SimpleNamespace(watchdog=0.03), None), threading.Event()
    monkeypatch.setattr(watchdog, "print_line", lambda text, **_: (said.text.append(text), said.set()))
    said.text = []
    dog.start(Progress(epoch=2, step=7))

    def frozen_here():
        assert said.wait(60)

    frozen_here()
    dog.close()
    dog.thread.join(60)
    assert len(said.text) == 1
    assert "note: no step has finished for 0.03 s after step 7 of epoch 2; it hangs in threading.py" in said.text[0]
    assert "frozen_here" in said.text[0]


@pytest.mark.fault(72)
@pytest.mark.parametrize("norm", ["instance", "instance_affine", "batch", "layer", "none"])
@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan"])
def test_pictures_of_one_colour_keep_losses_finite(command, tmp_path, model, norm):
    """Images have a single colour, so the deviation in a norm is 0: losses and weights stay finite."""
    for folder, size in (("train", (64, 32)), ("trainA", (32, 32)), ("trainB", (32, 32))):
        (tmp_path / "flat" / folder).mkdir(parents=True)
        for n, colour in enumerate(((0, 0, 0), (255, 255, 255), (90, 90, 90))):
            Image.new("RGB", size, colour).save(tmp_path / "flat" / folder / f"{n}.png")
    ended = command(
        "train",
        *SMALL,
        "--model",
        model,
        "--netG",
        "resnet_4blocks",
        "--norm",
        norm,
        "--dataroot",
        "flat",
        "--n_epochs",
        2,
        "--n_epochs_decay",
        0,
        "--print_freq",
        1,
        "--name",
        "x",
    )
    assert ended.code == 0, ended.err
    logged, _ = rows(tmp_path / "checkpoints/x")
    assert len(logged) == 6 and all(v is not None for row in logged for v in row["losses"].values())
    for path in (tmp_path / "checkpoints/x").glob("latest_net_*.pth"):
        weight_files.load_weights(path)  # refuses what is not finite


DYING = '''
"""Pairs, of which the fourth kills the worker that loads it."""
import os
import signal
import sys

from torch.utils.data import get_worker_info

from data.aligned import Aligned


class Dying(Aligned):
    def __getitem__(self, index):
        if index == 3 and os.environ["DIES"] and get_worker_info():
            how = os.environ["DIES"]
            os._exit(3) if how == "exit" else os.kill(os.getpid(), getattr(signal, how))
        return super().__getitem__(index)
'''


@pytest.mark.fault(74)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT", "exit"])
def test_a_worker_that_dies_ends_the_run_in_one_line(process, tmp_path, how):
    """A loader worker is killed, crashes or exits: exit 5 in one line with --num_threads; nothing hangs, earlier states
    stay, and the run can be continued.
    """
    (tmp_path / "dying.py").write_text(DYING)
    argv = [*SMALL, *DEMO, "--plugin", "dying.py", "--dataset_mode", "dying", "--model", "pix2pix", "--netG",
            "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0, "--name", "x"]  # fmt: skip
    assert process("train", *argv, DIES="").code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "checkpoints/x").glob("*.p*t*")}
    more = ["--name", "x", "--continue_train", "--n_epochs", 2, "--num_threads", 2]
    ended = process("train", *more, timeout=90, DIES=how)
    assert ended.code == 5, ended.err
    line = "error: worker 'that loads images': died (killed; out of memory?); lower --num_threads"
    said = ended.err.replace("\0", "").strip().splitlines()  # torch's own word of a crash ends in a zero byte
    assert [row for row in said if row.startswith("error")] == [line] and said[-1] == line
    assert {p.name: p.read_bytes() for p in (tmp_path / "checkpoints/x").glob("*.p*t*")} == before
    again = process("train", *more, DIES="")
    assert again.code == 0, again.err


@pytest.mark.fault(75)
def test_workers_need_no_shared_memory(process, tmp_path):
    """/dev/shm has 64 kB, as in containers: workers do not need it, and the run completes."""
    can = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    if not can:
        pytest.skip("a /dev/shm of its own needs root's rights")
    argv = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
            "--max_dataset_size", 4, "--crop_size", 128, "--load_size", 128, "--batch_size", 2]  # fmt: skip
    small = partial(small_shared_memory, "64k")
    for workers in (2, 0):
        ended = process("train", *argv, "--num_threads", workers, "--name", f"x{workers}", before=small, timeout=90)
        assert ended.code == 0, ended.err


@pytest.mark.fault(76)
def test_a_limit_of_open_files_is_named_with_its_remedy(process, tmp_path):
    """Workers exceed the limit of open files: exit 5 with ulimit and --num_threads."""
    argv = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--name", "x", "--num_threads", 16]
    codes = set()
    for files in (16, 20, 24, 28):  # it runs out in another place each time
        limited = partial(limit, "RLIMIT_NOFILE", files)
        ended = process(
            "train", *argv, "--overwrite", "--n_epochs", 1, "--n_epochs_decay", 0, before=limited, timeout=90
        )
        codes.add(ended.code)
        if ended.code:
            assert ended.code == 5, ended.err
            assert "Too many open files" in ended.last and "ulimit -n" in ended.last, ended.err
    assert 5 in codes
