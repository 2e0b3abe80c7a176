"""Compare a data set of tiny pictures in tar shards with the same pictures as files: start, images/s, memory.

Writes pairs of 16x16 PNGs to a folder, once as files in trainA and trainB and once as shards,
then reads each in new processes that take turns: a first start, which checks all headers, and later ones. The start
ends with the first batch; images/s are those of the next batches of a shuffled epoch, cropped to 8x8. Memory is the
peak of the main process, and what a worker does not share with it. CPU time of the main process and its workers is
given too, because other programs slow it down less.

Usage: python benchmarks/shards.py [--pictures 200000] [--measured 20000] [--rounds 3] [--folder /tmp]
"""

import argparse
import os
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from benchmarks.harness.process import CaseProcess
from benchmarks.many_files import private_mb, proc_mb
from data.aligned import Aligned
from data.prepare.shard_samples import shard_samples
from data.prepare.shard_writer import Limits, write_shards
from options.parse import parse
from util.errors import print_line

FILES_PER_FOLDER = 5_000
DIFFERENT_PICTURES = 1000  # the others are copies
BATCH_SIZE = 50


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=200_000, help="number of pictures, two for each pair")
    parser.add_argument("--measured", type=int, default=20_000, help="pictures read to measure images/s")
    parser.add_argument("--rounds", type=int, default=3, help="later starts of each")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--folder", default="/tmp", help="where they are written temporarily")
    args = parser.parse_args()

    # Write the files and the shards.
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        roots = {"files": Path(scratch, "files"), "shards": Path(scratch, "shards")}
        start = time.monotonic()
        write_files(roots["files"], args.pictures)
        written = time.monotonic()
        pairs = Aligned(parse(["--model", "pix2pix", "--dataroot", str(roots["files"])], "train"))
        write_shards(roots["shards"], {"train": shard_samples(pairs)}, [], Limits(256_000_000, FILES_PER_FOLDER))
        print_line(f"files written in {written - start:.0f} s, shards in {time.monotonic() - written:.0f} s")

        # Start with each in turn.
        env = {"XDG_CACHE_HOME": str(Path(scratch, "cache")), "OMP_NUM_THREADS": "1"}
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in roots}
        for _ in range(args.rounds + 1):
            for name, root in roots.items():
                settings = {"dataroot": str(root), "measured": args.measured, "workers": args.workers}
                with CaseProcess("shards:ReadingCost", settings, name, env=env) as process:
                    costs[name].append(process.facts)
                    print_line(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in process.facts.items()))

        # Print the medians of the later starts.
        titles = (
            "first start s",
            "CPU s",
            "start s",
            "CPU s",
            "images/s",
            "CPU us/image",
            "peak MB",
            "worker MB",
            "files",
        )
        print("        " + "".join(f"{title:>14}" for title in titles))
        for name, (first, *later) in costs.items():
            of = {key: median(each[key] for each in later) for key in first}
            number = sum(1 for path in roots[name].rglob("*") if path.is_file())
            row = (first["start"], first["start_cpu"], *of.values(), number)
            print_line(f"{name:<8}" + "".join(f"{value:>14.1f}" for value in row))


def write_files(root: Path, pictures: int) -> None:
    """Write pairs of random 16x16 PNGs to trainA and trainB."""
    random, contents = np.random.default_rng(0), []
    for _ in range(DIFFERENT_PICTURES):
        content = BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(content, "PNG")
        contents.append(content.getvalue())
    for number in range(pictures // 2):
        for side in "AB":
            folder = root / f"train{side}" / f"{number // FILES_PER_FOLDER:04d}"
            if number % FILES_PER_FOLDER == 0:
                folder.mkdir(parents=True)
            with open(f"{folder}/{number:07d}.png", "wb") as file:
                file.write(contents[(number + (side == "B")) % DIFFERENT_PICTURES])


def cpu_seconds(*pids: object) -> float:
    """Return the CPU time that processes have taken, in seconds."""
    stats = [Path("/proc", str(pid), "stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


class ReadingCost:
    """The cost of starting with a data set and of reading a part of it, measured once in a process of its own."""

    def __init__(self, home: str, dataroot: str, measured: int, workers: int):
        from data.loading.loader import Loader
        from registry.lookup import find

        argv = f"--model pix2pix --load_size 16 --crop_size 8 --gpu_ids -1 --batch_size {BATCH_SIZE}".split()
        o = parse([*argv, "--num_threads", str(workers), "--dataroot", dataroot], "train")
        start, cpu_start = time.monotonic(), cpu_seconds("self")
        dataset = find("dataset", "aligned")(o)
        dataset.spec()
        loader = Loader(dataset, o, shuffle=True)
        loader.example_batch()
        batches = loader.epoch(1)
        next(batches)
        pids = ["self", *(process.pid for process in loader.workers)]
        started, cpu_started = time.monotonic(), cpu_seconds(*pids)
        number = max(1, min(measured // 2, len(dataset) - BATCH_SIZE) // BATCH_SIZE)
        for _ in range(number):
            next(batches)
        pictures, cpu = 2 * number * BATCH_SIZE, cpu_seconds(*pids) - cpu_started
        self.facts = {"start": started - start, "start_cpu": cpu_started - cpu_start}
        self.facts |= {"speed": pictures / (time.monotonic() - started), "cpu": 1e6 * cpu / pictures}
        worker = max((private_mb(process.pid) for process in loader.workers), default=0.0)
        loader.close()
        self.facts |= {"peak": proc_mb("self", "status", "VmHWM"), "worker": worker}


if __name__ == "__main__":
    main()
