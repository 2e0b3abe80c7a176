"""Compare two processes with one process that trains on the same batches: equality, speed and communication.

On a CPU, two processes of one thread each beside one of two threads; with --gpus, two GPUs beside one. Prints images/s
of both, their ratio, the bytes and the share of the time that processes spend on adding up, and by how much any loss
differs at most over 10 steps in float64. Without two GPUs, --gpus says so and measures nothing.

Usage: python benchmarks/distributed/processes.py [--gpus] [--size 128] [--steps 20] [--batch_size 4]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
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
    parser.add_argument("--steps", type=int, default=20, help="measured, after two others")
    parser.add_argument("--batch_size", type=int, default=4, help="of both processes together, even")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return measure(args)
    if args.gpus and torch.cuda.device_count() < 2:
        return print(f"nothing measured: two GPUs are needed, there are {torch.cuda.device_count()}")
    titles = f"{'1 process':>12}{'2 processes':>13}{'ratio':>7}{'MB a step':>11}{'adding up':>11}{'difference':>12}"
    print(f"{'model':<12}{titles}")
    for model in MODELS:
        one, two = (started(args, model, count) for count in (1, 2))
        ratio = two["images_s"] / one["images_s"]
        speeds = f"{one['images_s']:>10.2f}/s{two['images_s']:>11.2f}/s{ratio:>7.2f}"
        pairs = zip(one["losses"], two["losses"], strict=True)
        difference = max(abs(a - b) / max(abs(a), 1e-9) for a, b in pairs)
        costs = f"{two['bytes'] / 1e6:>11.1f}{two['share']:>11.1%}{difference:>12.1e}"
        print(f"{model:<12}{speeds}{costs}", flush=True)


def started(args: Any, model: str, processes: int) -> dict[str, Any]:
    """Return what a new command measures."""
    own = ["--size", str(args.size), "--steps", str(args.steps), "--batch_size", str(args.batch_size)]
    own += ["--gpus"] if args.gpus else []
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
    losses = [value for step in trained(args, torch.float64, EQUAL_STEPS) for value in step]
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
