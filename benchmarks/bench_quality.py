"""Compare the images of recipes with those of the reference at equal time.

Each run is a process of train.py, one at a time, with the minutes of its task (quality/tasks.py). The time is counted
from the end of the first step. At each of --points shares of it SIGTERM stops the run and its weights are kept; then
--continue_train continues it exactly, so that neither starting, nor saving, nor measuring counts. At the end, test.py
and scripts/evaluate.py measure each share. A finished run is one file in --results. A rerun does only what is missing;
a run that was interrupted starts again. A run that fails is reported and not stored.

The contestants are `reference` (--recipe reference, the defaults; with --reference DIR the reference's own code, once
at its end, as it cannot continue) and `best` (the recipe of the task). Candidates are chosen on seeds of their own:
--candidate my.yaml --tasks 1 --seeds 11,12.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from benchmarks.bench import check_reference
from benchmarks.harness import stats
from benchmarks.harness.timed_training import TimedTraining, last_row
from benchmarks.quality import report as quality_report
from benchmarks.quality.report import BEST, REFERENCE
from benchmarks.quality.tasks import TASKS, Task, measure
from cli.main import run_command
from cli.script import Command, positive
from options.recipe import read_recipe
from serialization.weight_files import load_weights
from util import file_lock
from util.atomic_write import replace_text
from util.errors import DataError, EnvironmentFault, OptionError, count_text, print_line

REPORT_SEEDS, CANDIDATE_SEEDS = "1,2,3", "11,12"
NEVER = "1000000000"
QUIET = f"--gpu_ids -1 --display_id 0 --no_html --print_freq 1 --save_epoch_freq {NEVER} --save_latest_freq {NEVER}"
OURS_QUIET = f"--no_progress --save_minutes 0 --keep_last 1 --keep_epochs 0 --sample_epoch_freq {NEVER} --watchdog 0"
NOT_WEIGHTS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Job:
    """A run to be done. contestant: `reference`, `best`, or what --recipe or --candidate names."""

    task: Task
    contestant: str
    seed: int
    seconds: float
    points: int
    reference: Path | None = None  # the reference's own code, for this run

    @property
    def recipe(self) -> str:
        """The recipe's name or file."""
        return self.task.recipe if self.contestant == BEST else self.contestant

    def flags(self, data: Path) -> list[str]:
        """Return the flags of train.py, without those of the run's folder."""
        values = read_recipe(self.recipe).values
        usual = [word for name, value in self.task.usual.items() if name not in values for word in (f"--{name}", value)]
        fixed = ["--dataroot", str((data / self.task.data).resolve()), *usual, *self.task.flags.split()]
        if self.reference:
            return [*fixed, *self._known_to_reference()]
        return ["--recipe", self.recipe, *fixed, *QUIET.split(), *OURS_QUIET.split(), "--seed", str(self.seed)]

    def _known_to_reference(self) -> list[str]:
        """Return the quiet flags that the reference's version has; later ones lack --gpu_ids and --display_id."""
        assert self.reference is not None
        declared = "".join(file.read_text(encoding="utf-8") for file in (self.reference / "options").glob("*.py"))
        words = QUIET.split()
        starts = [place for place, word in enumerate(words) if word.startswith("--")]
        groups = [words[one:two] for one, two in zip(starts, [*starts[1:], None])]
        return [word for group in groups if group[0] in declared for word in group]

    def key(self) -> str:
        """Return the name of its result; it changes with the task, the budget and the recipe's values."""
        facts = [self.task.number, self.task.flags, self.task.usual, self.seconds, self.points, bool(self.reference)]
        text = json.dumps([*facts, dict(read_recipe(self.recipe).values)], default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.task.number}-{Path(self.contestant).stem}-seed{self.seed}-{digest}"


def train(job: Job, run: Path, data: Path, log: Path) -> list[dict[str, Any]]:
    """Train a run for its budget and keep weights 1_net_*.pth, 2_net_*.pth, ...; return seconds and images of each."""
    points: list[dict[str, Any]] = []
    seconds, number = 0.0, 1 if job.reference else job.points
    for k in range(1, number + 1):
        with TimedTraining(run, job.flags(data), log, job.reference) as process:
            took, others, done = process.train(job.seconds * k / number - seconds)
        seconds, row = seconds + took, last_row(run / "losses.jsonl")
        if not row:
            raise process.failure("wrote no losses")
        for file in run.glob("latest_net_*.pth"):
            os.link(file, file.with_name(file.name.replace("latest", str(k), 1)))
        figures = {"seconds": round(seconds, 2), "images": row["samples"], "steps": row["step"]}
        points.append({"epoch": str(k)} | figures | {"cores_of_others": round(others, 2)})
        if done:
            break
    return points


