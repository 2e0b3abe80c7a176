"""Compare two processes of one thread each with one process of two threads, on the same batches of a CPU.

Prints images/s of both, their ratio, and the bytes and the share of the time that processes spend on adding up.

Usage: python benchmarks/distributed/processes.py [--size 128] [--steps 20] [--batch_size 4]
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


def main() -> None:
    """Measure both ways, or with --inside one of them, in a process that this one has started."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--steps", type=int, default=20, help="measured, after two others")
    parser.add_argument("--batch_size", type=int, default=4, help="of both processes together")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return measure(args)
    print(f"{'model':<12}{'1 process':>12}{'2 processes':>13}{'ratio':>7}{'MB a step':>11}{'adding up':>11}")
    for model in MODELS:
        one, two = (started(args, model, count) for count in (1, 2))
        ratio = two["images_s"] / one["images_s"]
        figures = f"{one['images_s']:>10.2f}/s{two['images_s']:>11.2f}/s{ratio:>7.2f}"
        print(f"{model:<12}{figures}{two['bytes'] / 1e6:>11.1f}{two['share']:>11.1%}", flush=True)


def started(args: Any, model: str, processes: int) -> dict[str, float]:
    """Return what a new command measures."""
    own = ["--size", str(args.size), "--steps", str(args.steps), "--batch_size", str(args.batch_size)]
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    env = os.environ | {"OMP_NUM_THREADS": str(2 // processes)}
    done = subprocess.run([*python, __file__, *own, "--inside", model], capture_output=True, text=True, env=env)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"images_s"')))


def measure(args: Any) -> None:
    """Train on random images, and print figures as JSON."""
    from cli import launch
    from cli.main import Report
    from options.parse import parse
    from registry.lookup import find
    from train import train_step
    from training.distributed import gradients, rank_state
    from training.train_state import TrainState
    from util import ranks

    report = Report()
    launch.join_others("processes", [], report)
    count = ranks.world_size()
    flags = f"--model {args.inside} --gpu_ids -1 --crop_size {args.size} --load_size {args.size} --dataroot demo"
    unet = " --netG unet_128" if args.inside == "pix2pix" else ""
    o = parse((flags + unet + f" --batch_size {args.batch_size // count}").split(), "train")
    dataset = find("dataset", o.dataset_mode)(o)
    model = find("model", o.model)(o, dataset.spec())
    state, own = TrainState.from_options(model, o), args.batch_size // count
    rank_state.synchronise_norms(model, o)
    rank_state.start_together(model, 0, 0)
    spent, sent = [0.0], [0]
    add_up = gradients._add_up

    def timed(tensors: list[torch.Tensor]) -> None:
        began = time.perf_counter()
        add_up(tensors)
        spent[0] += time.perf_counter() - began
        sent[0] += sum(x.nbytes for x in tensors)

    gradients._add_up = timed
    batch = {side: torch.rand(own, 3, args.size, args.size) * 2 - 1 for side in "AB"} | {"path_A": ["-"] * own}
    share = ranks.Share((own,) * count, ranks.rank()) if count > 1 else None
    for number in range(args.steps + 2):
        if number == 2:
            began, spent[0], sent[0] = time.perf_counter(), 0.0, 0
        with ranks.sharing(share):
            train_step(state, batch, state.now(number))
    seconds = time.perf_counter() - began
    figures = {"images_s": args.steps * args.batch_size / seconds, "bytes": sent[0] / args.steps}
    if ranks.rank() == 0:
        print(json.dumps(figures | {"share": spent[0] / seconds}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
