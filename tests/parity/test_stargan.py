"""stargan repeats recorded training steps of its authors' code in float64: PyTorch's default dtype, so without casts.

A trace in tests/parity/stargan is a .json of options, losses (weighted), sums of weights, and the keys and shapes of
each network; and an .npz: for each network all its weights before the first step; pictures A of 8 bits, labels and
drawn targets, and the places between real and generated image for the penalty, (step, N, ...). The loop begins
at a step that trains G: the authors' counter is --n_critic - 1.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data.published.domains import DomainSpec
from networks import penalties
from registry.lookup import find
from tests.parity.replay import relative_difference, trace_options
from train import train_step
from training.run import Run

FOLDER = Path(__file__).parent / "stargan"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(case):
    trace = json.loads((FOLDER / f"{case}.json").read_text())
    return trace | {"model": "stargan"}, dict(np.load(FOLDER / f"{case}.npz"))


def replay(trace, arrays, folder, monkeypatch):
    """Train on a trace; return the losses of each step and the sums of the absolute weights after the last one."""
    o = trace_options(trace, folder)
    size = arrays["A"].shape[-2:]
    spec = DomainSpec(3, 3, *size, classes=tuple(trace["classes"]), attributes=trace["attributes"])
    model = find("model", "stargan")(o, spec)
    for name, shapes in trace["weights"].items():
        net, values = model.networks()[name], torch.from_numpy(arrays[name])
        parts = values.split([math.prod(shape) for shape in shapes.values()])
        state = {key: part.reshape(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}
        counters = {key: value for key, value in net.state_dict().items() if not value.is_floating_point()}
        net.load_state_dict(state | counters)
    run = Run(o, folder, model.double(), torch.device("cpu"), epoch_size=1)
    places = iter(arrays["alpha"])
    monkeypatch.setattr(penalties, "noise", lambda x, *shape, **_: torch.from_numpy(next(places)).reshape(-1, *shape))

    steps = []
    for number, pictures in enumerate(arrays["A"]):
        batch = {"A": (torch.from_numpy(pictures) / 127.5 - 1).double()}
        for key in ("label", "target"):
            values = torch.from_numpy(arrays[key][number])
            batch[key] = values.float() if trace["attributes"] else values.long()
        _, losses = train_step(run.train_state, batch, run.train_state.now(number))
        steps.append({name: float(value.detach()) for terms in losses.values() for name, value in terms.items()})
    assert next(places, None) is None
    return steps, {name: sum(p.abs().sum().item() for p in net.parameters()) for name, net in run.networks().items()}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_equal_the_recorded_ones(case, tmp_path, monkeypatch):
    trace, arrays = load(case)
    steps, sums = replay(trace, arrays, tmp_path, monkeypatch)
    for got, expected in zip(steps, trace["losses"], strict=True):
        assert got.keys() == expected.keys()
        assert max(relative_difference(got[name], expected[name]) for name in expected) < 1e-6
    assert sums.keys() == trace["abs_weight_sum_after"].keys()
    assert max(relative_difference(sums[name], value) for name, value in trace["abs_weight_sum_after"].items()) < 1e-6


@pytest.mark.parametrize("change", [{"lr_D": 1.01e-4}, {"n_critic": 1}, {"lambda_rec": 10.001}])
def test_another_option_gives_other_losses_or_weights(change, tmp_path, monkeypatch):
    trace, arrays = load("folders")
    trace["options"] |= change
    steps, sums = replay(trace, arrays, tmp_path, monkeypatch)
    pairs = [(steps[-1].get(name, 0.0), value) for name, value in trace["losses"][-1].items()]
    pairs += [(sums[name], value) for name, value in trace["abs_weight_sum_after"].items()]
    assert max(relative_difference(*pair) for pair in pairs) > 1e-6
