"""Count a run's epochs, steps and images, and tell which periodic events are due."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Progress:
    """Counters of a run. An event every N images is due when the last batch passes a multiple of N."""

    epoch: int = 1  # the current one, from 1
    seen: int = 0  # images done in this epoch
    samples: int = 0  # images done in all
    step: int = 0  # training steps done in all
    batch: int = 0  # images in the last batch
    epoch_size: int = 0  # images in an epoch
    last_epoch: int = 0  # the number of the run's last epoch
    seconds: float = 0.0  # compute time of the last batch, in seconds per image
    data_seconds: float = 0.0  # seconds spent waiting for the last batch

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Progress":
        """Return the progress stored in a dictionary of all fields; KeyError if one is missing."""
        return cls(**{field.name: state[field.name] for field in fields(cls)})

    def advance(self, batch: int, seconds: float, data_seconds: float) -> None:
        """Count one batch of `batch` images."""
        self.seen, self.samples, self.step = self.seen + batch, self.samples + batch, self.step + 1
        self.batch, self.seconds, self.data_seconds = batch, seconds / batch, data_seconds

    def due(self, every: int) -> bool:
        """Whether the last batch passed a multiple of `every` images."""
        return self.samples // every > (self.samples - self.batch) // every

    @property
    def epoch_done(self) -> bool:
        """Whether the last batch was the epoch's last."""
        return self.seen >= self.epoch_size

    @property
    def share(self) -> float:
        """Share of the run that is trained, in [0, 1]."""
        return min(1.0, (self.epoch - 1 + self.seen / max(1, self.epoch_size)) / max(1, self.last_epoch))

    @property
    def at(self) -> float:
        """The x of loss curves, as in the reference: the epoch plus its share that is done, 1 to 2 in the first."""
        return self.epoch + self.seen / max(1, self.epoch_size)
