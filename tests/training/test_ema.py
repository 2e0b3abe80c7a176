"""The average of weights (--ema) is exported, shown and saved, and training does not notice it."""

import contextlib
import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from serialization import checkpoint
from tests.support.resuming import STOPPER, newest, state_of, stopping, unequal
from tests.support.runs import SMALL
from tests.support.steps import trained
from tests.support.training_runs import DEMO, plugin_files, weights
from train import train_step
from training.ema import Ema
from util import disk_space
from util.errors import Diverged

__all__ = ["stopping"]  # a fixture

MEAN = '''
"""A paired GAN of convolutions with batch norm, whose defaults keep an average."""
from torch import nn
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss


class Mean(BaseModel):
    dataset_mode = "aligned"
    defaults = {"ema": 0.8, "lr": 0.01}
    averaged = ("G",)

    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
        self.D = nn.Conv2d(3, 1, 4)
        self.gan = GANLoss("hinge")

    def phases(self):
        return [
            Phase("D", [(self.D, 0.02)], self.loss_d, betas=(0.0, 0.9)),
            Phase("R1", [self.D], self.loss_r1, every=2, lazy_correction=True),
            Phase("G", [self.G], self.loss_g),
        ]

    def forward(self, batch):
        return {"fake_B": self.G(batch["A"]).tanh()} | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        real, fake = self.D(out["real_B"]), self.D(out["fake_B"].detach())
        return {"D_real": self.gan.real(real), "D_fake": self.gan.fake(fake)}

    def loss_r1(self, batch, out):
        return {"R1": self.D.weight.square().sum()}

    def loss_g(self, batch, out):
        l1 = F.l1_loss(out["fake_B"], out["real_B"])
        return {"G_GAN": self.gan.generator(self.D(out["fake_B"])), "G_L1": l1}
'''
LOOSE = MEAN.replace("Mean", "Loose").replace('    averaged = ("G",)\n', "")
RUN = [*SMALL, *DEMO, "--batch_size", 2, "--n_epochs", 1, "--n_epochs_decay", 1, "--print_freq", 1,
       "--save_epoch_freq", 1, "--displays", "console,stopper", "--name", "run"]  # fmt: skip


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    with plugin_files(folder, stopper=STOPPER, mean=MEAN, loose=LOOSE):
        yield folder


@pytest.fixture
def trains(command, plugins, stopping, tmp_path):
    """trains(*flags): train the model above, after a stop too; return (the run's folder, what it printed)."""
    stopping(0)

    def run(*flags, name="run", code=0):
        start = [] if "--continue_train" in flags else [*RUN, "--plugin", plugins, "--model", "mean"]
        ended = command("train", *start, *flags, "--name", name)
        assert ended.code == code, ended.err
        return tmp_path / "checkpoints" / name, ended.out

    return run


def state(folder):
    return torch.load(newest(folder), weights_only=True)


# --- the average itself


def averaged(net, decay, rampup=0.0):
    model = SimpleNamespace(networks=lambda: {"G": net}, averaged=("G",), named_parameters=net.named_parameters)
    return Ema.from_options(model, SimpleNamespace(ema=decay, ema_rampup=rampup))


def test_it_is_the_exponential_moving_average_of_the_weights():
    net = nn.Linear(2, 2).double()
    expected, ema = net.weight.detach().clone(), averaged(net, 0.9)
    for step in range(5):
        with torch.no_grad():
            net.weight += torch.randn(2, 2)
        expected = 0.9 * expected + 0.1 * net.weight.detach()
        ema.update(step)
    assert torch.allclose(ema.averages["weight"], expected, rtol=1e-12)


def test_the_half_life_is_at_most_the_share_of_the_images_seen():
    ema = averaged(nn.Linear(1, 1), 0.999, rampup=0.05)
    assert ema.decay_at(0) == 0.0
    assert ema.decay_at(100) ** (0.05 * 100) == pytest.approx(0.5)  # after 5 steps, half is left
    assert ema.decay_at(10**6) == 0.999
    assert averaged(nn.Linear(1, 1), 0.999).decay_at(0) == 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_networks_hold_the_average_in_its_block_only(dtype):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(dtype)
    ema, first = averaged(net, 0.5), copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for value in [*net.parameters(), *net.buffers()]:
            value += 1
    ema.update(0)
    trained, places = copy.deepcopy(net.state_dict()), [p.data_ptr() for p in net.parameters()]
    with contextlib.suppress(ZeroDivisionError), ema.applied():
        shown = net.state_dict()
        assert torch.allclose(shown["0.weight"], first["0.weight"] + 0.5, atol=0.01)
        assert torch.equal(shown["1.running_mean"], trained["1.running_mean"])  # copied
        assert all(p.dtype == dtype for p in net.parameters())
        raise ZeroDivisionError
    assert unequal(trained, net.state_dict(), "net") == []
    assert [p.data_ptr() for p in net.parameters()] == places
    assert {value.dtype for value in ema.state_dict().values()} == {torch.promote_types(dtype, torch.float32)}


