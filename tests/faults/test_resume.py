"""A run that was stopped and continued equals an uninterrupted run, bit for bit."""

import json
import random
import shutil
from functools import partial

import pytest
import torch

from data.listing.files import list_files
from data.loading.sample_order import EpochBatchSampler
from tests.support.resuming import (
    CLOCKS,
    MODELS,
    STEPS,
    copied,
    differences,
    flags,
    move_clock,
    newest,
    plugins,
    record,
    stopped,
    stopping,
    straight,
    unequal,
)
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO, TRAINABLE, plugin_files, rows, run_in, weights

__all__ = ["copied", "plugins", "stopped", "stopping", "straight"]  # fixtures
AGAIN = ["--name", "run", "--continue_train"]
WORKERS = (0, 2)


@pytest.mark.fault(63)
@pytest.mark.parametrize(("step", "workers"), [(3, 0), (5, 2)], ids=["epoch end", "mid-epoch with workers"])
@pytest.mark.parametrize("model", MODELS)
def test_a_stopped_and_continued_run_equals_an_unbroken_one(
    command, straight, stopping, plugins, tmp_path, model, step, workers
):
    """A run is stopped at an epoch's end or in mid-epoch, with workers or without: state, weights, logs and page equal
    those of an uninterrupted run.

    After step 3 an epoch ends, step 5 is the middle of the second; the straight run had no workers.
    """
    stopping(step, "SIGINT")
    ended = command("train", *flags(model, plugins), "--num_threads", workers)
    assert ended.code == 130, ended.err
    folder = tmp_path / "checkpoints" / "run"
    assert newest(folder).name == f"state_{step:09d}.pt"
    where = "after epoch 1" if step == 3 else "in epoch 2"
    assert ended.last == f"stopped and saved {where}; continue with: python train.py --name run --continue_train"
    assert json.loads((folder / "exit.json").read_text())["code"] == 130
    stopping(0)
    ended = command("train", *AGAIN)
    assert ended.code == 0, ended.err
    assert f"continuing at epoch 2, image {0 if step == 3 else 4} of it, step {step}" in ended.out
    assert "changed since" not in ended.out
    assert differences(straight(model), folder) == []
    assert json.loads((folder / "exit.json").read_text())["code"] == 0


@pytest.mark.fault(63)
@pytest.mark.parametrize("how", [
    ("--amp", "fp16"), ("--amp", "bf16", "--memory_format", "channels_last"), ("--accumulate", 2, "--grad_checkpoint")
], ids=lambda how: " ".join(map(str, how)))  # fmt: skip
def test_any_way_of_computing_continues_bit_by_bit(command, stopping, plugins, tmp_path, tmp_path_factory, how):
    """A run with mixed precision and its scaler, another memory format or split batches is stopped and continued: all
    bits are equal.
    """
    unbroken = tmp_path_factory.mktemp("unbroken")
    assert run_in(unbroken, "train", *flags("pix2pix", plugins), *how).code == 0
    stopping(5, "SIGINT")
    assert command("train", *flags("pix2pix", plugins), *how).code == 130
    stopping(0)
    ended = command("train", *AGAIN)
    assert ended.code == 0 and "changed since" not in ended.out, ended.err
    assert differences(unbroken / "checkpoints" / "run", tmp_path / "checkpoints" / "run") == []
    state = torch.load(newest(tmp_path / "checkpoints" / "run"), weights_only=True)
    assert ("scaler" in state) == ("fp16" in how)


@pytest.mark.fault(63)
@pytest.mark.parametrize("model", TRAINABLE)
def test_a_run_stopped_after_every_step_equals_an_unbroken_one(
    command, straight, stopping, plugins, tmp_path, monkeypatch, model
):
    """A run is stopped after each of its steps, by SIGINT and SIGTERM in turn, and continued each time: all bits are
    equal.

    The rehearsal of a step, which would take most of the time, is left out here; the tests above have it.
    """
    monkeypatch.setattr("train.run_preflight", lambda *_: None)
    for step in range(1, STEPS):
        stopping(step, "SIGTERM" if step % 2 else "SIGINT")
        ended = command("train", *(flags(model, plugins) if step == 1 else AGAIN))
        assert ended.code == (143 if step % 2 else 130), ended.err
    stopping(0)
    assert command("train", *AGAIN).code == 0
    assert differences(straight(model), tmp_path / "checkpoints" / "run") == []


