"""Say how long the papers' settings take, from measured steps and counted operations: docs/scale.md.

python benchmarks/estimates/paper_scale.py --write writes the page from the tables of docs/performance.md and the counts
in step_counts.tsv beside this file; --count counts these again (minutes).
"""

import csv
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from benchmarks.harness.process import ROOT
from benchmarks.harness.stats import format_seconds, markdown_table
from cli.main import run_command
from cli.script import Command
from data.base import Spec
from options.parse import parse
from registry.lookup import find
from train import train_step
from training.dry_run import count_flops_and_activations, long_duration

PAGE, MEASURED = ROOT / "docs" / "scale.md", ROOT / "docs" / "performance.md"
COUNTS = ROOT / "benchmarks" / "estimates" / "step_counts.tsv"
EPOCHS, FLOAT_BYTES = 200, 4
TENSORS_PER_WEIGHT = 4  # a weight, its gradient, and Adam's two moments
CORES, LAPTOP_CORES, GPUS = 2, 8, 8  # of the measured CPU, of a laptop, in a machine
LAPTOP_WATT, H100_WATT = 45, 700  # thermal design power: a usual laptop processor's, an H100 SXM's
SIDES = (256, 512, 1024)
CASES = {"cycle_gan": "step of CycleGAN at its defaults", "pix2pix": "step of pix2pix at its defaults"}


@dataclass(frozen=True)
class Task:
    """A data set of a paper: images is the number of an epoch, for CycleGAN that of the larger side."""

    name: str
    model: str
    images: int
    side: int = 256

    @property
    def steps(self) -> int:
        """Steps of all epochs, at batch 1."""
        return self.images * EPOCHS


TASKS = (
    Task("horse2zebra", "cycle_gan", 1334), Task("facades", "pix2pix", 400), Task("maps", "pix2pix", 1096),
    Task("cityscapes", "pix2pix", 2975), Task("horse2zebra", "cycle_gan", 1334, 512),
    Task("horse2zebra", "cycle_gan", 1334, 1024), Task("cityscapes", "pix2pix", 2975, 512),
    Task("cityscapes", "pix2pix", 2975, 1024),
)  # fmt: skip
HEADS = (
    "task",
    "model, side",
    "GFLOP a step",
    "memory",
    "2 CPU cores",
    "laptop",
    "its kWh",
    "one H100",
    "its kWh ",
    "eight",
)
TEXT = """# How long a paper's training takes

This page answers "can I train this here?" before you start. Each number is computed by
`python benchmarks/estimates/paper_scale.py --write`, from the steps measured in [performance.md](performance.md) and
from counted operations. `python train.py ... --dry_run` says the same of your own run on your own machine: it measures
two steps.

The settings are those of the papers: {epochs} epochs at batch 1, in 32 bits (on the GPU, convolutions in
TensorFloat-32), models at their defaults. Times are those of computing, without loading, metrics and pages.

{table}

- **2 CPU cores**: measured at 256 on {cpu}: {cycle_cpu} a step of CycleGAN and {pix_cpu} of pix2pix.
  Other sizes (with ~) are extrapolated by operations.
- **laptop**: an estimate, {laptop} such cores that are {laptop_ratio:g} times as fast as {cores}. They rarely are, so
  it is a lower bound.
- **one H100**: measured at 256 and batch 1, {cycle_gpu} and {pix_gpu}. There a step waits for Python. Other sizes
  (with ~) are extrapolated: a step takes as long as its operations at the speed of batch 16 ({cycle_rate} and
  {pix_rate} TFLOP/s), but no less than a step at 256.
- **eight**: an estimate, an eighth of one, so a lower bound; it was never tried. Eight processes train with batches of
  eight or more, which is another training than the paper's.
- **memory**: counted: weights, gradients, Adam's moments and the activations kept for backward passes. The H100's
  measured peaks at 256 were {cycle_peak} MB and {pix_peak} MB. On a CPU, torch itself takes {torch_mb} MB more.
- **kWh** are estimates: thermal design power, {laptop_watt} W of a laptop's processor or {gpu_watt} W of an H100,
  times the time. Memory, fans and cooling come on top.

## Which flags to choose

- **On a laptop**, CycleGAN at 256 takes {laptop_days}. Begin with
  `--netG resnet_9blocks --load_size 128 --crop_size 128 --ngf 32 --ndf 32`: {small_cpu} a step on {cores} cores, so
  {small_all} for {epochs} epochs of horse2zebra. `--amp bf16` was {cpu_bf16} times as fast there with batches of four,
  on a CPU with 16-bit units; `--amp auto` tries that. pix2pix on facades takes {facades_cpu}.
- **On one GPU**, images that are processed together are cheaper: `--batch_size 8 --amp bf16` took {gpu_batch} for
  eight images of CycleGAN, {gpu_each} each instead of {cycle_gpu}, so {gpu_all} for horse2zebra. It is another
  training: eight images share a step. At batch 1, `--cuda_graphs on` is meant for steps that wait for Python; no GPU
  has measured it yet.
- **If memory is short**, `--grad_checkpoint` needed {checkpoint_mb} MB instead of {plain_mb} MB (CycleGAN, batch 8),
  at {checkpoint_ratio} times the speed. `--accumulate N` processes a batch in parts.
- **At 1024**, CycleGAN needs {huge_mb} of memory and {huge_days} on one H100. Train at 512, or on crops
  (`--preprocess scale_width_and_crop --crop_size 512`), and let test.py process whole images in tiles (`--tile`).
"""


