"""Compare two processes with one process that trains on the same batches: equality, speed and communication.

On a CPU, two processes of one thread each beside one of two threads; with --gpus, two GPUs beside one. Both are
measured in turns, because a shared machine's speed varies. Prints the median images/s of both, the median, lowest and
highest ratio of a turn, the bytes and the share of the time that processes spend on adding up, and by how much any loss
differs at most over 10 steps in float64. Without two GPUs, --gpus says so and measures nothing.

Usage: python benchmarks/distributed/processes.py [--gpus] [--size 128] [--steps 6] [--turns 3] [--batch_size 4]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("pix2pix", "cycle_gan")
EQUAL_STEPS = 10
FLAGS = "--no_dropout --pool_size 0 --dataroot demo"  # what one process draws and several draw otherwise is off


def main() -> None:
    """Measure both ways, or with --inside one of them, in a process that this one has started."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpus", action="store_true", help="two GPUs beside one, instead of CPU cores")
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--steps", type=int, default=6, help="measured in each turn, after two others")
    parser.add_argument("--turns", type=int, default=3, help="how often both are measured, in alternating order")
    parser.add_argument("--batch_size", type=int, default=4, help="of both processes together, even")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    parser.add_argument("--equal_steps", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return measure(args)
    if args.gpus and torch.cuda.device_count() < 2:
        return print(f"nothing measured: two GPUs are needed, there are {torch.cuda.device_count()}")
    print(f"{'model':<12}{'1 process':>12}{'2 processes':>13}{'ratio':>7}  {'of turns':<14}", end="")
    print(f"{'MB a step':>11}{'adding up':>11}{'difference':>12}")
    for model in MODELS:
        turns: list[dict[int, dict[str, Any]]] = []  # of each turn: what 1 and 2 processes measured
        for turn in range(max(1, args.turns)):
            steps = 0 if turn else EQUAL_STEPS
            turns.append({count: started(args, model, count, steps) for count in ((1, 2), (2, 1))[turn % 2]})
        print(f"{model:<12}{row(turns)}", flush=True)


def row(turns: list[dict[int, dict[str, Any]]]) -> str:
    """Return the figures of a model's turns."""
    one, two = (median(turn[count]["images_s"] for turn in turns) for count in (1, 2))
    ratios = [turn[2]["images_s"] / turn[1]["images_s"] for turn in turns]
    between = f"{min(ratios):.2f} to {max(ratios):.2f}"
    pairs = zip(turns[0][1]["losses"], turns[0][2]["losses"], strict=True)
    difference = max(abs(a - b) / max(abs(a), 1e-9) for a, b in pairs)
    share = median(turn[2]["share"] for turn in turns)
    speeds = f"{one:>10.2f}/s{two:>11.2f}/s{median(ratios):>7.2f}  {between:<14}"
    return f"{speeds}{turns[0][2]['bytes'] / 1e6:>11.1f}{share:>11.1%}{difference:>12.1e}"


def started(args: Any, model: str, processes: int, equal_steps: int) -> dict[str, Any]:
    """Return what a new command measures. equal_steps: how many steps in float64 it takes first."""
    own = ["--size", str(args.size), "--steps", str(args.steps), "--batch_size", str(args.batch_size)]
    own += ["--equal_steps", str(equal_steps)] + (["--gpus"] if args.gpus else [])
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    env = os.environ | {"OMP_NUM_THREADS": str(2 // processes)}
    done = subprocess.run([*python, __file__, *own, "--inside", model], capture_output=True, text=True, env=env)
    found = [line for line in done.stdout.splitlines() if line.startswith('{"images_s"')]
    if not found:
        raise SystemExit(f"{model} in {processes} processes failed:\n{done.stderr}")
    return json.loads(found[0])


def measure(args: Any) -> None:
    """Train on random images in float64, then in float32; print the losses of the one and the speed of the other."""
    from cli import launch
    from cli.main import Report
    from training.distributed import gradients
    from util import ranks

    launch.join_others("processes", [], Report())
    steps = trained(args, torch.float64, args.equal_steps) if args.equal_steps else ()
    losses = [value for step in steps for value in step]
    spent, sent, add_up = [0.0], [0], gradients._add_up

    def timed(tensors: list[torch.Tensor]) -> None:
        began = now()
        add_up(tensors)
        spent[0] += now() - began
        sent[0] += sum(x.nbytes for x in tensors)

    gradients._add_up = timed
    for number, _ in enumerate(trained(args, torch.float32, args.steps + 2), 1):
        if number == 2:
            began, spent[0], sent[0] = now(), 0.0, 0
    seconds = now() - began
    figures = {"images_s": args.steps * args.batch_size / seconds, "bytes": sent[0] / args.steps}
    if ranks.rank() == 0:
        print(json.dumps(figures | {"share": spent[0] / seconds, "losses": losses}), flush=True)
    os._exit(0)


def trained(args: Any, dtype: torch.dtype, steps: int) -> Any:
    """Train a new model, of the same weights in every process, and yield the losses of each step."""
    from options.parse import parse
    from registry.lookup import find
    from train import train_step
    from training.distributed import rank_state
    from training.train_state import TrainState
    from util import ranks
    from util.device import select_device
    from util.seeding import seed_everything

    count = ranks.world_size()
    own = args.batch_size // count
    flags = f"{FLAGS} --model {args.inside} --crop_size {args.size} --load_size {args.size} --batch_size {own}"
    unet = " --netG unet_128" if args.inside == "pix2pix" else ""
    o = parse(f"{flags}{unet}{'' if args.gpus else ' --gpu_ids -1'}".split(), "train")
    device = select_device(o.gpu_ids)
    seed_everything(0)
    model = find("model", o.model)(o, find("dataset", o.dataset_mode)(o).spec()).to(device, dtype)
    state = TrainState.from_options(model, o)
    rank_state.synchronise_norms(model, o)
    rank_state.start_together(model, 0, 0)
    share = ranks.Share((own,) * count, ranks.rank()) if count > 1 else None
    draws = torch.Generator().manual_seed(0)
    for number in range(steps):
        images = torch.rand(2, args.batch_size, 3, args.size, args.size, generator=draws) * 2 - 1
        parts = images[:, ranks.rank() * own :][:, :own].to(device, dtype)
        batch = {"A": parts[0], "B": parts[1], "path_A": ["-"] * own}
        with ranks.sharing(share):
            _, phases = train_step(state, batch, state.now(number))
        yield [float(value) for terms in phases.values() for value in terms.values()]


def now() -> float:
    """Return the time in seconds, when the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
