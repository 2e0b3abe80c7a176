"""Measure what very many image files cost before the first step: seconds to list them, and memory of all processes.

Writes valid image files of 69 bytes to a folder in memory (4 kB each there), then makes each dataset over them in a new
process, twice, because the second run knows which headers are sound, and once over ten files. Memory is the peak
(VmHWM); a worker's memory is what it does not share after four batches. Both are given as the excess over ten files.

Usage: python benchmarks/many_files.py [--files 1000000] [--folder /dev/shm]
"""

import argparse
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from benchmarks.harness.process import CaseProcess
from util.errors import print_line

DATASETS = {  # dataset: (folder below the root, further flags)
    "single": ("train", []),
    "unaligned": ("train", []),
    "aligned, joined": ("", ["--pairs", "joined"]),
    "aligned, sides": ("train", ["--pairs", "sides"]),
    "labeled": ("train", []),
}
FILES_PER_FOLDER = 5_000


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1_000_000, help="number of images")
    parser.add_argument("--folder", default="/dev/shm", help="where they are written temporarily")
    args = parser.parse_args()

    # Write the files.
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        few, many = Path(scratch, "few"), Path(scratch, "many")
        start = time.monotonic()
        write_files(few, 10)
        write_files(many, args.files)
        print(f"{args.files} images written in {time.monotonic() - start:.0f} s")

        # Measure each dataset over few files, over all files, and over all files again.
        env = {"XDG_CACHE_HOME": str(Path(scratch, "cache")), "OMP_NUM_THREADS": "1"}
        print(f"{'data set':<17}{'list s':>8}{'headers s':>11}{'again s':>9}{'MB more':>9}{'worker MB':>11}")
        for title, (folder, flags) in DATASETS.items():
            costs = []
            for root in (few, many, many):
                settings = {"name": title.partition(",")[0], "dataroot": str(root / folder), "flags": flags}
                with CaseProcess("many_files:DatasetCost", settings, title, env=env) as process:
                    costs.append(process.facts)
            base, first, again = costs
            print_line(
                f"{title:<17}{first['list']:>8.1f}{first['headers']:>11.1f}{again['headers']:>9.1f}"
                f"{first['peak'] - base['peak']:>9.0f}{first['worker'] - base['worker']:>11.1f}"
            )


def write_files(root: Path, count: int) -> None:
    """Write `count` images of 2x1 pixels into train/trainA and train/trainB below `root`."""
    content = BytesIO()
    Image.new("RGB", (2, 1)).save(content, "PNG")
    for number in range(count // 2):
        for side in "AB":
            folder = root / "train" / f"train{side}" / f"{number // FILES_PER_FOLDER:04d}"
            if number % FILES_PER_FOLDER == 0:
                folder.mkdir(parents=True)
            (folder / f"picture_{number:07d}.png").write_bytes(content.getvalue())


class DatasetCost:
    """The cost of making a dataset, measured once in a process of its own."""

    def __init__(self, home: str, name: str, dataroot: str, flags: list[str]):
        self.facts = measure_dataset(name, dataroot, flags)


def measure_dataset(name: str, dataroot: str, flags: list[str]) -> dict[str, float]:
    """Make a dataset and load four batches with two workers in this process; return the seconds and MB."""
    from data.loading.loader import Loader
    from options.parse import parse
    from registry.lookup import find

    argv = ["--model", "pix2pix", "--dataset_mode", name, "--dataroot", dataroot, *flags]
    argv += "--load_size 8 --crop_size 8 --num_threads 2 --gpu_ids -1".split()
    o = parse(argv, "train")
    start = time.monotonic()
    dataset = find("dataset", name)(o)
    listed = time.monotonic()
    dataset.spec()
    inspected = time.monotonic()
    loader = Loader(dataset, o, shuffle=True)
    batches = loader.epoch(1)
    for _ in range(4):
        next(batches)
    worker = max(private_mb(process.pid) for process in loader.workers)
    loader.close()
    peak = proc_mb("self", "status", "VmHWM")
    return {"list": listed - start, "headers": inspected - listed, "peak": peak, "worker": worker}


def private_mb(pid: int) -> float:
    """Return the MB that a process does not share with others."""
    return proc_mb(pid, "smaps_rollup", "Private_Clean") + proc_mb(pid, "smaps_rollup", "Private_Dirty")


def proc_mb(pid: int | str, file: str, name: str) -> float:
    """Return the number of kB in the line `name` of /proc/PID/FILE, in MB."""
    rows = Path("/proc", str(pid), file).read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(name)) / 1024


if __name__ == "__main__":
    main()