def test_small_changes_of_weights_of_16_bits_are_not_lost():
    net = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(net.weight)
    ema = averaged(net, 0.999)
    nn.init.constant_(net.weight, 2.0)
    for step in range(700):
        ema.update(step)
    assert ema.averages["weight"].item() == pytest.approx(1.5, abs=0.01)


def test_off_it_holds_nothing():
    ema = averaged(nn.Linear(2, 2), 0.0)
    assert ema.state_dict() == {} and ema.notes(("G",), 9) == [] and ema.load_state_dict({}) == []


@pytest.mark.parametrize("change", [{"weight": torch.ones(3)}, {"other": torch.ones(1)}])
def test_an_average_of_other_networks_is_refused(change):
    ema = averaged(nn.Linear(2, 2), 0.9)
    with pytest.raises(ValueError, match="the average of"):
        ema.load_state_dict(ema.state_dict() | change)


# --- runs


def test_exports_and_state_hold_it_and_training_does_not_notice(trains):
    folder, out = trains()
    plain, _ = trains("--ema", 0, name="plain")
    assert "an average of G (--ema 0.8: half-life 3.11 steps) is exported as .pth" in out
    kept, exported = state(folder), weights(folder)
    assert unequal(kept["model"], state(plain)["model"], "model") == [] and "ema" not in state(plain)
    assert all(torch.equal(exported["G"][name.removeprefix("G.")], value) for name, value in kept["ema"].items())
    assert kept["ema"].keys() == {"G.0.weight", "G.0.bias", "G.1.weight", "G.1.bias", "G.3.weight", "G.3.bias"}
    assert not torch.equal(exported["G"]["0.weight"], kept["model"]["G.0.weight"])
    assert torch.equal(exported["G"]["1.running_mean"], kept["model"]["G.1.running_mean"])
    assert torch.equal(exported["D"]["weight"], kept["model"]["D.weight"])
    assert all(value.dtype == torch.float32 for value in kept["ema"].values())
    (folder / "latest_net_G.pth").unlink()  # as if the run had been killed between state and exports
    assert "wrote weights that were missing" in trains("--continue_train")[1]
    assert unequal(exported, weights(folder), "weights") == []


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_moves_once_a_step_whatever_accumulate(accumulate):
    run, _, _ = trained("pix2pix", "--ema", 0.5, "--accumulate", accumulate, steps=1)
    before = {name: value.clone() for name, value in run.ema.averages.items()}
    batch = {"A": torch.rand(2, 3, 32, 32), "B": torch.rand(2, 3, 32, 32)}
    train_step(run.train_state, batch, run.train_state.now(1))
    assert all(torch.allclose(run.ema.averages[n], (before[n] + p) / 2) for n, p in run.ema.parameters.items())


def test_the_page_and_test_py_show_it(trains, command, tmp_path):
    folder, _ = trains("--displays", "html", "--fixed_samples", 1, "--phase", "train", "--val_phase", "test")
    assert command("test", "--name", "run", "--num_test", 1).code == 0
    (result,) = (tmp_path / "results").rglob("*_fake_B.png")
    samples = sorted((folder / "web").rglob("*fake_B*.png"))
    near = [np.abs(np.asarray(Image.open(p), int) - np.asarray(Image.open(result), int)).max() for p in samples
            if Image.open(p).size == Image.open(result).size]  # fmt: skip
    assert min(near) <= 1


@pytest.mark.parametrize("flags", [("--ema_rampup", 0.5, "--optimizer", "rmsprop"), ("--optimizer", "adafactor")])
def test_a_killed_run_ends_bit_equal(trains, start, plugins, tmp_path, flags):
    argv = [*RUN, "--plugin", plugins, "--model", "mean", *flags, "--save_latest_freq", 1]
    whole, _ = trains(*flags, "--save_latest_freq", 1)
    whole = whole.rename(tmp_path / "whole")
    start("train", *argv, STOP_AFTER_STEP="4", STOP_BY="SIGKILL").communicate()
    run, out = trains("--continue_train")
    assert "continuing at epoch" in out and "no average" not in out
    assert unequal(state_of(whole), state_of(run), "state") == []
    assert unequal(weights(whole), weights(run), "weights") == []


