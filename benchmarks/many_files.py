"""What very many pictures cost before the first step: seconds to list them, memory, also of the workers.

Writes that many real pictures of 69 bytes to a folder in memory (4 kB each there), then makes each data set over them
in a process of its own, and the same over ten files; a second round finds the index remembered. Memory is the highest
there was (VmHWM), that of a worker what it does not share after four batches, both beyond those of ten files.

Usage: python benchmarks/many_files.py [--files 1000000] [--folder /dev/shm]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

WAYS = {  # data set: (folder below the one of all files, further flags)
    "single": ("train", []),
    "unaligned": ("train", []),
    "aligned, joined": ("", ["--pairs", "joined"]),
    "aligned, sides": ("train", ["--pairs", "sides"]),
    "labeled": ("train", []),
}
IN_ONE = 5_000  # files a folder


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1_000_000, help="how many pictures")
    parser.add_argument("--folder", default="/dev/shm", help="where they are written for a while")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(*given.measure)))
        return 0
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        few, many = Path(place, "few"), Path(place, "many")
        began = time.monotonic()
        write(few, 10)
        write(many, given.files)
        print(f"{given.files} pictures written in {time.monotonic() - began:.0f} s")
        time.sleep(2.5)  # folders that changed this moment are not remembered
        env = os.environ | {"XDG_CACHE_HOME": str(Path(place, "cache")), "OMP_NUM_THREADS": "1"}
        print(
            f"{'data set':<17}{'list s':>8}{'again s':>9}{'headers s':>11}{'MB more':>9}{'again':>7}{'worker MB':>11}"
        )
        for way in WAYS:
            base, first, again = (ask(way, root, given.files, env) for root in (few, many, many))
            print(
                f"{way:<17}{first['list']:>8.1f}{again['list']:>9.1f}{first['headers']:>11.1f}"
                f"{first['peak'] - base['peak']:>9.0f}{again['peak'] - base['peak']:>7.0f}"
                f"{first['worker'] - base['worker']:>11.1f}",
                flush=True,
            )
    return 0


def write(root: Path, count: int) -> None:
    """Write so many pictures of one pixel into train/trainA and train/trainB below a root."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (2, 1)).save(file, "PNG")
    for number in range(count // 2):
        for side in "AB":
            folder = root / "train" / f"train{side}" / f"{number // IN_ONE:04d}"
            if number % IN_ONE == 0:
                folder.mkdir(parents=True)
            with open(f"{folder}/picture_{number:07d}.png", "wb") as picture:
                picture.write(file.getvalue())


def ask(way: str, root: Path, files: int, env: dict[str, str]) -> dict[str, float]:
    """Return the figures of one data set, made in a new process."""
    folder, flags = WAYS[way]
    command = [sys.executable, __file__, "--measure", way, str(root / folder), json.dumps(flags)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(way: str, dataroot: str, flags: str) -> dict[str, float]:
    """Return seconds and MB of making a data set and loading four batches with two workers, in this process."""
    from data.loading.loader import Loader
    from options.parse import parse
    from registry.lookup import find

    name = way.partition(",")[0]
    argv = ["--model", "pix2pix", "--dataset_mode", name, "--dataroot", dataroot, "--load_size", "8", "--crop_size",
            "8", "--num_threads", "2", "--gpu_ids", "-1", *json.loads(flags)]  # fmt: skip
    o = parse(argv, "train")
    began = time.monotonic()
    dataset = find("dataset", name)(o)
    listed = time.monotonic()
    dataset.spec()
    looked = time.monotonic()
    loader = Loader(dataset, o, shuffle=True)
    batches = loader.epoch(1)
    for _ in range(4):
        next(batches)
    worker = max(not_shared(process.pid) for process in loader.workers)
    loader.close()
    return {"list": listed - began, "headers": looked - listed, "peak": in_kb("self", "status", "VmHWM") / 1024,
            "worker": worker / 1024}  # fmt: skip


def not_shared(pid: int) -> int:
    """Return the kB that a process shares with no other."""
    return in_kb(str(pid), "smaps_rollup", "Private_Clean") + in_kb(str(pid), "smaps_rollup", "Private_Dirty")


def in_kb(pid: str, file: str, name: str) -> int:
    """Return a number of the kernel's about a process."""
    rows = Path("/proc", pid, file).read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(name))


if __name__ == "__main__":
    sys.exit(main())
