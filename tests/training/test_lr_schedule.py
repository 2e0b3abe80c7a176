"""Every learning-rate policy equals its formula, is constant within an epoch, and depends only on the past."""

import math
import random

import pytest
import torch

from registry.lookup import entries
from tests.support.runs import options
from training.lr_schedule import begins_alike, lr_factor
from training.run import Run

NAMES = [e.name for e in entries("lr_policy")]


def shares(policy, epochs, *flags, history=()):
    o = options("--lr_policy", policy, *map(str, flags))
    return [lr_factor(epoch, o, list(history)[: epoch - 1]) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(("flags", "before", "epochs", "alike"), [
    ("--n_epochs 3 --n_epochs_decay 0", {"n_epochs": 1}, 1, True),
    ("--n_epochs 3 --n_epochs_decay 2", {"n_epochs": 1}, 2, False),  # epoch 2 already had a smaller rate
    ("--n_epochs 3 --n_epochs_decay 2", {"n_epochs_decay": 9}, 3, True),
    ("--n_epochs 3 --n_epochs_decay 2", {"n_epochs_decay": 9}, 4, False),
    ("--lr_policy cosine --n_epochs 9", {"n_epochs": 8}, 1, True),  # every length begins with 1
    ("--lr_policy cosine --n_epochs 9", {"n_epochs": 8}, 2, False),
    ("--lr_policy step --lr_decay_iters 4", {"lr_decay_iters": 3}, 3, True),
    ("--lr_policy step --lr_decay_iters 4", {"lr_decay_iters": 3}, 4, False),
    ("--lr_policy plateau", {"lr_policy": "linear"}, 7, True),
])  # fmt: skip
def test_a_changed_schedule_begins_alike_until_its_rates_differ(flags, before, epochs, alike):
    assert begins_alike(options(*flags.split()), before, epochs, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]) is alike


def test_linear_is_constant_and_then_falls_on_a_line():
    """Lengths of 4 + 3: the last epoch still trains at a quarter; 100 + 100 ends at 1/101."""
    assert shares("linear", 7, "--n_epochs", 4, "--n_epochs_decay", 3) == [1, 1, 1, 1, 0.75, 0.5, 0.25]
    default = shares("linear", 200)
    assert default[:100] == [1.0] * 100
    for epoch in range(101, 201):
        assert default[epoch - 1] == pytest.approx(1 - (epoch - 100) / 101, rel=1e-14)
    assert shares("linear", 3, "--n_epochs", 0, "--n_epochs_decay", 3) == [0.75, 0.5, 0.25]
    assert shares("linear", 3, "--n_epochs", 3, "--n_epochs_decay", 0) == [1, 1, 1]


def test_step_is_a_tenth_after_every_lr_decay_iters_epochs():
    got = shares("step", 10, "--lr_decay_iters", 3)
    assert got == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001], rel=1e-14)
    assert shares("step", 101)[49:51] == pytest.approx([1, 0.1])


def test_cosine_falls_over_all_epochs():
    got = shares("cosine", 8, "--n_epochs", 5, "--n_epochs_decay", 3)
    assert got == pytest.approx([(1 + math.cos(math.pi * (epoch - 1) / 8)) / 2 for epoch in range(1, 9)], rel=1e-14)
    assert got[0] == 1
    assert got[4] == pytest.approx(0.5)


def figures(seed, sign):
    """A mean loss an epoch: falling, level, rising a little; with sign -1 as those of a Wasserstein critic."""
    rng = random.Random(seed)
    value, found = 5.0, []
    for _ in range(120):
        value *= rng.choice([0.97, 0.995, 1.0, 1.004, 1.02])
        found.append(sign * value)
    return found


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(6))
def test_plateau_is_torchs_fed_with_the_same_figures(seed, sign):
    """The reference's constants: a fifth, after more than 5 epochs without a fall of 1 %; on a real figure."""
    history = figures(seed, sign)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", factor=0.2, threshold=0.01, patience=5)
    expected = [1.0]
    for figure in history:
        torchs.step(figure)
        expected.append(optimizer.param_groups[0]["lr"])
    got = shares("plateau", len(history) + 1, history=history)
    # torch leaves a rate be when the change would be under 1e-8: compared down to there
    assert len(set(expected)) >= 3
    assert [a for a, b in zip(got, expected, strict=True) if b > 1e-7] == pytest.approx(
        [b for b in expected if b > 1e-7], rel=1e-12
    )


