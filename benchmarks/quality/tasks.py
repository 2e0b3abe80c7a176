"""The tasks of bench_quality.py, which were fixed before anything was measured, and how a run of one is measured."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.process import ROOT
from util.errors import DataError

Values = dict[str, float]
UNSEEN = "_unseen"  # ends the names of values of images that were not trained on
HELD_OUT = "accuracy_of_real"  # what the classifier of lite0_accuracy reaches on real images that it was not trained on


@dataclass(frozen=True)
class Comparison:
    """One call of scripts/evaluate.py on the images that test.py wrote.

    real: a folder of the data, "" for the real images that test.py wrote. phase: that of the images, "" for all. last:
    only at the end of the budget.
    """

    metrics: str
    suffix: str = ""  # ends the names of the values
    side: str = "B"
    real: str = ""
    phase: str = ""
    last: bool = False


@dataclass(frozen=True)
class Task:
    """A task and its metrics.

    flags are given to every contestant, `usual` ones only where its recipe does not set them. decides: the metrics that
    decide, with the better direction; a task is won where each of them is. shown: other values of the table. pictures:
    the labels of the images of its sheet.
    """

    number: int
    title: str
    minutes: float
    data: str
    recipe: str
    flags: str
    usual: dict[str, str]
    decides: dict[str, str]
    shown: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    pictures: tuple[str, ...]
    phases: tuple[str, ...] = ("test",)
    in_reference: bool = True  # whether the reference's own code has the model
    test_flags: str = ""
    derive: Callable[[Values], Values] = field(default=lambda values: {})


def mean_of_sides(values: Values) -> Values:
    """Return the means of both directions, of all images and, if there are values, of those not trained on."""
    ends = [end for end in ("", UNSEEN) if f"lite0_kid_A{end}" in values]
    return {f"lite0_kid{end}": (values[f"lite0_kid_A{end}"] + values[f"lite0_kid_B{end}"]) / 2 for end in ends}


def accuracy_times_diversity(values: Values) -> Values:
    """Return the product of accuracy and diversity; a diversity above that of real images counts as 1."""
    return {"accuracy_x_diversity": values["digits_accuracy"] * min(1.0, values["digits_diversity"])}


PIX2PIX = {"model": "pix2pix", "netG": "unet_128", "load_size": "143"}  # 128 * 286 / 256, as the defaults crop
BOTH_SIDES = tuple(
    Comparison("lite0_kid", f"_{side}{UNSEEN if phase else ''}", side, phase=phase, last=bool(phase))
    for side in "AB"
    for phase in ("", "test")
)
TASKS = {task.number: task for task in (
    Task(1, "pix2pix, facades, label maps to photographs, 128x128", 8, "facades", "facades_cpu",
         "--direction BtoA --crop_size 128", PIX2PIX, {"hed_lpips": "lower"}, ("L1", "PSNR"),
         (Comparison("hed_lpips,L1,PSNR"),), ("real_A", "fake_B", "real_B")),
    Task(2, "pix2pix, openmoji, lines to colours, 128x128", 10, "openmoji", "openmoji_cpu",
         "--crop_size 128", PIX2PIX, {"hed_lpips": "lower", "lite0_kid": "lower"}, ("L1", "PSNR"),
         (Comparison("hed_lpips,lite0_kid,L1,PSNR"),), ("real_A", "fake_B", "real_B")),
    Task(3, "cycle_gan, apple2orange, 64x64", 15, "apple2orange", "apple2orange_cpu",
         "--crop_size 64", {"model": "cycle_gan", "load_size": "72"}, {"lite0_kid": "lower"},
         ("lite0_kid_A", "lite0_kid_B", f"lite0_kid{UNSEEN}"), BOTH_SIDES,
         ("real_A", "fake_B", "real_B", "fake_A"), ("train", "test"), derive=mean_of_sides),
    Task(4, "cgan, mnist10k, 32x32", 5, "mnist10k/png", "mnist_cpu",
         "--crop_size 32", {"model": "cgan"}, {"accuracy_x_diversity": "higher"},
         ("digits_accuracy", "digits_diversity"), (Comparison("digits_accuracy,digits_diversity", real="."),),
         ("fake",), in_reference=False, test_flags="--num_samples 100", derive=accuracy_times_diversity),
    Task(5, "cgan, rps_photos, 64x64", 20, "rps_photos", "hands_cpu",
         "--crop_size 64", {"model": "cgan"}, {"lite0_kid": "lower", "lite0_accuracy": "higher"},
         (HELD_OUT, "lite0_diversity"), (Comparison("lite0_kid,lite0_accuracy,lite0_diversity", real="."),),
         ("fake",), in_reference=False, test_flags="--num_samples 200"),
)}  # fmt: skip


def measure(
    task: Task, run: Path, epoch: str, last: bool, data: Path, images: Path, extra: Sequence[str]
) -> tuple[Values, Any]:
    """Test weights of a run and return the values of the task, and evaluate.py's tables with errors and notes.

    last: whether these are the weights at the end of the budget. images: an empty folder for what test.py writes.
    extra: further flags of test.py.
    """
    for phase in task.phases:
        where = ["--name", run.name, "--checkpoints_dir", str(run.parent), "--results_dir", str(images / phase)]
        phase_flags = ["--phase", phase] if task.usual["model"] != "cgan" else []
        run_ended("test.py", [*where, "--epoch", epoch, *task.test_flags.split(), *phase_flags, *extra])
    values: Values = {}
    tables = []
    for comparison in [each for each in task.comparisons if last or not each.last]:
        fake, found = images / comparison.phase, images / f"metrics{comparison.suffix}"
        real = data / comparison.real if comparison.real else fake
        sides = ["--real", str(real), "--fake", str(fake), "--side", comparison.side, "--output", str(found)]
        run_ended("scripts/evaluate.py", [*sides, "--metrics", comparison.metrics, "--gpu_ids", "-1"])
        table = json.loads((found / "metrics.json").read_text(encoding="utf-8"))
        measured = table["evaluations"][-1]["values"]
        values |= {f"{name}{comparison.suffix}": entry["value"] for name, entry in measured.items()}
        if read := re.search(r"classifier reads ([\d.]+)% of \d+ real images that are held out", str(table["notes"])):
            values[HELD_OUT] = float(read[1]) / 100
        tables.append({"metrics": measured, "notes": table["notes"]})
    return values | task.derive(values), tables


def run_ended(script: str, argv: Sequence[str]) -> None:
    """Run a script of this project to its end; raise DataError with its last line if it fails."""
    done = subprocess.run([sys.executable, str(ROOT / script), *argv], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1].removeprefix("error: ")
        raise DataError(script, " ".join(argv), f"ends with {done.returncode}: {last}", "run it by itself")
