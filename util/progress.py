"""Where a run stands: epoch, steps and images done, and what is due."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Progress:
    """Counters of a run. Events every N images are due when a multiple of N lies within the last batch."""

    epoch: int = 1  # the one being trained, from 1
    seen: int = 0  # images of it that are done
    samples: int = 0  # images done in all
    step: int = 0  # optimiser steps done in all
    batch: int = 0  # images in the last batch
    epoch_size: int = 0  # images in an epoch
    last_epoch: int = 0  # the number of the run's last epoch
    seconds: float = 0.0  # compute time of the last batch, per image
    data_seconds: float = 0.0  # time waited for the last batch

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Progress":
        """Return the position that a dictionary of all fields tells; KeyError if it lacks one."""
        return cls(**{field.name: state[field.name] for field in fields(cls)})

    def advance(self, batch: int, seconds: float, data_seconds: float) -> None:
        """Count one batch of so many images."""
        self.seen, self.samples, self.step = self.seen + batch, self.samples + batch, self.step + 1
        self.batch, self.seconds, self.data_seconds = batch, seconds / batch, data_seconds

    def due(self, every: int) -> bool:
        """Whether a multiple of `every` images was passed by the last batch."""
        return self.samples // every > (self.samples - self.batch) // every

    @property
    def epoch_done(self) -> bool:
        """Whether the last batch was the epoch's last."""
        return self.seen >= self.epoch_size

    @property
    def at(self) -> float:
        """Epochs as a fraction: the x of loss curves, as in the reference."""
        return self.epoch + self.seen / max(1, self.epoch_size)