def do(job: Job, results: Path, data: Path) -> dict[str, Any]:
    """Train and measure a run, store its result and its pictures, and return the result."""
    start, run = time.monotonic(), results / "work" / job.key()
    shutil.rmtree(run.parent, ignore_errors=True)  # of a run that was interrupted
    run.parent.mkdir(parents=True)
    log = results / "logs" / f"{job.key()}.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    points = train(job, run, data, log)
    extra = test_flags(job, data) if job.reference else ["--gpu_ids", "-1"]
    for point in points:
        with contextlib.closing(Pictures(run.parent / "images")) as images:
            last, place = point is points[-1], data / job.task.data
            found = measure(job.task, run, point["epoch"], last, place, images.folder, extra)
            point["values"], point["tables"] = found
            if last:
                images.keep(job.task, results / "pictures" / job.key())
    result = {
        "task": job.task.number, "title": job.task.title, "contestant": job.contestant, "seed": job.seed,
        "key": job.key(), "budget_seconds": job.seconds, "own_code_of_reference": bool(job.reference),
        "recipe": {k: str(v) for k, v in read_recipe(job.recipe).values.items()}, "flags": job.flags(data),
        "commit": commit(), "machine": stats.machine_info(), "points": points, "parameters": parameters(run),
        "wall_seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip
    replace_text(results / f"{job.key()}.json", json.dumps(result, indent=1) + "\n")
    shutil.rmtree(run.parent)
    return result


@dataclass
class Pictures:
    """A folder for the images of test.py, which is removed."""

    folder: Path

    def keep(self, task: Task, target: Path) -> None:
        """Copy the images of the sheet, evenly spread over the tested ones."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for label in task.pictures:
            found = sorted((self.folder / "test").rglob(f"*_{label}.png"))
            columns = min(len(found), quality_report.COLUMNS)
            for k in range(columns):
                shutil.copy(found[k * len(found) // columns], target / f"{k:02d}_{label}.png")

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def test_flags(job: Job, data: Path) -> list[str]:
    """Return the flags with which test.py tests the reference's weights, whose folder has no options."""
    usual = [word for name, value in job.task.usual.items() if name != "load_size" for word in (f"--{name}", value)]
    place = str((data / job.task.data).resolve())
    return ["--dataroot", place, "--gpu_ids", "-1", *usual, *job.task.flags.split()]


def parameters(run: Path) -> dict[str, int]:
    """Return the number of parameters of each exported network."""
    found = {}
    for file in sorted(run.glob("latest_net_*.pth")):
        weights = load_weights(file)
        numbers = [t.numel() for name, t in weights.items() if not name.endswith(NOT_WEIGHTS)]
        found[file.stem.removeprefix("latest_net_")] = sum(numbers)
    return found


def commit() -> str:
    """Return the commit of this checkout, with a + if files differ from it; "" outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")


def load_results(results: Path) -> list[dict[str, Any]]:
    """Return the stored results, oldest name first."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.glob("[1-9]-*.json"))]


def expected_seconds(job: Job, done: list[dict[str, Any]]) -> float:
    """Return how long a run will take in all, at least its budget: as the slowest alike did, or a guess."""
    alike = [r["wall_seconds"] for r in done if (r["task"], r["budget_seconds"]) == (job.task.number, job.seconds)]
    return max(job.seconds, max(alike, default=1.3 * job.seconds + 60 * job.points))


def make_parser() -> Command:
    """Return the command line."""
    command = Command(__file__, __doc__)
    command.add_value("--tasks", ",".join(map(str, TASKS)), "numbers of tasks, comma-separated")
    command.add_argument("--seeds", help=f"default: {REPORT_SEEDS}, for --candidate {CANDIDATE_SEEDS}")
    text = "reference, best, a recipe's name or file, instead of reference and best; may be repeated"
    command.add_argument("--recipe", action="append", default=[], metavar="RECIPE", help=text)
    text = f"like --recipe, on seeds other than {REPORT_SEEDS}"
    command.add_argument("--candidate", action="append", default=[], metavar="RECIPE", help=text)
    command.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of the reference, to run its code")
    command.add_value("--data", "../shared/data", "folder with facades, apple2orange, mnist10k, rps_photos, openmoji")
    command.add_value("--results", "./quality", "folder of the results")
    command.add_value("--minutes", 0.0, "start only runs that end in so many minutes; 0: all")
    command.add_value("--points", 6, "shares of the budget that are measured", type=positive)
    command.add_value("--scale", 1.0, "factor on the budgets, to try it out")
    command.add_switch("--report", "write the tables and sheets into docs/ from the stored results, and run nothing")
    command.add_value("--docs", str(ROOT / "docs"), "folder of recipes.md and images, for --report")
    return command


def jobs(o: Any) -> Iterator[Job]:
    """Yield the runs that the flags ask for: the contestants of a task and seed one after the other."""
    contestants = o.candidate or o.recipe or [REFERENCE, BEST]
    if o.candidate and o.recipe:
        raise OptionError("options", "--candidate and --recipe", "exclude each other", "omit one of them")
    seeds = numbers("--seeds", o.seeds or (CANDIDATE_SEEDS if o.candidate else REPORT_SEEDS))
    if o.candidate and set(seeds) & set(numbers("--seeds", REPORT_SEEDS)):
        why = f"seeds {REPORT_SEEDS} are for the comparison"
        raise OptionError("option", "--candidate", why, f"choose others, such as --seeds {CANDIDATE_SEEDS}")
    chosen = numbers("--tasks", o.tasks)
    if unknown := [number for number in chosen if number not in TASKS]:
        raise OptionError(
            "option", "--tasks", f"there is no task {unknown[0]}", f"choose of {', '.join(map(str, TASKS))}"
        )
    for seed in seeds:
        for task in map(TASKS.__getitem__, chosen):
            for contestant in contestants:
                own = o.reference.resolve() if o.reference and contestant == REFERENCE and task.in_reference else None
                yield Job(task, contestant, seed, 60 * task.minutes * o.scale, o.points, own)


def numbers(flag: str, text: str) -> list[int]:
    """Return comma-separated whole numbers; raise OptionError."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise OptionError("option", flag, f"{text} is not a list of whole numbers", "write 1,2,3") from None


def main(argv, report):
    """Do the runs that are missing, one after the other, or write the report."""
    o = make_parser().parse_argv(argv)
    results, data, start = Path(o.results).resolve(), Path(o.data).resolve(), time.monotonic()
    if o.reference:
        check_reference(o.reference)
    if o.report:
        done = load_results(results)
        wanted = {job.key() for job in jobs(o)}
        print_line(quality_report.write(done, wanted, results / "pictures", Path(o.docs)))
        return

    # Check all runs before the first one: recipes and data.
    todo = list(jobs(o))
    for job in todo:
        if not (data / job.task.data).is_dir():
            made = f"python scripts/openmoji.py --to {data / 'openmoji'} --size 128"
            remedy = made if job.task.data == "openmoji" else "check --data"
            raise DataError("folder", data / job.task.data, f"does not exist; task {job.task.number} needs it", remedy)
        read_recipe(job.recipe).for_run({})  # raises UnknownName
    results.mkdir(parents=True, exist_ok=True)
    lock = file_lock.acquire(results / ".lock", "a second benchmark in this folder")
    if lock is None:
        raise EnvironmentFault("folder", results, "is in use by another benchmark", "wait until it ends")
    try:
        do_missing(todo, results, data, start + 60 * o.minutes if o.minutes else math.inf)
    finally:
        lock.release()


def do_missing(todo: list[Job], results: Path, data: Path, end: float) -> None:
    """Do the runs that are not stored and are expected to end in time; raise DataError if any failed."""
    failed = []
    for number, job in enumerate(todo, 1):
        name, file = f"{number}/{len(todo)} {job.key()}", results / f"{job.key()}.json"
        if file.is_file():
            continue
        needed, left = expected_seconds(job, load_results(results)), max(0.0, end - time.monotonic())
        if needed > left:
            print_line(f"{name}: not started, it needs {needed / 60:.1f} minutes of {left / 60:.1f}")
            continue
        print_line(f"{name}: {job.seconds / 60:.3g} minutes of training")
        try:
            result = do(job, results, data)
        except DataError as problem:
            failed.append(name)
            print_line(f"{name}: FAILED, not stored: {problem}")
            continue
        last = result["points"][-1]
        figures = ", ".join(f"{metric} {last['values'][metric]:.4g}" for metric in job.task.decides)
        print_line(f"{name}: {figures}; {last['images']} images, {result['wall_seconds'] / 60:.1f} minutes in all")
    stored = sum((results / f"{job.key()}.json").is_file() for job in todo)
    print_line(f"{count_text(stored, 'run')} of {len(todo)} stored in {results}")
    if failed:
        raise DataError("runs", ", ".join(failed), "failed", f"see {results / 'logs'}; a rerun tries them again")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