def test_plateau_falls_after_six_epochs_without_progress():
    assert shares("plateau", 14, history=[1.0] * 13) == pytest.approx([1] * 7 + [0.2] * 6 + [0.04])
    falling = [0.9**n for n in range(60)]
    assert shares("plateau", 61, history=falling) == [1] * 61


@pytest.mark.parametrize("policy", NAMES)
def test_no_rate_is_zero_above_lr_or_above_the_one_before(policy):
    """The reference's linear policy trains its last epoch at 0."""
    got = shares(policy, 12, "--n_epochs", 7, "--n_epochs_decay", 5, "--lr_decay_iters", 4, history=[1.0] * 12)
    assert got[0] == 1
    assert all(0 < value <= 1 for value in got)
    assert got == sorted(got, reverse=True)


@pytest.mark.parametrize("policy", NAMES)
def test_a_rate_is_a_function_of_the_epoch_and_the_past_alone(policy):
    """Asked in any order, and with figures of later epochs in the history, it is the same: resuming needs no memory."""
    o = options("--lr_policy", policy, "--n_epochs", "6", "--n_epochs_decay", "24")
    history = figures(3, 1)[:30]
    forward = [lr_factor(epoch, o, history[: epoch - 1]) for epoch in range(1, 31)]
    assert [lr_factor(epoch, o, history) for epoch in range(30, 0, -1)] == forward[::-1]


@pytest.mark.parametrize("policy", NAMES)
def test_a_run_sets_every_optimizer_to_the_epochs_rate(policy, tmp_path):
    """Also a network's own rate, by the same share."""
    from models.base import BaseModel, Phase

    class Two(BaseModel):
        def __init__(self):
            super().__init__()
            self.G, self.D = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

        def phases(self):
            return [Phase("D", [self.D], dict, lr=0.5), Phase("G", [self.G], dict)]

    flags = ("--lr_policy", policy, "--lr", "0.25", "--n_epochs", "3", "--n_epochs_decay", "4", "--lr_decay_iters", "2")
    o = options(*flags, "--checkpoints_dir", str(tmp_path))
    run = Run(o, tmp_path, Two(), torch.device("cpu"), 1)
    rates = []
    for _ in range(7):
        fraction = run.set_learning_rates()
        assert run.optimizers["D"].param_groups[0]["lr"] == pytest.approx(0.5 * fraction)
        rates.append(run.optimizers["G"].param_groups[0]["lr"])
        run.losses.add({"G": {"loss": 1.0}})
        run.end_epoch()
    expected = shares(policy, 7, *flags[2:], history=[1.0] * 7)
    assert rates == pytest.approx([0.25 * value for value in expected])


def test_plateau_follows_the_generators_mean_loss(tmp_path):
    """Its figure is the mean of an epoch of the phase that draws, not of the discriminator's."""
    from models.base import BaseModel, Phase

    class Two(BaseModel):
        averaged = ("G",)

        def __init__(self):
            super().__init__()
            self.G, self.D = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

        def phases(self):
            return [Phase("D", [self.D], dict), Phase("G", [self.G], dict)]

    o = options("--lr_policy", "plateau", "--checkpoints_dir", str(tmp_path))
    run = Run(o, tmp_path, Two(), torch.device("cpu"), 2)
    got = []
    for epoch in range(9):
        got.append(run.set_learning_rates())
        for generator in (1.0, 3.0):  # level in the mean, while the discriminator's keeps falling
            terms = {"G_GAN": torch.tensor(generator, requires_grad=True), "G_L1": torch.ones((), requires_grad=True)}
            run.losses.add({"D": {"D_real": 0.5**epoch}, "G": terms | {"G_GAN_logged": terms["G_GAN"].detach()}})
        run.end_epoch()
    assert run.history == [3.0] * 9
    assert got == pytest.approx([1] * 7 + [0.2] * 2)
