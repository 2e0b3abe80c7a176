"""Says once when a training looks as if it goes wrong, with the evidence and one piece of advice."""

from pathlib import Path
from typing import Any

from displays.base import Pictures, Sink
from displays.health_rules import Health
from displays.loss_history import epoch_rows
from metrics import finite
from util.errors import printable
from util.progress import Position


class HealthNotes(Sink):
    """Prints each kind of note of displays/health_rules.py when it first holds; off without `health` in --displays."""

    def __init__(self, o: Any, folder: Path):
        self.health = Health(o.gan_mode, o.dataset_mode)
        self.history = folder / "losses.jsonl"
        self.said: set[str] = set()

    def start(self, at: Position) -> None:
        """Take over the epochs of the run so far from its log."""
        for row in epoch_rows(self.history):
            self.health.row(row)

    def epoch(self, at: Position, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        self.health.row({"epoch": at.epoch, "step": at.step, "lr": lr, "mean": finite(means)})
        self._tell()

    def sheets(self, at: Position, pictures: Pictures) -> None:
        self.health.sheets(at.epoch, at.step, pictures)
        self._tell()

    def samples(self, at: Position, samples: dict[str, Pictures]) -> None:
        self.health.samples(at.epoch, at.step, samples)
        self._tell()

    def _tell(self) -> None:
        for note in self.health.notes():
            if note.name not in self.said:
                self.said.add(note.name)
                print(printable(note), flush=True)
