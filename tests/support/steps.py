"""Run some training steps of a tiny model, and measure the difference of two such runs."""

from pathlib import Path

import torch

from data.loading.loader import Loader
from models.base import BaseModel
from networks.runtime.apply import apply_runtime_options
from registry.lookup import find
from tests.support.runs import options
from tests.support.small_models import MODELS, TINY, own_networks
from train import train_step
from training.run import Run
from util.device import to_device

TRAINED = [name for name, kind in MODELS.items() if kind.phases is not BaseModel.phases]
CPU = torch.device("cpu")


def trained(model, *flags, steps=3, double=False, prepare=lambda run: None, device=CPU):
    """Train a tiny model for some steps on its dataset's demo; return the run, each step's losses, the last output."""
    o = options(
        "--model",
        model,
        *TINY,
        "--dataroot",
        "demo",
        *own_networks(model),
        "--batch_size",
        "8",
        "--load_size",
        "32",
        "--crop_size",
        "32",
        *map(str, flags),
    )
    dataset = find("dataset", o.dataset_mode)(o)
    spec = dataset.spec()
    torch.manual_seed(0)
    built = find("model", model)(o, spec)
    apply_runtime_options(built.networks(), o, device)
    run = Run(o, Path("run"), built.double() if double else built, device, 1000, spec.classes)
    prepare(run)
    run.set_learning_rates()
    found = []
    for step, batch in zip(range(steps), Loader(dataset, o, shuffle=True).epoch(1), strict=False):
        numbers = {
            k: v.double() if double and torch.is_tensor(v) and v.is_floating_point() else v for k, v in batch.items()
        }
        out, losses = train_step(run.train_state, to_device(numbers, device), run.train_state.now(step))
        terms = {name: value for each in losses.values() for name, value in each.items()}
        found.append({name: float(torch.as_tensor(value).detach()) for name, value in terms.items()})
    return run, found, out


def far(one, other):
    """Return the largest relative difference of two runs' losses, and the largest one of their weights and buffers."""
    losses = max(abs(a[n] - b[n]) / (abs(a[n]) + 1e-9) for a, b in zip(one[1], other[1], strict=True) for n in a)
    states = one[0].model.state_dict(), other[0].model.state_dict()
    return losses, max(
        float((a.double().cpu() - states[1][k].double().cpu()).abs().max())
        for k, a in states[0].items()
        if torch.is_tensor(a) and a.numel()
    )


ALONE = ("--norm", "instance", "--no_dropout")
