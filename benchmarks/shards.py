"""Compare a data set of tiny pictures in tar shards with the same pictures as files: start, images/s, memory.

Writes pairs of 16x16 PNGs to a folder, once as files in trainA and trainB and once as shards (scripts/make_shards.py),
then reads each in new processes: a first start, which checks all headers and writes indexes, and later ones, which take
turns. The start ends with the first batch; images/s are those of the next batches of a shuffled epoch, cropped to 8x8.
Memory is the peak of the main process, and what a worker does not share with it.

Usage: python benchmarks/shards.py [--pictures 200000] [--measured 20000] [--rounds 3] [--folder /tmp]
"""

import argparse
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
from scripts.make_shards import main as make_shards
from util.errors import print_line

FILES_PER_FOLDER = 5_000
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
        flags = ["--dataset_mode", "aligned", "--max_count", "5000"]
        make_shards(["--dataroot", str(roots["files"]), "--output", str(roots["shards"]), *flags], None)
        print_line(f"files written in {written - start:.0f} s, shards in {time.monotonic() - written:.0f} s")

        # Start with each in turn.
        env = {"XDG_CACHE_HOME": str(Path(scratch, "cache")), "OMP_NUM_THREADS": "1"}
        costs: dict[str, list[dict[str, float]]] = {name: [] for name in roots}
        for _ in range(args.rounds + 1):
            for name, root in roots.items():
                settings = {"dataroot": str(root), "measured": args.measured, "workers": args.workers}
                with CaseProcess("shards:ReadingCost", settings, name, env=env) as process:
                    costs[name].append(process.facts)

        # Print the medians of the later starts.
        titles = ("first start s", "start s", "images/s", "peak MB", "worker MB", "names on disk")
        print("        " + "".join(f"{title:>15}" for title in titles))
        for name, (first, *later) in costs.items():
            of = {key: median(each[key] for each in later) for key in first}
            number = sum(1 for path in roots[name].rglob("*") if path.is_file())
            row = (first["start"], of["start"], of["speed"], of["peak"], of["worker"], number)
            print_line(f"{name:<8}" + "".join(f"{value:>15.1f}" for value in row))


def write_files(root: Path, pictures: int) -> None:
    """Write pairs of random 16x16 PNGs to trainA and trainB."""
    random = np.random.default_rng(0)
    for number in range(pictures // 2):
        for side in "AB":
            folder = root / f"train{side}" / f"{number // FILES_PER_FOLDER:04d}"
            if number % FILES_PER_FOLDER == 0:
                folder.mkdir(parents=True)
            content = BytesIO()
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(content, "PNG", compress_level=1)
            (folder / f"{number:07d}.png").write_bytes(content.getvalue())


class ReadingCost:
    """The cost of starting with a data set and of reading a part of it, measured once in a process of its own."""

    def __init__(self, home: str, dataroot: str, measured: int, workers: int):
        from data.loading.loader import Loader
        from options.parse import parse
        from registry.lookup import find

        argv = f"--model pix2pix --load_size 16 --crop_size 8 --gpu_ids -1 --batch_size {BATCH_SIZE}".split()
        o = parse([*argv, "--num_threads", str(workers), "--dataroot", dataroot], "train")
        start = time.monotonic()
        dataset = find("dataset", "aligned")(o)
        dataset.spec()
        loader = Loader(dataset, o, shuffle=True)
        loader.example_batch()
        batches = loader.epoch(1)
        next(batches)
        started = time.monotonic()
        number = max(1, min(measured // 2, len(dataset) - BATCH_SIZE) // BATCH_SIZE)
        for _ in range(number):
            next(batches)
        speed = 2 * number * BATCH_SIZE / (time.monotonic() - started)
        worker = max((private_mb(process.pid) for process in loader.workers), default=0.0)
        loader.close()
        peak = proc_mb("self", "status", "VmHWM")
        self.facts = {"start": started - start, "speed": speed, "peak": peak, "worker": worker}


if __name__ == "__main__":
    main()
