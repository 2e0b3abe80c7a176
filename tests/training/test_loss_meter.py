"""The loss meter counts what is minimised in a phase's mean, and continues the count of older runs."""

import pytest
import torch
from torch import nn

from models.base import BaseModel, Phase
from tests.support.runs import SMALL, options
from tests.support.training_runs import build
from train import train_step
from training.loss_meter import LossMeter
from training.train_state import TrainState


class Logs(BaseModel):
    """Its loss is 2 and then 4 a step; it also logs parts, and a term that has a gradient later."""

    def __init__(self):
        super().__init__()
        self.G = nn.Linear(1, 1)

    def phases(self):
        return [Phase("G", [self.G], self.loss)]

    def forward(self, batch):
        return {"real": batch["A"]}

    def loss(self, batch, out, now):
        zero = 0 * self.G(batch["A"].mean().view(1, 1)).sum()
        late = zero.detach() + 1 if now.step == 0 else zero + 3
        return {"G": zero + 1, "part": torch.ones(()), "number": 5.0, "late": late}


def losses(meter, accumulate, steps=2):
    state = TrainState.from_options(Logs(), options("--accumulate", str(accumulate)))
    for step in range(steps):
        meter.add(train_step(state, {"A": torch.ones(4, 1)}, state.now(step))[1])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_terms_without_a_gradient_are_logged_not_counted(accumulate):
    meter = LossMeter()
    losses(meter, accumulate)
    assert meter.epoch_means() == {"G": 1, "part": 1, "number": 5, "late": 2}
    assert meter.phase_mean("G") == 3
    copy = LossMeter()
    copy.load_state_dict(meter.state_dict())
    copy.clear()
    losses(copy, accumulate, 1)
    assert (copy.phase_mean("G"), copy.latest.keys()) == (2, meter.latest.keys())


def test_a_run_from_before_counts_all_terms_as_it_did():
    before, meter = LossMeter(), LossMeter()
    losses(before, 1)
    state = before.state_dict()
    del state["no_gradient"]
    meter.load_state_dict(state)
    assert meter.phase_mean("G") == 9
    losses(meter, 1)
    assert meter.phase_mean("G") == 9


@pytest.mark.parametrize("accumulate", [1, 2])
def test_cuts_total_counts_once(accumulate):
    flags = ["--model", "cut", "--netG", "resnet_4blocks", "--batch_size", "2", "--accumulate", accumulate]
    o = options(*map(str, [*SMALL, *flags, "--dataroot", "demo"]))
    loader, model = build(o)
    state, meter = TrainState.from_options(model, o), LossMeter()
    meter.add(train_step(state, loader.example_batch(), state.now(0))[1])
    assert {"G", "G_GAN", "NCE"} <= meter.epoch_means().keys()
    assert meter.phase_mean("G") == meter.epoch_means()["G"]
