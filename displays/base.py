"""The table of displays and the Sink base class; a display cannot stop or slow a run, even if it fails."""

from typing import TYPE_CHECKING

import numpy as np

from registry.lookup import Table
from util.progress import Progress

if TYPE_CHECKING:  # it needs torch, and --list needs this table without
    from metrics.history import Report

DISPLAYS = Table("display", {  # called as (o, folder); see Sink
    "console": "displays.console:Console",
    "health": "displays.health:HealthNotes",
    "html": "displays.html:Html",
    "tensorboard": "displays.tensorboard:TensorBoard",
    "visdom": "displays.visdom:VisdomDisplay",
    "wandb": "displays.wandb:Wandb",
})  # fmt: skip

Pictures = dict[str, np.ndarray]  # name: (H, W, 3) or (H, W, 1) uint8


class Sink:
    """Base class of a display; subclasses override the methods that they need.

    loss_freq, image_freq: number of training images between two calls of `losses` or `images`; 0 means never.
    early_losses: also call `losses` after 1, 2, 4, 8, ... images, before the run's first loss_freq images are done.
    """

    loss_freq = image_freq = 0
    early_losses = False
    vital = False  # True for the loss log only: its errors end the run
    called = ""  # its name in --displays

    def start(self, progress: Progress) -> None:
        """Called once, with the position at which training starts."""

    def data(self, progress: Progress, sheet: np.ndarray) -> None:
        """Called before the first step, with a grid of images as the networks will see them."""

    def progress(self, progress: Progress) -> None:
        """Called after every step."""

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        """Called when loss_freq is due."""

    def images(self, progress: Progress, pictures: Pictures) -> None:
        """Called when image_freq is due, and after the last batch of an epoch."""

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        """Called at the end of an epoch, with grids that the model generates from the same noise every time."""

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        """Called at the end of an epoch, with the fixed samples by file, translated as in test.py."""

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        """Called at the end of an epoch, with the mean of each loss and the seconds spent in each section."""

    def metrics(self, progress: Progress, report: "Report") -> None:
        """Called after `epoch` when --metrics were measured, at the end of every --eval_freq-th epoch."""

    def say(self, text: str) -> bool:
        """Show a line of text; return whether it was shown."""
        return False

    def close(self) -> None:
        """Called at the end of the run; must return within 2 seconds."""