@pytest.mark.fault(63)
def test_every_model_continues_bit_by_bit_in_fresh_processes(process, plugins, tmp_path, full, record_property):
    """Every model is stopped at an epoch's end and at a random step, with 0 and 2 workers: the next 50 steps are equal
    in all bits.

    Stopped and continued each in a process of its own, continued with the other number of workers.
    """
    cases = [(m, moment, w) for m in MODELS for moment in ("epoch end", "mid-epoch") for w in WORKERS]
    if not full:
        cases = random.Random(63).sample(cases, 2)
    an_epoch, epochs = (8, 9) if full else (3, 4)
    long = ["--max_dataset_size", 2 * an_epoch - 1, "--n_epochs", 3, "--n_epochs_decay", epochs - 3]
    unbroken, broken, fewest = {}, [], 10**9
    for model, moment, workers in cases:
        argv = [*flags(model, plugins), *long]
        if model not in unbroken:
            (tmp_path / model).mkdir()
            unbroken[model] = tmp_path / model / "checkpoints" / "run"
            ended = run_in(tmp_path / model, "train", *argv)
            assert ended.code == 0, ended.err
        draw = random.Random(f"{model} {workers}").randrange(1, an_epoch)
        step = 2 * an_epoch if moment == "epoch end" else an_epoch + draw
        fewest = min(fewest, an_epoch * epochs - step)
        ended = process("train", *argv, "--num_threads", workers, STOP_AFTER_STEP=str(step), STOP_BY="SIGTERM")
        assert ended.code == 143, ended.err
        ended = process("train", *AGAIN, "--num_threads", 2 - workers)
        assert ended.code == 0, ended.err
        assert f"step {step}\n" in ended.out
        found = differences(unbroken[model], tmp_path / "checkpoints" / "run")
        broken += [f"{model}, {moment} (step {step}), {workers} workers: {found[:5]}"] if found else []
        shutil.rmtree(tmp_path / "checkpoints")
    equal = len(cases) - len(broken)
    record_property("resume matrix", f"{equal} of {len(cases)} bit-equal over {fewest} steps and more")
    assert broken == []
    assert fewest >= 50 or not full


@pytest.mark.fault(63)
def test_sheets_of_epochs_before_the_stop_stay_on_the_page(command, stopping, plugins, tmp_path):
    """A run is stopped after its last sheet of generated images and continued: the page has that row once."""
    few = [*flags("cgan", plugins), "--sample_epoch_freq", 2]
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_in(whole, "train", *few).code == 0
    stopping(7, "SIGINT")
    assert command("train", *few).code == 130
    stopping(0)
    assert command("train", *AGAIN).code == 0
    assert differences(whole / "checkpoints" / "run", tmp_path / "checkpoints" / "run") == []


# a model that writes down which pictures each of its steps was given
SEEING = '''
"""Writes down what it sees."""
import os

from torch import nn

from models.base import BaseModel, Phase


class Seeing(BaseModel):
    dataset_mode = "aligned"

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(3, 3, 1)

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        if self.training and not batch["A"].is_meta:
            with open(os.environ["SEEN"], "a") as file:
                print(*batch["path_A"], file=file)
        return {"fake_B": self.G(batch["A"])}

    def loss(self, batch, out):
        return {"G": out["fake_B"].square().mean()}
'''
IMAGES, EPOCHS = 7, 3


def steps_seen(process, folder, argv, by, rng, attempts):
    """Train with stops or kills at random steps; return what each step that counts was given, as lines of paths."""
    kept: list[str] = []
    for attempt in range(attempts + 1):
        step = 0 if attempt == attempts else rng.randrange(len(kept) + 1, len(kept) + 5)
        seen = folder / f"seen{attempt}"
        afresh = [*argv, *["--overwrite"][: int(attempt > 0)]]
        workers = 0 if by == "SIGKILL" else rng.choice(WORKERS)
        ended = process(
            "train",
            *(AGAIN if kept else afresh),
            "--num_threads",
            workers,
            SEEN=str(seen),
            STOP_AFTER_STEP=str(step),
            STOP_BY=by,
        )
        states = list((folder / "checkpoints" / "run").glob("state_*.pt"))
        kept += seen.read_text().splitlines()
        kept = kept[: int(max(states).stem[6:]) if states else 0]  # what came later is lost, and done again
        if ended.code == 0:
            return kept
        assert ended.code == (-9 if by == "SIGKILL" else 143), ended.err
    raise AssertionError("it never came to its end")