def tables(page: Path) -> dict[str, list[dict[str, str]]]:
    """Return {mark: rows} of the tables of a document between <!-- mark --> and <!-- /mark -->."""
    found = {}
    for mark, text in re.findall(r"<!-- (\w+) -->\n(.*?)<!-- /\1 -->", page.read_text(encoding="utf-8"), re.DOTALL):
        lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line] for line in lines]
        # A column may have the name of an earlier one: the first one counts.
        found[mark] = [dict(zip(reversed(cells[0]), reversed(row))) for row in cells[2:]] if cells else []
    return found


def seconds(text: str) -> float:
    """Return a measured time, such as "7.57 s" or "595 ms"."""
    number, unit = text.split()
    return float(number) / {"s": 1, "ms": 1000}[unit]


def energy(value: float, watt: float) -> str:
    """Return the kWh of seconds at a power."""
    kwh = value / 3.6e6 * watt
    return f"{kwh:.0f}" if kwh >= 10 else f"{kwh:.2g}"


def counts() -> dict[tuple[str, int], dict[str, int]]:
    """Return the stored counts by model and side."""
    with COUNTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    names = ("parameters", "flops", "activation_bytes")
    return {(row["model"], int(row["side"])): {name: int(row[name]) for name in names} for row in rows}


class Estimates:
    """The times and memory of tasks, from measured tables and stored counts."""

    def __init__(self) -> None:
        found = tables(MEASURED)
        self.cases = {row["case"]: row for row in found["cases"]}
        self.gpu_cases = {row["case"]: row for row in found["gpu_cases"]}
        self.ways = {(row["training"], row["with"].strip("`")): row for row in found["ways"] + found["gpu_ways"]}
        self.counts = counts()
        self.cpu_step = {model: seconds(self.cases[case]["time"]) for model, case in CASES.items()}

    def gpu_step(self, model: str, batch: int) -> float:
        """Return the measured seconds of an image of a step on one H100."""
        return seconds(self.gpu_cases[f"a picture of {model}'s step, batch {batch}"]["time"])

    def cpu(self, task: Task) -> float:
        """Return the seconds of a task on the measured cores."""
        flops = self.counts[task.model, task.side]["flops"] / self.counts[task.model, SIDES[0]]["flops"]
        return task.steps * self.cpu_step[task.model] * flops

    def gpu(self, task: Task) -> float:
        """Return the seconds of a task on one H100."""
        flops = self.counts[task.model, task.side]["flops"] / self.counts[task.model, SIDES[0]]["flops"]
        return task.steps * max(self.gpu_step(task.model, 1), self.gpu_step(task.model, 16) * flops)

    def memory(self, task: Task) -> float:
        """Return the bytes of weights, gradients, moments and activations."""
        count = self.counts[task.model, task.side]
        return TENSORS_PER_WEIGHT * FLOAT_BYTES * count["parameters"] + count["activation_bytes"]

    def row(self, task: Task) -> list[str]:
        """Return a task's row of the table."""
        mark = "" if task.side == SIDES[0] else "~"
        cpu, gpu = self.cpu(task), self.gpu(task)
        laptop = cpu * CORES / LAPTOP_CORES
        return [task.name, f"{task.model}, {task.side}", f"{self.counts[task.model, task.side]['flops'] / 1e9:,.0f}",
                f"{self.memory(task) / 1e9:.1f} GB", mark + long_duration(cpu), "~" + long_duration(laptop),
                energy(laptop, LAPTOP_WATT), mark + long_duration(gpu), energy(gpu, H100_WATT),
                "~" + long_duration(gpu / GPUS)]  # fmt: skip