def test_a_state_without_one_starts_it_from_its_weights(trains, stopping):
    stopping(4, "SIGINT")
    folder, _ = trains("--ema", 0, code=130)
    before = state(folder)["model"]
    stopping(5, "SIGINT")
    _, out = trains("--continue_train", "--ema", 0.75, code=130)
    assert "note: no average was saved: that of --ema starts from the current weights" in out
    after = state(folder)
    expected = 0.75 * before["G.0.weight"] + 0.25 * after["model"]["G.0.weight"]
    assert torch.allclose(after["ema"]["G.0.weight"], expected, atol=1e-7)


def test_without_the_flag_a_saved_one_is_dropped(trains, stopping):
    stopping(4, "SIGINT")
    trains(code=130)
    stopping(0)
    folder, out = trains("--continue_train", "--ema", 0)
    assert "note: --ema is off: the saved average is dropped, and the weights themselves are exported" in out
    assert "ema" not in state(folder)
    assert torch.equal(weights(folder)["G"]["0.weight"], state(folder)["model"]["G.0.weight"])


@pytest.mark.parametrize("flags", [("--continue_train",), ("--init_from", "checkpoints/run")])
def test_weights_alone_start_it(trains, stopping, flags):
    folder, _ = trains()
    exported = weights(folder)["G"]["0.weight"]
    for path in folder.glob("state_*.pt"):
        path.unlink()
    again = ("--n_epochs", 2) if flags[0] == "--continue_train" else ()
    stopping(1, "SIGINT")
    name = "run" if again else "other"
    ended, out = trains(*flags, *again, name=name, code=130)
    assert ("note: the files of G hold averages (--ema)" in out) is bool(again)
    after = state(ended)
    expected = 0.8 * exported + 0.2 * after["model"]["G.0.weight"]
    assert torch.allclose(after["ema"]["G.0.weight"], expected, atol=1e-7)


def test_a_roll_back_restores_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _, _ = trained("pix2pix", "--ema", 0.5, steps=1)
    run.folder.mkdir()
    run.save("latest")
    saved = {name: value.clone() for name, value in run.ema.state_dict().items()}
    for value in [*run.model.parameters(), *run.ema.averages.values()]:
        value.data.fill_(float("nan"))
    run._roll_back()
    assert unequal(saved, run.ema.state_dict(), "ema") == []


def test_an_average_of_nan_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _, _ = trained("pix2pix", "--ema", 0.5, steps=1)
    next(iter(run.ema.averages.values())).fill_(float("nan"))
    with pytest.raises(Diverged, match="average of G"):
        run.save("latest")


def test_a_state_with_nan_in_it_is_not_used(tmp_path):
    parts = {"model": {}, "optimizers": {}}
    checkpoint.save_state(tmp_path, parts | {"ema": {"w": torch.ones(1)}}, 1, keep=2)
    checkpoint.save_state(tmp_path, parts | {"ema": {"w": torch.full((1,), float("nan"))}}, 2, keep=2)
    state, notes = checkpoint.load_state(tmp_path)
    assert state["ema"]["w"].item() == 1 and "holds NaN or Inf in 'ema.w'" in notes[0]


def test_the_disk_needs_room_for_it(monkeypatch):
    parts = []
    monkeypatch.setattr(disk_space, "check_free_space", lambda folder, needed, *_: parts.append(needed))
    runs = [trained("pix2pix", "--ema", decay, steps=1)[0] for decay in (0, 0.5)]
    for run in runs:
        run.check_disk_space(0)
    weights_of_g = sum(p.nbytes for p in runs[0].model.G.parameters())
    assert parts[1] - parts[0] == max(1, runs[0].o.keep_last + 1) * weights_of_g


def test_a_run_too_short_for_its_average_is_told(trains):
    _, out = trains("--ema", 0.999)
    assert "note: after all 6 steps 99% of the average are the weights that it starts from" in out
    _, out = trains("--ema", 0.999, "--ema_rampup", 0.05, name="ramped")
    assert "after all" not in out and "(--ema 0.999: half-life 693 steps, at most 0.05 of those done)" in out


def test_it_has_no_effect_without_averaged_networks(trains):
    folder, out = trains("--model", "loose", "--ema", 0.9)
    assert "note: --ema has no effect: the model names no networks as averaged" in out
    assert "ema" not in state(folder)
