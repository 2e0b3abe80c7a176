"""Measure what displays cost a training run: the time of display calls, of whole steps, and of the end of the run.

A small pix2pix run on the generated demo images takes turns in five variants: without visdom, with a real server, with
a closed port, with a tarpit (a server that accepts connections and never answers), and with the training page and its
eight fixed samples instead. Losses are sent every 5 steps and images every 20 steps, 20 times as often as by default.
Results are medians over the rounds; ratios are to the run without visdom of the same round. CPU time of all threads is
the measure that other load on the machine affects least.

Usage: python benchmarks/display_cost.py [--rounds 7] [--steps 240]
"""

import argparse
import contextlib
import importlib.util
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PRELOADED_MODULES = (
    "torch train torchvision.transforms.v2 models.pix2pix data.aligned data.loading.loader training.run "
    "training.preflight displays.visdom displays.html networks.architectures.resnet networks.architectures.patchgan"
)
STEPS_PER_EPOCH = 60
TRAIN_FLAGS = (
    "--model pix2pix --dataroot demo --netG resnet_4blocks --ngf 8 --ndf 8 --load_size 72 --crop_size 64 --gpu_ids -1 "
    "--num_threads 0 --n_epochs_decay 0 --print_freq 5 --display_freq 20 --no_html --no_progress --fixed_samples 0 "
    f"--name run --max_dataset_size {STEPS_PER_EPOCH}"
)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="runs of each variant")
    parser.add_argument("--steps", type=int, default=240, help="steps of a run, 60 per epoch")
    args = parser.parse_args()
    context = multiprocessing.get_context("forkserver")  # so that torch is imported only once
    context.set_forkserver_preload(PRELOADED_MODULES.split())
    figures_by_variant: dict[str, list[dict[str, float]]] = {}
    with tarpit_server() as tarpit_port, visdom_server() as visdom_port:
        variants = {
            "off": "--display_id 0",
            "on": visdom_flags(visdom_port),
            "dead port": visdom_flags(free_port()),
            "tarpit": visdom_flags(tarpit_port),
            "page": "--display_id 0 --html --fixed_samples 8",
        }
        if visdom_port is None:
            del variants["on"]

        # Train each variant once per round, each in a new process.
        with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
            for number in range(-1, args.rounds):  # the first round is a warm-up
                for variant, flags in variants.items():
                    epochs = max(1, args.steps // STEPS_PER_EPOCH)
                    figures = pool.submit(train_and_time, epochs, f"{TRAIN_FLAGS} {flags}".split()).result()
                    if number >= 0:
                        figures_by_variant.setdefault(variant, []).append(figures)
    print_table(figures_by_variant)
    if visdom_port is None:
        print("not measured with a server: visdom is not installed (python scripts/setup/install_visdom.py)")


def visdom_flags(port: int | None) -> str:
    """Return the flags that send plots to a local port."""
    return f"--display_server http://127.0.0.1 --display_port {port}"


def train_and_time(epochs: int, flags: list[str]) -> dict[str, float]:
    """Train in this process; return the seconds of display calls per step, of a step, and of closing the displays."""
    import torch

    import train
    from cli.main import run_command
    from displays.group import Display

    torch.set_num_threads(1)
    seconds: defaultdict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def timed(part: str) -> Iterator[None]:
        start, processor_start = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            seconds[part] += time.perf_counter() - start
            seconds[f"processor in {part}"] += time.process_time() - processor_start

    def timed_loop(*args: Any) -> Any:
        with timed("loop"):
            yield from loop(*args)

    # Time the display calls and the training loop.
    loop, train.train = train.train, timed_loop
    for name, part in {"step": "calls", "epoch": "calls", "preview": "calls", "close": "end"}.items():
        setattr(Display, name, timed(part)(getattr(Display, name)))

    # Train.
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as devnull, contextlib.redirect_stdout(devnull):
        os.chdir(folder)
        if run_command(train.main, [*flags, "--n_epochs", str(epochs)]):
            raise SystemExit("a run failed")
        os.chdir(ROOT)
    whole = {"calls": seconds["calls"], "loop": seconds["loop"], "processor": seconds["processor in loop"]}
    steps = epochs * STEPS_PER_EPOCH
    return {part: value / steps for part, value in whole.items()} | {"end": seconds["end"]}


def print_table(figures_by_variant: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, and the ratios of whole steps to those of the same round without visdom."""
    print("visdom      display calls   whole step   ratio   processor   ratio   end of the run   longest")
    for variant, runs in figures_by_variant.items():
        calls, loop, processor, end = (statistics.median(run[what] for run in runs) for what in runs[0])
        turns = list(zip(runs, figures_by_variant["off"], strict=True))
        ratios = [statistics.median(run[part] / off[part] for run, off in turns) for part in ("loop", "processor")]
        longest = max(run["end"] for run in runs)
        print(
            f"{variant:<10} {1000 * calls:>11.3f} ms {1000 * loop:>9.2f} ms {ratios[0]:>7.3f} "
            f"{1000 * processor:>8.2f} ms {ratios[1]:>7.3f} {end:>14.2f} s {longest:>7.2f} s"
        )


def free_port() -> int:
    """Return a free local port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def tarpit_server() -> Iterator[int]:
    """Yield the port of a server that lets everyone connect, because its queue is long, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def visdom_server() -> Iterator[int | None]:
    """Yield the port of a visdom server, None if visdom is not installed."""
    from displays.visdom_server import RUN_CODE, is_visdom_running

    if importlib.util.find_spec("visdom") is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", RUN_CODE, "-port", str(port), "-bind_local", "-env_path", f"{folder}/"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not is_visdom_running(f"http://127.0.0.1:{port}"):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.1)
                    raise SystemExit("visdom does not start")
            yield port
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
