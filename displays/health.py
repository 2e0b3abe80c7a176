"""Print a note when training appears to go wrong: once for each problem, with the evidence and advice."""

from pathlib import Path
from typing import Any

from displays.base import Pictures, Sink
from displays.health_rules import Health
from displays.loss_log import epoch_rows, metric_row, metric_rows
from metrics import finite_or_none
from metrics.history import Report
from util.errors import print_line
from util.progress import Progress


class HealthNotes(Sink):
    """Prints each kind of note of displays/health_rules.py the first time its rule applies."""

    def __init__(self, o: Any, folder: Path):
        self.health = Health(o.gan_mode, o.dataset_mode)
        self.history = folder / "losses.jsonl"
        self.printed: set[str] = set()

    def start(self, progress: Progress) -> None:
        """Read the earlier epochs of the run from its log."""
        for row in epoch_rows(self.history):
            self.health.add_row(row)
        for row in metric_rows(self.history):
            self.health.add_metrics(row)

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        self.health.add_row({"epoch": progress.epoch, "step": progress.step, "lr": lr, "mean": finite_or_none(means)})
        self._print_new_notes()

    def metrics(self, progress: Progress, report: Report) -> None:
        self.health.add_metrics(metric_row(progress, report))
        self._print_new_notes()

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        self.health.add_sheets(progress.epoch, progress.step, pictures)
        self._print_new_notes()

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        self.health.add_samples(progress.epoch, progress.step, samples)
        self._print_new_notes()

    def _print_new_notes(self) -> None:
        for note in self.health.notes():
            if note.name not in self.printed:
                self.printed.add(note.name)
                print_line(str(note))
