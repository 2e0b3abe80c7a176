"""spade repeats recorded training steps of its authors' code, in float64 with casts to float32 lifted.

A trace in tests/parity/spade is a .json of options, losses and sums of weights; and an .npz: A (ids), B (8 bits), the
ids of instances, (step, N, ...), and what the encoder drew, (draw, N, z_dim). Weights are drawn by `drawn_state`, the
same in both. In the recorded copy the encoder of five layers resizes to 128x128, not to 256x256, which ends with an
error there.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data.published.semantic import LabelSpec
from models import spade
from networks.toolbox import perceptual
from registry.lookup import find
from tests.parity.replay import relative_difference, trace_options
from tests.support.architectures import drawn_vgg
from train import train_step
from training.run import Run

FOLDER = Path(__file__).parent / "spade"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(case):
    trace = json.loads((FOLDER / f"{case}.json").read_text())
    return trace | {"model": "spade"}, dict(np.load(FOLDER / f"{case}.npz"))


def drawn_state(net, seed):
    """Return the weights that a recorded network had: of unit length for spectral norms, else normal numbers."""
    draw, state = np.random.default_rng(seed), {}
    for key, value in sorted(net.state_dict().items()):
        if key.endswith(("weight_u", "weight_v")):
            numbers = draw.normal(size=tuple(value.shape))
            numbers = numbers / np.linalg.norm(numbers)
        elif value.dim() > 1:
            numbers = draw.normal(0, 1.4 / math.sqrt(math.prod(value.shape[1:])), tuple(value.shape))
        elif key.endswith(".weight"):
            numbers = draw.normal(1, 0.1, tuple(value.shape))
        elif key.endswith("bias"):
            numbers = draw.normal(0, 0.1, tuple(value.shape))
        else:
            continue
        state[key] = torch.from_numpy(numbers)
    return state


def replay(trace, arrays, folder, monkeypatch):
    """Train on a trace; return the losses of each step and the sums of the absolute weights after the last one."""
    monkeypatch.setattr(perceptual, "known_weights", drawn_vgg)
    draws = iter(arrays.get("draws", ()))
    monkeypatch.setattr(spade, "noise", lambda *_: torch.from_numpy(next(draws)))
    o = trace_options(trace, folder)
    height, width = arrays["B"].shape[-2:]
    model = find("model", "spade")(o, LabelSpec(1, 3, height, width, label_nc=o.label_nc)).double()
    nets = [model.G, model.D, *([model.E] if o.use_vae else [])]
    for number, net in enumerate(nets):
        net.load_state_dict(drawn_state(net, 100 * trace["number"] + number), strict=False)
    run = Run(o, folder, model, torch.device("cpu"), epoch_size=1)
    steps = []
    for number in range(len(arrays["B"])):
        batch = {"A": torch.from_numpy(arrays["A"][number]).double()}
        batch["B"] = torch.from_numpy(arrays["B"][number] / 127.5 - 1)
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
        assert expected.keys() <= got.keys()  # a phase that is not due keeps its values
        assert max(relative_difference(got[name], expected[name]) for name in expected) < 1e-6
    assert sums.keys() == trace["abs_weight_sum_after"].keys()
    assert max(relative_difference(sums[name], value) for name, value in trace["abs_weight_sum_after"].items()) < 1e-6


def test_another_option_gives_other_losses(tmp_path, monkeypatch):
    trace, arrays = load("vae")
    trace["options"] |= {"lambda_kld": 0.0501}
    steps, _ = replay(trace, arrays, tmp_path, monkeypatch)
    assert max(relative_difference(steps[-1][name], value) for name, value in trace["losses"][-1].items()) > 1e-6


def test_the_traces_hold_every_way_of_training():
    options = [load(case)[0]["options"] for case in CASES]
    for flag in ("no_instance", "no_vgg_loss", "no_ganFeat_loss", "use_vae", "no_TTUR", "contain_dontcare_label"):
        assert {o[flag] for o in options} == {True, False}, flag
    assert len({o["norm_G"] for o in options}) == len({o["gan_mode"] for o in options}) == 3
    assert {o["num_upsampling_layers"] for o in options} == {"normal", "more"}
