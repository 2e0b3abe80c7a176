"""cut repeats recorded training steps of its authors' code: weights, inputs and draws of five steps in float64.

A trace in tests/parity/cut is a .json of options, losses, sums of weights, and the keys and shapes of each network; and
an .npz: for each network all its weights before the first step; A and B, (step, N, C, H, W), 8 bits; the drawn places,
flips and noise maps, in the order of the draws.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data.base import Spec
from models import cut
from networks.architectures import stylegan2
from registry.lookup import find
from tests.parity.replay import relative_difference, step_batch, trace_options
from train import train_step
from training.run import Run

FOLDER = Path(__file__).parent / "cut"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(case):
    trace = json.loads((FOLDER / f"{case}.json").read_text())
    trace["model"] = trace["options"].pop("model", "cut")
    return trace, dict(np.load(FOLDER / f"{case}.npz"))


def replay(trace, arrays, folder, monkeypatch):
    """Train on a trace; return the losses of each step and the sums of the absolute weights after the last one."""
    # Build the model with the recorded weights.
    o = trace_options(trace, folder)
    model = find("model", trace["model"])(o, Spec(o.input_nc, o.output_nc, *arrays["A"].shape[-2:]))
    for name, net in model.networks().items():
        shapes, values = trace["weights"][name], torch.from_numpy(arrays[name])
        parts = values.split([math.prod(shape) for shape in shapes.values()])
        state = {key: part.reshape(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}
        net.load_state_dict(state)
    run = Run(o, folder, model.double(), torch.device("cpu"), epoch_size=1)

    # Replace the draws by the recorded ones.
    places = iter(np.split(arrays["places"].astype(np.int64), np.cumsum(arrays["place_counts"])[:-1]))
    monkeypatch.setattr(cut, "draw_places", lambda maps, count: [torch.from_numpy(next(places)) for _ in maps])
    flips = iter(arrays["flips"])
    noise = iter(arrays.get("noise", ()))
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.tensor(0.0 if next(flips) else 1.0))
    monkeypatch.setattr(stylegan2, "noise", lambda x, *shape: torch.from_numpy(next(noise)).to(x))

    # Train.
    inputs, steps = {side: arrays[side] / 127.5 - 1 for side in "AB"}, []
    for number in range(len(arrays["A"])):
        batch = step_batch(inputs, number, o.direction)
        _, losses = train_step(run.train_state, batch, run.train_state.now(number))
        steps.append({name: float(value.detach()) for terms in losses.values() for name, value in terms.items()})
    assert next(places, None) is None
    assert next(flips, None) is None
    assert next(noise, None) is None
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


@pytest.mark.parametrize("change", [{"nce_T": 0.0701}, {"lambda_NCE": 1.001}, {"lambda_GAN": 1.01}, {"nce_idt": False}])
def test_another_option_gives_other_losses(change, tmp_path, monkeypatch):
    trace, arrays = load("cut")
    trace["options"] |= change
    if "nce_idt" in change:  # half of the draws
        counts = arrays["place_counts"].reshape(5, 2, 5)
        arrays["places"] = arrays["places"].reshape(5, 2, -1)[:, 0].flatten()
        arrays["place_counts"] = counts[:, 0].flatten()
    steps, _ = replay(trace, arrays, tmp_path, monkeypatch)
    assert relative_difference(steps[0]["G"], trace["losses"][0]["G"]) > 1e-5


def test_the_traces_hold_both_models_draws_and_all_negatives():
    options = {case: load(case)[0]["options"] for case in CASES}
    assert {o["flip_equivariance"] for o in options.values()} == {True, False}
    assert {o["nce_includes_all_negatives_from_minibatch"] for o in options.values()} == {True, False}
    assert (
        {o["no_antialias"] for o in options.values()}
        == {o["no_antialias_up"] for o in options.values()}
        == {True, False}
    )
    assert all(len(set(load(case)[1]["flips"].tolist())) == 2 for case in CASES if options[case]["flip_equivariance"])
