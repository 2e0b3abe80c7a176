"""Train for long and watch what a leak would show: python tests/soak/soak.py [--steps 1000] [flags of train.py].

Without flags a small CycleGAN is trained on generated pictures, with two workers. Memory is what the kernel counts for
train.py and its workers together (VmRSS), beside it their open files and the names in /dev/shm. Growth is the median of
the last tenth of the steps against that of as many from step 200 on; at 1 % and more, or with a file left open, the
command ends with exit code 1.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from cli.main import guarded
from cli.script import Command, positive
from util.errors import EnvironmentFault

USUAL = ["--model", "cycle_gan", "--dataroot", "demo", "--netG", "resnet_6blocks", "--ngf", "8", "--ndf", "8",
         "--load_size", "72", "--crop_size", "64", "--num_threads", "2"]  # fmt: skip
SETTLED = 200  # steps after which nothing may grow
BOUND = 0.01
LINE = re.compile(r"\(epoch: (\d+), iters: (\d+)")


class Seen(NamedTuple):
    """What a process and its children hold at a step."""

    step: int
    rss: float  # MB
    files: int
    names: int  # in /dev/shm


def family(pid: int) -> list[int]:
    """Return a process and its children, as far as they are there."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [pid, *(other for child in children for other in family(int(child)))]


def look(pid: int, step: int) -> Seen:
    """Return what a training holds now; a worker that ends meanwhile counts nothing."""
    rss, files = 0.0, 0
    for one in family(pid):
        try:
            rows = Path(f"/proc/{one}/status").read_text(encoding="ascii").splitlines()
            rss += next(int(row.split()[1]) for row in rows if row.startswith("VmRSS")) / 1024
            files += len(os.listdir(f"/proc/{one}/fd"))
        except (OSError, StopIteration):
            continue
    return Seen(step, rss, files, len(os.listdir("/dev/shm")))


def train(flags: list[str], steps: int, every: int) -> list[Seen]:
    """Train until a step; return what was seen every so many steps. EnvironmentFault if it ends before."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(ROOT / "train.py"), *flags, "--name", "soak", "--checkpoints_dir", folder,
                 "--n_epochs", str(steps), "--n_epochs_decay", "0", "--print_freq", str(every),
                 "--displays", "console,health,html"]  # fmt: skip
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        seen: list[Seen] = []
        try:
            for line in process.stdout:
                if LINE.search(line):
                    seen.append(look(process.pid, (len(seen) + 1) * every))
                    if seen[-1].step % 100 == 0:
                        print(f"step {seen[-1].step:5}: {seen[-1].rss:.1f} MB, {seen[-1].files} files open, "
                              f"{seen[-1].names} names in /dev/shm", flush=True)  # fmt: skip
                if seen and seen[-1].step >= steps:
                    return seen
            raise EnvironmentFault("training", "soak", f"ended with {process.wait()} before step {steps}", "see above")
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def growth(seen: list[Seen], settled: int) -> dict[str, Any]:
    """Return how much memory, files and names grew from a step on, as a share and as numbers."""
    rest = [one for one in seen if one.step >= settled]
    part = max(1, len(rest) // 10)
    before, after = rest[:part], rest[-part:]
    base = statistics.median(one.rss for one in before)
    return {"rss": statistics.median(one.rss for one in after) / base - 1, "from_mb": base,
            "files": min(one.files for one in after) - min(one.files for one in before),
            "names": min(one.names for one in after) - min(one.names for one in before)}  # fmt: skip


def main(argv, report):
    """Train, watch, and say what grew."""
    command = Command(__file__, __doc__)
    command.add_argument("--steps", type=positive, default=1000)
    command.add_argument("--every", type=positive, default=10, help="steps between two looks (default: %(default)s)")
    command.add_argument("train", nargs="*", metavar="-- FLAGS", help="of train.py, after --")
    o = command.read(argv)
    report.debug = o.debug
    seen = train(o.train or USUAL, o.steps, o.every)
    found = growth(seen, min(SETTLED, o.steps // 2))
    print(f"{o.steps} steps: memory {found['rss']:+.2%} of {found['from_mb']:.1f} MB, {found['files']:+d} open files, "
          f"{found['names']:+d} names in /dev/shm")  # fmt: skip
    if found["rss"] >= BOUND or found["files"] > 0 or found["names"] > 0:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