@pytest.mark.fault(65)
@pytest.mark.parametrize("by", ["SIGTERM", "SIGKILL"])
def test_each_sample_comes_once_an_epoch_over_stops(process, plugins, tmp_path, full, by, record_property):
    """A run is stopped or killed at random steps and continued: each epoch has each sample once, in the uninterrupted
    order.
    """
    cases = [(batch, drop, n) for batch in (1, 2, 3) for drop in (False, True) for n in range(4)]
    cases = cases if full else random.Random(by).sample(cases, 1)
    (tmp_path / "p").mkdir()
    with plugin_files(tmp_path / "p", seeing=SEEING):
        for batch, drop_last, number in cases:
            folder = tmp_path / "checkpoints"
            argv = [*SMALL, *DEMO, "--plugin", tmp_path / "p", "--plugin", plugins, "--model", "seeing", "--name",
                    "run", "--batch_size", batch, "--max_dataset_size", IMAGES, "--n_epochs", EPOCHS,
                    "--n_epochs_decay", 0, "--displays", "console,stopper", "--save_latest_freq", 2]  # fmt: skip
            argv += ["--drop_last"] if drop_last else []
            rng = random.Random(f"{by} {batch} {drop_last} {number}")
            kept = steps_seen(process, tmp_path, argv, by, rng, 5 if full else 2)
            order, names = EpochBatchSampler(IMAGES, batch, 0, True, drop_last), list_files("demo/train")
            for epoch in range(1, EPOCHS + 1):
                order.epoch = epoch
                wanted = [" ".join(names[index] for _, index in keys) for keys in order]
                mine = kept[(epoch - 1) * len(order) : epoch * len(order)]
                assert mine == wanted, (batch, drop_last, number)
                paths = " ".join(mine).split()
                assert len(paths) == len(set(paths)) == (IMAGES // batch * batch if drop_last else IMAGES)
            assert len(kept) == EPOCHS * len(order)
            shutil.rmtree(folder)
            for seen in tmp_path.glob("seen*"):
                seen.unlink()
    record_property(f"runs ended by {by} and continued, each sample once an epoch", f"{len(cases)} of {len(cases)}")


@pytest.mark.fault(66)
def test_two_runs_from_one_state_are_equal(process, copied, plugins, tmp_path):
    """Two runs are continued from one state: all bits are equal; steps that a kill lost are logged once, not twice."""
    folder = copied("pix2pix")
    killed = process("train", *AGAIN, "--save_epoch_freq", 5, STOP_AFTER_STEP="8", STOP_BY="SIGKILL")
    assert killed.code == -9, killed.err
    assert newest(folder).name == "state_000000005.pt" and rows(folder)[0][-1]["step"] == 8
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "twin" / "checkpoints")
    ended = process("train", *AGAIN)
    assert ended.code == 0, ended.err
    (tmp_path / "checkpoints").rename(tmp_path / "one")
    (tmp_path / "twin" / "checkpoints").rename(tmp_path / "checkpoints")
    assert process("train", *AGAIN).code == 0
    one, other = tmp_path / "one" / "run", tmp_path / "checkpoints" / "run"
    assert differences(one, other) == []
    steps, epochs = rows(one)
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    lines = record(one)[1]
    assert len(lines) == len(set(lines)) == STEPS


