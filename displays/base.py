"""Who is shown losses and pictures while a run trains; nobody here can stop, fail or slow it."""

import numpy as np

from registry.lookup import Table
from util.progress import Progress

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
    """One way of showing a run; subclasses override what they need.

    loss_freq, image_freq: how many images apart it wants losses and pictures; 0 never.
    """

    loss_freq = image_freq = 0
    vital = False  # the log is no display: an error of it ends the run
    called = ""  # by --displays

    def start(self, progress: Progress) -> None:
        """Begin, at this position."""

    def data(self, progress: Progress, sheet: np.ndarray) -> None:
        """Before the first step, one sheet of pictures as the networks will see them."""

    def progress(self, progress: Progress) -> None:
        """After every step."""

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        """When loss_freq is due."""

    def images(self, progress: Progress, pictures: Pictures) -> None:
        """When image_freq is due, and at the last batch of an epoch."""

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        """At the end of an epoch, what the model generates from the same noise every time."""

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        """At the end of an epoch, the same inputs every time, by file, as test.py would translate them."""

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        """At the end of an epoch, with the mean of each loss over it and the seconds spent on each part of the work."""

    def say(self, text: str) -> bool:
        """Show a line of text; return whether this was done."""
        return False

    def close(self) -> None:
        """End; must return within 2 seconds."""
