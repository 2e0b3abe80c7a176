"""Test that replay.py passes for traces of the published equations and fails for other numbers, weights or options."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from data.base import Spec
from registry.lookup import find
from tests.parity.replay import main, relative_difference, replay
from tests.support.models_by_hand import BY_HAND
from tests.support.runs import ROOT, options

STEPS = 3
USUAL = {"lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5, "lambda_L1": 100.0, "input_nc": 3, "output_nc": 3,
         "ngf": 2, "ndf": 2, "netG": "unet_32", "netD": "n_layers", "n_layers_D": 1, "norm": "instance",
         "no_dropout": True, "pool_size": 0, "gan_mode": "lsgan", "lr": 0.0002, "beta1": 0.5, "direction": "AtoB",
         "batch_size": 1}  # fmt: skip


def record(folder, model, size=(32, 32), **changed):
    """Write a trace that plain torch computes from the published equations in float64; return its folder.

    The inputs are the dataset's A and B; with BtoA the model's A is the dataset's B.
    """
    # Choose the options of this model.
    chosen = USUAL | changed
    own = {name for name in chosen if not (model == "pix2pix" and name in ("lambda_A", "lambda_B", "lambda_identity"))}
    own -= {"lambda_L1"} if model == "cycle_gan" else set()
    argv = [word for name in sorted(own) if name != "no_dropout" for word in ("--" + name, str(chosen[name]))]
    o = options("--model", model, *argv, "--no_dropout", "--lambda_gp", "0", "--checkpoints_dir", str(folder))

    # Write the networks and the inputs.
    folder.mkdir(parents=True)
    torch.manual_seed(4)
    nets = find("model", model)(o, Spec(o.input_nc, o.output_nc, *size)).networks()
    for name, net in nets.items():
        torch.save(net.state_dict(), folder / f"latest_net_{name}.pth")
        net.double().train()
    of_A, of_B = (o.input_nc, o.output_nc) if o.direction == "AtoB" else (o.output_nc, o.input_nc)
    rng = np.random.default_rng(0)
    inputs = {
        side: rng.uniform(-1, 1, (STEPS, o.batch_size, channels, *size)).astype(np.float32)
        for side, channels in (("A", of_A), ("B", of_B))
    }
    np.savez(folder / "inputs.npz", **inputs)

    # Train, and write the trace and the outputs.
    source, target = ("A", "B") if o.direction == "AtoB" else ("B", "A")
    by_hand, losses = BY_HAND[model](nets, o), []
    for step in range(STEPS):
        A, B = (torch.from_numpy(inputs[side][step]).double() for side in (source, target))
        losses.append(by_hand.step(A, B))
    sums = {name: sum(p.abs().sum().item() for p in net.parameters()) for name, net in nets.items()}
    with torch.no_grad():
        if model == "pix2pix":
            out = {"fake_B": nets["G"](A)}
        else:
            fake_B, fake_A = nets["G_A"](A), nets["G_B"](B)
            out = {"fake_B": fake_B, "rec_A": nets["G_B"](fake_B), "fake_A": fake_A, "rec_B": nets["G_A"](fake_A)}
    np.savez(folder / "outputs_after.npz", **{name: image.numpy().astype(np.float32) for name, image in out.items()})
    trace = {"model": model, "options": chosen, "size": size, "dtype": "float64", "losses": losses,
             "abs_weight_sum_after": sums}  # fmt: skip
    (folder / "trace.json").write_text(json.dumps(trace))
    return folder


TRACES = {
    "pix2pix": ("pix2pix", {"gan_mode": "vanilla", "norm": "batch"}),
    "pix2pix to the left, 1 to 3 channels, flat": (
        "pix2pix", {"direction": "BtoA", "input_nc": 1, "size": (32, 64), "batch_size": 2}),
    "pix2pix wgangp": ("pix2pix", {"gan_mode": "wgangp", "netD": "pixel", "netG": "resnet_4blocks"}),
    "cycle_gan": ("cycle_gan", {"netG": "resnet_4blocks", "lambda_A": 4.0}),
    "cycle_gan to the left, 3 to 1 channels, high": (
        "cycle_gan", {"direction": "BtoA", "output_nc": 1, "lambda_identity": 0.0, "size": (64, 32), "norm": "none"}),
    "cycle_gan hinge": ("cycle_gan", {"gan_mode": "hinge", "norm": "batch", "lr": 0.002, "beta1": 0.9}),
}  # fmt: skip


@pytest.mark.parametrize("case", TRACES)
def test_a_trace_of_the_published_equations_passes(case, tmp_path, capsys):
    """Models, architectures, norms, directions, channels and sizes vary; differences are far below the limits."""
    model, how = TRACES[case]
    folder = record(tmp_path / "trace", model, **how)
    capsys.readouterr()
    assert main([folder]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ok   trace ")
    assert all(what in printed for what in ("losses ", "weight sums ", "outputs "))
    found = replay(folder)
    assert found["losses"] < 1e-9
    assert found["weight sums"] < 1e-8
    assert found["outputs"] < 1e-6


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """One small trace of each model; tests change only copies."""
    root = tmp_path_factory.mktemp("traces")
    return {model: record(root / model, model) for model in BY_HAND}


def changed_copy(folder, to, change):
    shutil.copytree(folder, to)
    trace = json.loads((to / "trace.json").read_text())
    change(trace)
    (to / "trace.json").write_text(json.dumps(trace))
    return to


def scale(step, name, by):
    def change(trace):
        trace["losses"][step][name] *= by

    return change


def put(name, value):
    def change(trace):
        assert trace["options"][name] != value
        trace["options"][name] = value

    return change


def scale_sum(name, by):
    def change(trace):
        trace["abs_weight_sum_after"][name] *= by

    return change


CHANGES = {
    "a loss of the first step": ("pix2pix", scale(0, "G_L1", 1 + 3e-6)),
    "a loss of the last step": ("pix2pix", scale(-1, "D_real", 1 - 3e-6)),
    "a small loss": ("cycle_gan", scale(1, "idt_B", 1 + 3e-6)),
    "a sum of weights": ("pix2pix", scale_sum("D", 1 + 3e-6)),
    "the learning rate": ("pix2pix", put("lr", 0.000201)),
    "the momentum": ("pix2pix", put("beta1", 0.51)),
    "the objective": ("pix2pix", put("gan_mode", "vanilla")),
    "the direction": ("pix2pix", put("direction", "BtoA")),
    "lambda_L1": ("pix2pix", put("lambda_L1", 100.001)),
    "lambda_A": ("cycle_gan", put("lambda_A", 10.0001)),
    "lambda_identity": ("cycle_gan", put("lambda_identity", 0.50001)),
    "a pool": ("cycle_gan", put("pool_size", 1)),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_number_or_option_fails(case, recorded, tmp_path, capsys):
    model, change = CHANGES[case]
    assert main([changed_copy(recorded[model], tmp_path / "changed", change)]) == 1
    assert capsys.readouterr().out.startswith("FAIL changed ")


def test_a_losses_limit_is_a_millionth(recorded, tmp_path):
    assert main([changed_copy(recorded["pix2pix"], tmp_path / "near", scale(0, "G_L1", 1 + 3e-7))]) == 0


def test_a_loss_that_is_no_number_fails(recorded, tmp_path):
    folder = changed_copy(recorded["pix2pix"], tmp_path / "changed", scale(0, "G_L1", float("nan")))
    assert main([folder]) == 1
    assert relative_difference(1.0, 1.0) == 0
    assert relative_difference(2.0, 1.0) == 1
    assert relative_difference(0.5, 0.0) == 0.5
    assert relative_difference(float("nan"), 1.0) == relative_difference(1.0, float("nan")) == float("inf")


@pytest.mark.parametrize("name", ["G", "D"])
def test_a_changed_weight_fails(name, recorded, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(recorded["pix2pix"], folder)
    path = folder / f"latest_net_{name}.pth"
    state = torch.load(path, weights_only=True)
    first = next(key for key in state if key.endswith("weight"))
    state[first].flatten()[0] += 1e-3
    torch.save(state, path)
    assert main([folder]) == 1


@pytest.mark.parametrize("file", ["inputs.npz", "outputs_after.npz"])
def test_a_changed_picture_fails(file, recorded, tmp_path):
    folder = tmp_path / "changed"
    shutil.copytree(recorded["cycle_gan"], folder)
    arrays = dict(np.load(folder / file))
    for array in arrays.values():
        array[-1, 0, 0, 0] += 1e-3
    np.savez(folder / file, **arrays)
    assert main([folder]) == 1


def test_a_loss_that_the_model_does_not_report_fails(recorded, tmp_path):
    def rename(trace):
        trace["losses"][0]["G_other"] = 1.0

    with pytest.raises(SystemExit) as ended:
        main([changed_copy(recorded["pix2pix"], tmp_path / "changed", rename)])
    assert "G_other" in str(ended.value)
    assert ended.value.code not in (0, None)


def test_one_failing_trace_among_several_fails_all_of_them(recorded, tmp_path, capsys):
    wrong = changed_copy(recorded["pix2pix"], tmp_path / "wrong", scale(0, "G_L1", 2))
    assert main([recorded["pix2pix"], wrong, recorded["cycle_gan"]]) == 1
    assert [line[:4] for line in capsys.readouterr().out.splitlines()] == ["ok  ", "FAIL", "ok  "]
    assert main([]) == 1, "without a trace, nothing is verified"


def test_as_a_command_its_exit_code_tells(recorded, tmp_path):
    wrong = changed_copy(recorded["pix2pix"], tmp_path / "wrong", scale(0, "G_L1", 2))
    command = [sys.executable, str(ROOT / "benchmarks" / "replay.py"), str(recorded["pix2pix"]), str(wrong)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=one_thread, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert [line.split()[:2] for line in ended.stdout.splitlines()] == [["ok", "pix2pix"], ["FAIL", "wrong"]]


def test_every_golden_trace_passes(shared, capsys):
    """Traces that the reference computed agree: losses and weight sums to 1e-6, outputs to 1e-5."""
    folders = sorted(path.parent for path in (shared / "golden").glob("*/trace.json"))
    assert len(folders) >= 3
    assert main(folders) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["ok", f.name] for f in folders]


def test_a_golden_trace_with_one_changed_option_fails(shared, tmp_path):
    source = shared / "golden" / "pix2pix_vanilla"
    assert main([changed_copy(source, tmp_path / "changed", put("lr", 0.00021))]) == 1
