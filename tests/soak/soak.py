"""Train for many steps and check for leaks: python tests/soak/soak.py [--steps 1000] [-- flags of train.py].

Without flags, a small CycleGAN is trained on generated images with two workers. The check measures the memory of
train.py and its workers together (VmRSS), their open files, and the names in /dev/shm. Memory growth compares the
median over the last tenth of the samples with that over as many samples from step 200. The exit code is 1 if memory
grows by 1 % or more, or if more files are open or more names exist at the end.
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

from cli.main import run_command
from cli.script import Command, positive
from util.errors import EnvironmentFault

DEFAULT_FLAGS = ["--model", "cycle_gan", "--dataroot", "demo", "--netG", "resnet_6blocks", "--ngf", "8", "--ndf", "8",
                 "--load_size", "72", "--crop_size", "64", "--num_threads", "2"]  # fmt: skip
WARMUP_STEPS = 200  # after which nothing may grow
MAX_MEMORY_GROWTH = 0.01
PROGRESS_LINE = re.compile(r"\(epoch: (\d+), iters: (\d+)")


class ResourceUse(NamedTuple):
    """The resources of a process and its children at a step."""

    step: int
    rss: float  # MB
    files: int
    names: int  # in /dev/shm


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its descendants that still run."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [pid, *(descendant for child in children for descendant in process_tree(int(child)))]


def measure_resources(pid: int, step: int) -> ResourceUse:
    """Return the resources of a training now; a worker that ends during the measurement is skipped."""
    rss, files = 0.0, 0
    for process_id in process_tree(pid):
        try:
            rows = Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines()
            rss += next(int(row.split()[1]) for row in rows if row.startswith("VmRSS")) / 1024
            files += len(os.listdir(f"/proc/{process_id}/fd"))
        except (OSError, StopIteration):
            continue
    return ResourceUse(step, rss, files, len(os.listdir("/dev/shm")))


def train_and_watch(flags: list[str], steps: int, every: int) -> list[ResourceUse]:
    """Train for `steps` steps; return a sample every `every` steps. Raises EnvironmentFault if training ends early."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), *flags, "--name", "soak", "--checkpoints_dir", folder,
                   "--n_epochs", str(steps), "--n_epochs_decay", "0", "--print_freq", str(every),
                   "--displays", "console,health,html"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        samples: list[ResourceUse] = []
        try:
            for line in process.stdout:
                if PROGRESS_LINE.search(line):
                    samples.append(measure_resources(process.pid, (len(samples) + 1) * every))
                    if samples[-1].step % 100 == 0:
                        print(
                            f"step {samples[-1].step:5}: {samples[-1].rss:.1f} MB, {samples[-1].files} files open, "
                            f"{samples[-1].names} names in /dev/shm",
                            flush=True,
                        )
                if samples and samples[-1].step >= steps:
                    return samples
            raise EnvironmentFault("training", "soak", f"ended with {process.wait()} before step {steps}", "see above")
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def measure_growth(samples: list[ResourceUse], first_step: int) -> dict[str, Any]:
    """Return the growth from `first_step` on: memory as a share, open files and names as numbers."""
    settled_samples = [sample for sample in samples if sample.step >= first_step]
    window = max(1, len(settled_samples) // 10)
    before, after = settled_samples[:window], settled_samples[-window:]
    base = statistics.median(sample.rss for sample in before)
    return {"rss": statistics.median(sample.rss for sample in after) / base - 1, "from_mb": base,
            "files": min(sample.files for sample in after) - min(sample.files for sample in before),
            "names": min(sample.names for sample in after) - min(sample.names for sample in before)}  # fmt: skip


def main(argv, report):
    """Train, measure, and print what grew."""
    command = Command(__file__, __doc__)
    command.add_argument("--steps", type=positive, default=1000)
    command.add_argument("--every", type=positive, default=10, help="steps between two samples (default: %(default)s)")
    command.add_argument("train", nargs="*", metavar="-- FLAGS", help="flags of train.py, after --")
    o = command.parse_argv(argv)
    report.debug = o.debug
    samples = train_and_watch(o.train or DEFAULT_FLAGS, o.steps, o.every)
    growth = measure_growth(samples, min(WARMUP_STEPS, o.steps // 2))
    print(
        f"{o.steps} steps: memory {growth['rss']:+.2%} of {growth['from_mb']:.1f} MB, "
        f"{growth['files']:+d} open files, {growth['names']:+d} names in /dev/shm"
    )
    if growth["rss"] >= MAX_MEMORY_GROWTH or growth["files"] > 0 or growth["names"] > 0:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