def page() -> str:
    """Return the text of docs/scale.md."""
    e = Estimates()
    horses, facades, huge = TASKS[0], TASKS[1], TASKS[5]
    small = seconds(e.cases["step of CycleGAN, 128x128, ngf 32"]["time"])
    batch = e.ways["cycle_gan 256x256, batch 8", "--amp bf16"]
    kept = e.ways["cycle_gan 256x256, batch 8", "--grad_checkpoint"]
    cpu_text = re.search(r"<!-- cases -->\nMeasured [^ ]+ on ([^)]*\))", MEASURED.read_text(encoding="utf-8"))
    plain = re.search(r"Plain took .*?\s(\d+), (\d+) and (\d+) MB", MEASURED.read_text(encoding="utf-8"), re.DOTALL)
    assert cpu_text and plain
    values: dict[str, Any] = {
        "epochs": EPOCHS, "cores": CORES, "laptop": LAPTOP_CORES, "laptop_ratio": LAPTOP_CORES / CORES,
        "laptop_watt": LAPTOP_WATT, "gpu_watt": H100_WATT, "cpu": cpu_text[1],
        "table": markdown_table(HEADS, [e.row(task) for task in TASKS]),
        "cycle_cpu": e.cases[CASES["cycle_gan"]]["time"], "pix_cpu": e.cases[CASES["pix2pix"]]["time"],
        "cycle_gpu": format_seconds(e.gpu_step("cycle_gan", 1)), "pix_gpu": format_seconds(e.gpu_step("pix2pix", 1)),
        "cycle_rate": _rate(e, "cycle_gan"), "pix_rate": _rate(e, "pix2pix"),
        "torch_mb": e.cases["import torch"]["peak MB"], "cycle_peak": plain[1], "pix_peak": plain[2],
        "plain_mb": plain[3],
        "laptop_days": long_duration(e.cpu(horses) * CORES / LAPTOP_CORES) + " or more",
        "small_cpu": format_seconds(small), "small_all": long_duration(small * horses.steps),
        "cpu_bf16": e.ways["CycleGAN 128x128, ngf 32, batch 4", "--amp bf16"]["ratio"].strip("x"),
        "facades_cpu": f"{long_duration(e.cpu(facades))} on {CORES} cores",
        "gpu_batch": batch["time of a step"], "gpu_each": format_seconds(seconds(batch["time of a step"]) / 8),
        "gpu_all": long_duration(seconds(batch["time of a step"]) / 8 * horses.steps),
        "checkpoint_mb": kept["peak MB"], "checkpoint_ratio": kept["ratio"].strip("x"),
        "huge_mb": f"{e.memory(huge) / 1e9:.0f} GB", "huge_days": "about " + long_duration(e.gpu(huge)),
    }  # fmt: skip
    return TEXT.format(**values)


def _rate(e: Estimates, model: str) -> str:
    return f"{e.counts[model, SIDES[0]]['flops'] / e.gpu_step(model, 16) / 1e12:.0f}"


def count_steps(models: dict[str, tuple[int, ...]]) -> dict[tuple[str, int], dict[str, int]]:
    """Return the parameters, operations and activations of a step of each model at each side, counted now."""
    found = {}
    for name, sides in models.items():
        o = parse(["--model", name, "--dataroot", "demo", "--gpu_ids", "-1"], "train")
        with torch.device("meta"):
            model = find("model", name)(o, Spec(3, 3, SIDES[0], SIDES[0]))
        for side in sides:
            image = torch.empty(1, 3, side, side, device="meta")
            batch = {"A": image, "B": image.clone(), "path_A": ["a"], "path_B": ["b"]}
            flops, kept = count_flops_and_activations(train_step, o, model, batch)
            number = sum(p.numel() for p in model.parameters())
            found[name, side] = {"parameters": number, "flops": flops, "activation_bytes": kept}
    return found


def main(argv, report):
    """Print the page, or write it."""
    command = Command(__file__, __doc__)
    command.add_switch("--write", f"write docs/{PAGE.name} instead of printing it")
    command.add_switch("--count", f"count operations again, into {COUNTS.name}")
    o = command.parse_argv(argv)
    if o.count:
        found = count_steps(dict.fromkeys(CASES, SIDES))
        names = ("parameters", "flops", "activation_bytes")
        rows = [("model", "side", *names), *((*key, *(count[n] for n in names)) for key, count in found.items())]
        COUNTS.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    if o.write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