@pytest.mark.fault(67)
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize(("model", "deterministic"), [("pix2pix", True), ("noisy", True), ("pix2pix", False)])
def test_a_run_on_a_gpu_continues_bit_by_bit(process, plugins, tmp_path, model, deterministic, record_property):
    """A run on a GPU with --deterministic is stopped and continued: all bits are equal; without the flag, weights agree
    within 1e-3.
    """
    argv = [*flags(model, plugins), "--gpu_ids", 0, "--padding", "zero", *["--deterministic"][: int(deterministic)]]
    assert process("train", *argv).code == 0
    (tmp_path / "checkpoints").rename(tmp_path / "one")
    assert process("train", *argv, STOP_AFTER_STEP="5", STOP_BY="SIGINT").code == 130
    ended = process("train", *AGAIN)
    assert ended.code == 0, ended.err
    one, other = tmp_path / "one" / "run", tmp_path / "checkpoints" / "run"
    if deterministic:
        assert differences(one, other) == []
    pairs = [(a[k], b[k]) for a, b in zip(weights(one).values(), weights(other).values(), strict=True) for k in a]
    most = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    record_property(
        f"resume on a GPU, {model}{', deterministic' if deterministic else ''}", f"weights differ by {most:.1e}"
    )
    assert most < 1e-3


POLICIES = {
    "linear": ["--n_epochs", 2, "--n_epochs_decay", 7],
    "step": ["--n_epochs", 9, "--n_epochs_decay", 0, "--lr_decay_iters", 2],
    "cosine": ["--n_epochs", 5, "--n_epochs_decay", 4],
    "plateau": ["--n_epochs", 9, "--n_epochs_decay", 0],
}


@pytest.mark.fault(68)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_learning_rate_goes_on_where_it_was(command, stopping, plugins, tmp_path, policy):
    """A run of each --lr_policy is stopped three times: the rate of each epoch equals the uninterrupted run's to the
    last bit.

    With a rate of 1e-9 nothing is learnt, so that plateau falls, in epoch 8, counted from before the stops.
    """
    argv = [*flags("noisy", plugins), "--max_dataset_size", 1, "--lr_policy", policy, "--lr", "1e-9",
            *POLICIES[policy]]  # fmt: skip
    if policy == "plateau":  # on losses that stand still
        argv = [*flags("pix2pix", plugins), *argv[len(flags("noisy", plugins)) :]]
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_in(whole, "train", *argv).code == 0
    for number, step in enumerate((3, 5, 8)):
        stopping(step, "SIGINT")
        assert command("train", *(AGAIN if number else argv)).code == 130
    stopping(0)
    assert command("train", *AGAIN).code == 0
    one, other = whole / "checkpoints" / "run", tmp_path / "checkpoints" / "run"
    rates = [row["lr"] for row in rows(one)[1]]
    assert [row["lr"] for row in rows(other)[1]] == rates
    assert len(set(rates)) > 1 and len(rates) == 9
    states = [torch.load(newest(f), weights_only=True)["optimizers"] for f in (one, other)]
    assert unequal(*states, "optimizers") == []


@pytest.mark.fault(69)
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_moves_changes_nothing(process, straight, plugins, tmp_path, clock):
    """The clock is set back a year, forward, to 2040 or over DST, between save and resume or during a run: the results
    are the same.

    Not the order of states, which goes by step; and no duration is negative.
    """
    jump = partial(move_clock, clock)
    argv = [*flags("pix2pix", plugins), "--keep_last", 3, "--save_latest_freq", 2]
    ended = process("train", *argv, before=partial(move_clock, "normal"), STOP_AFTER_STEP="4", STOP_BY="SIGTERM")
    assert ended.code == 143, ended.err
    ended = process("train", *AGAIN, before=jump, STOP_AFTER_STEP="6", STOP_BY="SIGTERM")
    assert ended.code == 143 and "of it, step 4\n" in ended.out, ended.err
    ended = process("train", *AGAIN, "--keep_last", 2, before=partial(move_clock, "normal"))
    assert ended.code == 0 and "of it, step 6\n" in ended.out, ended.err
    folder = tmp_path / "checkpoints" / "run"
    assert sorted(p.name for p in folder.glob("state_*.pt")) == ["state_000000008.pt", "state_000000009.pt"]
    steps, epochs = rows(folder)
    assert all(row["time"] >= 0 and row["data"] >= 0 for row in steps)
    assert all(0 <= row["seconds"] < 1000 for row in epochs)
    kept, was = (torch.load(newest(f), weights_only=True) for f in (folder, straight("pix2pix")))
    for name in ("model", "optimizers", "means", "history", "generators"):
        assert unequal(kept[name], was[name], name) == []
    assert record(folder) == record(straight("pix2pix"))
