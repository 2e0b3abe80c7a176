"""What is shown of a run's progress at the ends of epochs, from the same inputs and the same noise every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from inference.sampling import Request, can_generate, generate
from util.device import move
from util.image_io import COLUMNS, first_pixels, grid, pictures
from util.progress import Position
from util.seeding import seeded

KEPT = 50  # epochs of which a run of any length shows fixed samples, about


class Preview:
    """Draws fixed samples and generated sheets with a model in evaluation mode; draws of training stay untouched.

    sheet: what the networks will see at first, (H, W, 3) uint8, or None. batches: the fixed samples, one in each.
    """

    def __init__(
        self, o: Any, model: Any, classes: tuple[str, ...], sheet: np.ndarray | None, batches: list[dict[str, Any]]
    ):
        self.sheet = sheet
        self.o, self.model, self.classes, self.seed = o, model, classes, o.seed
        self.sheet_freq = o.sample_epoch_freq
        self.batches = batches

    def sheets(self, at: Position) -> dict[str, Any]:
        """Return what a model generates without input, {name: (H, W, C) uint8}, where an epoch's is due."""
        due = self.sheet_freq and (at.epoch % self.sheet_freq == 0 or at.epoch == at.last_epoch)
        if not due or not can_generate(self.model):
            return {}
        with self._as_test():
            made = generate(self.model, Request("grid", self.classes, COLUMNS, self.seed))
        return {name: grid(pictures, COLUMNS) for name, pictures in made.items()}

    def samples(self, at: Position) -> dict[str, dict[str, Any]]:
        """Return {file: {label: (H, W, C) uint8}} of the fixed samples where an epoch's are due, as of test.py."""
        every = -(-at.last_epoch // KEPT)
        if at.epoch not in (1, at.last_epoch) and at.epoch % every:
            return {}
        with self._as_test():
            drawn = [self._translated(batch) for batch in self.batches]
        names = [str(batch["path_A"][0]) for batch in self.batches]
        each_name = [name if name not in names[:i] else f"{name} ({i + 1})" for i, name in enumerate(names)]
        return dict(zip(each_name, drawn))

    @contextmanager
    def _as_test(self) -> Iterator[None]:
        """Have the model as in test.py, and every generator of random numbers back where it was afterwards.

        Not inference_mode: what a model keeps of such a step (a mask, a grid) must still serve training.
        """
        device = next(self.model.parameters()).device
        self.model.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []), seeded(self.seed):
                yield
        finally:
            self.model.train()

    def _translated(self, batch: dict[str, Any]) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        return first_pixels(pictures(self.model, self.model(move(batch, device)), self.o))

    def end(self) -> None:
        """Draw nothing any more."""
        self.sheet_freq, self.batches = 0, []
