"""pix2pixhd repeats recorded training steps of its authors' code: four steps in float64, casts to float32 lifted.

A trace in tests/parity/pix2pixhd is a .json of options, losses, sums of weights, and the keys and shapes of each
network; and an .npz: for each network all its weights before the first step; A (ids, or pictures of 8 bits), B and the
ids of instances, (step, N, ...). VGG19 has drawn weights, the same in both.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data.published.semantic import LabelSpec
from networks.toolbox import perceptual
from registry.lookup import find
from tests.parity.replay import relative_difference, trace_options
from tests.support.architectures import drawn_vgg
from train import train_step
from training.run import Run

FOLDER = Path(__file__).parent / "pix2pixhd"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(case):
    trace = json.loads((FOLDER / f"{case}.json").read_text())
    return trace | {"model": "pix2pixhd"}, dict(np.load(FOLDER / f"{case}.npz"))


def replay(trace, arrays, folder, monkeypatch):
    """Train on a trace; return the losses of each step and the sums of the absolute weights after the last one."""
    monkeypatch.setattr(perceptual, "known_weights", drawn_vgg)
    o = trace_options(trace, folder)
    size = arrays["B"].shape[-2:]
    model = find("model", "pix2pixhd")(o, LabelSpec(o.input_nc, o.output_nc, *size, label_nc=o.label_nc))
    for name, shapes in trace["weights"].items():
        net = model.networks()[name]
        values = torch.from_numpy(arrays[name])
        parts = values.split([math.prod(shape) for shape in shapes.values()])
        state = {key: part.reshape(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}
        counters = {key: value for key, value in net.state_dict().items() if not value.is_floating_point()}
        net.load_state_dict(state | counters)
    run = Run(o, folder, model.double(), torch.device("cpu"), epoch_size=1)

    steps = []
    for number in range(len(arrays["B"])):
        batch = {side: torch.from_numpy(arrays[side][number]) / 127.5 - 1 for side in "AB"}
        batch |= {"A": torch.from_numpy(arrays["A"][number])} if o.label_nc else {}
        batch = {side: image.double() for side, image in batch.items()}
        if "instance" in arrays:
            batch["instance"] = torch.from_numpy(arrays["instance"][number]).long()
        _, losses = train_step(run.train_state, batch, run.train_state.now(number))
        steps.append({name: float(value.detach()) for terms in losses.values() for name, value in terms.items()})
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


@pytest.mark.parametrize(("case", "change"), [
    ("labels", {"lambda_feat": 10.001}), ("outer_enhancer", {"niter_fix_global": 0}), ("labels", {"beta1": 0.51}),
    ("enhancer_features", {"lr": 0.00021}),
])  # fmt: skip
def test_another_option_gives_other_losses_or_weights(case, change, tmp_path, monkeypatch):
    trace, arrays = load(case)
    trace["options"] |= change
    steps, sums = replay(trace, arrays, tmp_path, monkeypatch)
    pairs = [(steps[-1][name], value) for name, value in trace["losses"][-1].items()]
    pairs += [(sums[name], value) for name, value in trace["abs_weight_sum_after"].items()]
    assert max(relative_difference(*pair) for pair in pairs) > 1e-6


def test_the_traces_hold_every_way_of_training():
    options = [load(case)[0]["options"] for case in CASES]
    for flag in ("no_instance", "no_vgg_loss", "no_ganFeat_loss", "instance_feat", "label_feat"):
        assert {o[flag] for o in options} == {True, False}, flag
    assert {o["netG"] for o in options} == {"global", "local"}
    assert {o["label_nc"] > 0 for o in options} == {o["niter_fix_global"] > 0 for o in options} == {True, False}
