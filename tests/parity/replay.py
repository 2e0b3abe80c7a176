"""Replay recorded traces of the reference with GANvas's models and training step in float64.

python tests/parity/replay.py DIR [DIR ...]
A trace consists of trace.json, inputs.npz, latest_net_*.pth and outputs_after.npz. Prints the largest differences; the
exit code is 0 if losses and weight sums agree to 1e-6 (relative) and outputs to 1e-5 (absolute).
"""

import io
import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from data.base import Spec
from networks.cpu.kernels import apply_cpu_kernels
from options.parse import flags_for, parse
from registry.lookup import find
from serialization import weight_files
from train import train_step
from training.run import Run

TOLERANCES = {"losses": 1e-6, "weight sums": 1e-6, "outputs": 1e-5}


def trace_options(trace, folder):
    """Return the trace's options as train.py would read them, without options of other models."""
    known_flags = {flag.name: flag for flag in flags_for(trace["model"])}
    trace_flags = {"lambda_gp": 0.0} | trace["options"]  # the reference has no gradient penalty
    argv = ["--model", trace["model"], "--name", "replay", "--checkpoints_dir", str(folder), "--gpu_ids", "-1"]
    for name, value in trace_flags.items():
        if name in known_flags:
            flag = known_flags[name]
            if flag.type is bool:
                argv.append("--" + (flag.name if value else flag.opposite))
            else:
                argv += ["--" + name, str(value)]
    with redirect_stdout(io.StringIO()):  # notes on flags without effect
        return parse(argv, "train")


def replay(folder):
    """Return {"losses": d, "weight sums": d, "outputs": d}, the largest differences from the trace in `folder`."""
    # Load the trace; build the model with its weights.
    trace = json.loads((folder / "trace.json").read_text())
    inputs = np.load(folder / "inputs.npz")
    height, width = inputs["A"].shape[-2:]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        o = trace_options(trace, scratch)
    model = find("model", o.model)(o, Spec(o.input_nc, o.output_nc, height, width))
    for name, net in model.networks().items():
        path = folder / f"latest_net_{name}.pth"
        weight_files.load_into_network(net, weight_files.load_weights(path), path)
    apply_cpu_kernels(model.networks().values(), None, torch.device("cpu"))  # as in runs of that time
    run = Run(o, folder, model.double(), torch.device("cpu"), epoch_size=1)

    # Train and compare the losses of each step.
    loss_difference = 0.0
    for step, expected in enumerate(trace["losses"]):
        batch = step_batch(inputs, step, o.direction)
        _, losses = train_step(run.train_state, batch, run.train_state.now(step))
        our_losses = {
            name: float(value.detach() if torch.is_tensor(value) else value)
            for terms in losses.values()
            for name, value in terms.items()
        }
        missing = set(expected) - set(our_losses)
        if missing:
            raise SystemExit(f"{folder}: the model does not report {', '.join(sorted(missing))}")
        differences = [relative_difference(our_losses[name], value) for name, value in expected.items()]
        loss_difference = max([loss_difference, *differences])

    # Compare the weights and outputs after the last step.
    sums = {name: sum(p.abs().sum().item() for p in net.parameters()) for name, net in run.networks().items()}
    weight_difference = max(
        relative_difference(sums[name], value) for name, value in trace["abs_weight_sum_after"].items()
    )
    with torch.no_grad():
        out = run.model(step_batch(inputs, len(trace["losses"]) - 1, o.direction))
    expected_out = np.load(folder / "outputs_after.npz")
    output_difference = max(np.abs(out[name].numpy() - expected_out[name]).max() for name in expected_out.files)
    return {"losses": loss_difference, "weight sums": weight_difference, "outputs": float(output_difference)}


def step_batch(inputs, step, direction):
    """Return a step's batch with A as the source; the trace contains the dataset's A and B."""
    source, target = ("A", "B") if direction == "AtoB" else ("B", "A")
    return {to: torch.from_numpy(inputs[side][step]).double() for to, side in (("A", source), ("B", target))}


def relative_difference(actual, expected):
    """Return |actual - expected| / |expected|, or |actual| if 0 is expected; inf for NaN."""
    difference = abs(actual - expected) / abs(expected) if expected else abs(actual)
    return difference if difference == difference else float("inf")  # because NaN must not count as equal


def main(folders):
    """Replay each trace and print a line; return the exit code."""
    failed = not folders
    for folder in map(Path, folders):
        differences = replay(folder)
        passes = all(differences[what] <= limit for what, limit in TOLERANCES.items())
        failed |= not passes
        figures = "  ".join(f"{what} {value:.2e}" for what, value in differences.items())
        print(f"{'ok  ' if passes else 'FAIL'} {folder.name:<40} {figures}", flush=True)
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1:]))
