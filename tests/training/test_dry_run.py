"""--dry_run prints the memory and time that a training run needs, and leaves no file behind."""

import re

import pytest
import torch
from torch import nn

from data.base import Spec
from models.base import BaseModel, Phase
from networks.runtime.apply import apply_runtime_options
from registry.lookup import find
from tests.support.runs import options
from tests.support.small_models import MODELS, TINY, own_networks
from train import train_step
from training.dry_run import count_flops_and_activations, long_duration

TRAINED = [name for name, kind in MODELS.items() if kind.phases is not BaseModel.phases]


@pytest.mark.parametrize("flags", [(), ("--accumulate", 2), ("--grad_checkpoint",), ("--amp", "bf16")])
@pytest.mark.parametrize("model", TRAINED)
def test_every_model_tells_its_numbers_and_writes_nothing(model, flags, command, tmp_path):
    ended = command(
        "train",
        "--dataroot",
        "demo",
        "--model",
        model,
        *TINY,
        *own_networks(model),
        "--load_size",
        32,
        "--crop_size",
        32,
        "--batch_size",
        2,
        "--gpu_ids",
        -1,
        "--dry_run",
        *flags,
    )
    assert ended.code == 0, ended.err
    assert model != "pix2pix" or "pairs: train, 64 files of A|B" in ended.out  # as in a training
    assert re.search(r"^2 images a step, \d+ steps an epoch, \d+ epochs$", ended.out, re.MULTILINE)
    assert re.search(r"^\d\.\d{3} M parameters; [\d.]+ [kMG]B with", ended.out, re.MULTILINE)
    assert re.search(r"^[\d.]+ GFLOP a step; activations of [\d.]+ [kMG]B are kept", ended.out, re.MULTILINE), ended.out
    assert re.search(
        r"^[\d.]+ (min|h|days) for all \d+ epochs: an extrapolation of (the second step|steps with)",
        ended.out,
        re.MULTILINE,
    )
    assert not (tmp_path / "checkpoints").exists()


class Layered(BaseModel):
    """Two convolutions, of which everything is known."""

    def __init__(self):
        super().__init__()
        self.G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 3, 1, bias=False))

    def phases(self):
        return [Phase("G", [self.G], lambda batch, out: {"G": out["fake_B"].mean()})]

    def forward(self, batch):
        return {"fake_B": self.G(batch["A"])}


def test_operations_and_activations_are_those_of_the_layers():
    n, side = 2, 16
    flops, kept = count_flops_and_activations(
        train_step, options(), Layered().train(), {"A": torch.rand(n, 3, side, side)}
    )
    pixels = n * side * side
    first, second = 2 * pixels * 3 * 8 * 9, 2 * pixels * 8 * 3
    assert flops == 2 * first + 3 * second  # nobody needs the gradient of the input
    assert kept == 4 * pixels * (3 + 8)  # the input, and what ReLU gives


def counted_with(*flags):
    o = options("--model", "pix2pix", "--netG", "unet_64", "--ngf", "4", "--ndf", "4", *flags)
    model = find("model", "pix2pix")(o, Spec(3, 3, 64, 64)).train()
    apply_runtime_options(model.networks(), o, torch.device("cpu"))
    batch = {"A": torch.rand(4, 3, 64, 64), "B": torch.rand(4, 3, 64, 64), "path_A": list("abcd")}
    return count_flops_and_activations(train_step, o, model, batch)


def test_parts_and_recomputing_keep_less():
    plain, parts, again = (counted_with(*flags)[1] for flags in [(), ("--accumulate", "4"), ("--grad_checkpoint",)])
    assert parts < 0.4 * plain and again < 0.7 * plain


def test_compiled_networks_are_counted_as_plain_ones():
    assert counted_with("--compile", "default") == counted_with()


def test_long_times_are_told_in_units_that_people_read():
    assert [long_duration(s) for s in (90, 7200, 561 * 3600)] == ["1.5 min", "2 h", "23.4 days"]
