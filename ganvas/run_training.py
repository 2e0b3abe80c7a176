"""Train from Python: the run of train.py, at once or step by step."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import train as train_script
from cli.main import Report
from ganvas.finished_run import Run
from ganvas.flag_words import command_line
from ganvas.session import Session
from options.parse import parse
from util import malloc
from util.errors import OptionError
from util.progress import Progress

NO_WATCHDOG = {"watchdog": 0}  # a thread, which would take a caller that rests between two steps for a run that hangs


@dataclass
class TrainingProgress(Progress):
    """The counters of a run after a step, and what it knows then."""

    folder: Path = Path()
    latest: dict[str, Any] = field(default_factory=dict, repr=False)  # losses as tensors

    @property
    def losses(self) -> dict[str, float]:
        """The losses of the step by name; a phase that did not run keeps its last ones. Reading waits for a GPU."""
        return {name: float(value) for name, value in self.latest.items()}


def train(**flags: Any) -> Run:
    """Train a run as train.py does with these flags, and return it when it is finished.

    flags: those of train.py, such as model="pix2pix", dataroot="./facades", name="facades", n_epochs=100; True and
    False set and unset switches. Messages go to the logger "ganvas". Raises a UserError with the text that the command
    prints; a KeyboardInterrupt leaves the saves of the run as they are.
    """
    steps, report = _steps(flags)
    for _ in steps:
        pass
    return Run(report.run.folder)


def training(**flags: Any) -> Iterator[TrainingProgress]:
    """Train as `train` does, and yield after each step; a caller that leaves the loop stops the run, which is saved.

    `ganvas.training(..., continue_train=True)` resumes it. Between two steps the caller's own random numbers and
    settings apply.
    """
    return _steps(flags)[0]


def _steps(flags: dict[str, Any]) -> tuple[Iterator[TrainingProgress], Report]:
    if flags.get("dry_run"):
        raise OptionError("option", "--dry_run", "trains nothing", "use the command train")
    report = Report()
    return _run_steps(command_line(NO_WATCHDOG | flags, "train"), report), report


def _run_steps(words: list[str], report: Report) -> Iterator[TrainingProgress]:
    session = Session()
    with session.active():
        steps = train_script.training(parse(words, "train"), report, signals=False)
    try:
        while True:
            with session.active():
                progress = next(steps, None)
                if progress is None:
                    return
                losses = dict(report.run.losses.latest)
            yield TrainingProgress(**vars(progress), folder=report.run.folder, latest=losses)
    finally:
        with session.active():
            steps.close()  # saves and unlocks the run
            malloc.release_freed_memory()  # the process is the caller's
