"""Kill processes of a run again and again under torchrun --max-restarts, and compare it with an unbroken run.

Each time a random process of the run gets SIGKILL after some steps. Printed are the times until all old processes are
gone and until the first new step, and whether all losses and the last state are bit for bit those of the unbroken run.

Usage: python benchmarks/distributed/soak.py [--kills 20] [--processes 2] [--seed 0]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--gpu_ids -1 --model pix2pix --netG resnet_4blocks --ngf 4 --ndf 4 --load_size 36 --crop_size 32 --num_threads 0 "
    "--dataroot demo --max_dataset_size 16 --batch_size 2 --pool_size 8 --save_latest_freq 8 --print_freq 1 "
    "--displays console --no_progress --n_epochs_decay 0"
)
STEPS_BETWEEN = 3, 12  # two kills
TIMEOUT_S = 300.0


def main() -> int:
    """Train both runs; return 0 if they are equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the processes that are killed")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    epochs = args.kills * STEPS_BETWEEN[1] * 2 * args.processes // 16 + 2  # enough steps for all kills
    with tempfile.TemporaryDirectory() as folder:
        start(folder, args.processes, 0, epochs, "whole").wait()
        launcher = start(folder, args.processes, args.kills, epochs, "killed")
        gone, again = [], []
        for number in range(args.kills):
            target = steps(folder) + rng.randint(*STEPS_BETWEEN)
            wait_for(lambda target=target: steps(folder) >= target)
            old = workers(launcher.pid)
            victim, began = rng.choice(old), time.monotonic()
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda old=old: not any(Path(f"/proc/{pid}/stat").exists() for pid in old))
            gone.append(time.monotonic() - began)
            size = (Path(folder, "checkpoints/killed/losses.jsonl")).stat().st_mtime
            wait_for(lambda t=size: Path(folder, "checkpoints/killed/losses.jsonl").stat().st_mtime > t)
            again.append(time.monotonic() - began)
            print(f"kill {number + 1}: gone after {gone[-1]:.1f} s, next step after {again[-1]:.1f} s", flush=True)
        code = launcher.wait()
        equal = compare(Path(folder, "checkpoints/whole"), Path(folder, "checkpoints/killed"))
    times = f"gone after at most {max(gone):.1f} s, next step after at most {max(again):.1f} s" if gone else "no kill"
    print(f"{len(again)} of {args.kills} recovered; {times}; launcher ended with {code}; equal: {equal}")
    return 0 if equal and code == 0 else 1


def start(folder: str, processes: int, restarts: int, epochs: int, name: str) -> subprocess.Popen:
    """Start a run under torchrun, whose output goes to a file."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    argv = [*FLAGS.split(), "--n_epochs", str(epochs), "--name", name]
    output = open(Path(folder, f"{name}.txt"), "w")
    return subprocess.Popen(
        [*torchrun, f"--max-restarts={restarts}", str(ROOT / "train.py"), *argv],
        cwd=folder, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def steps(folder: str) -> int:
    """Return the last step in the log of the run that is killed."""
    log = Path(folder, "checkpoints/killed/losses.jsonl")
    return max((row["step"] for row in rows(log)), default=0) if log.is_file() else 0


def rows(log: Path) -> list[dict[str, Any]]:
    """Return the complete rows of a losses.jsonl."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # it is being written
            continue
    return [row for row in found if "step" in row]


def workers(launcher: int) -> list[int]:
    """Return the ids of the processes that the launcher has started."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and int((each / "stat").read_text().rpartition(")")[2].split()[1]) == launcher:
                found.append(int(each.name))
        except OSError:  # it has just ended
            continue
    return found


def wait_for(happened: Any) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + TIMEOUT_S
    while not happened():
        if time.monotonic() > end:
            raise SystemExit(f"nothing happened for {TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def compare(whole: Path, killed: Path) -> bool:
    """Whether two runs have the same losses at every logged step, and the same last state."""
    states = [torch.load(max(folder.glob("state_*.pt")), weights_only=True) for folder in (whole, killed)]
    same = all(same_values(*(state[part] for state in states)) for part in ("model", "optimizers", "ranks", "history"))
    losses = [{row["step"]: row["losses"] for row in rows(folder / "losses.jsonl") if "losses" in row}
              for folder in (whole, killed)]  # fmt: skip
    return same and losses[0] == losses[1]


def same_values(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_values(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_values, one, other))
    return one == other


if __name__ == "__main__":
    sys.exit(main())
