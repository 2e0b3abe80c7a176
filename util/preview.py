"""What is shown of a run's progress at the ends of epochs, from the same inputs and the same noise every time."""

from typing import Any

import numpy as np
import torch

from util.device import move
from util.pixels import first_pixels
from util.position import Position
from util.seeding import seeded
from util.sheets import can_generate, training_grid

KEPT = 50  # epochs of which a run of any length shows fixed samples, about


class Preview:
    """Draws fixed samples and generated sheets with a model in evaluation mode; draws of training stay untouched.

    sheet: what the networks will see at first, (H, W, 3) uint8, or None. batches: the fixed samples, one in each.
    """

    def __init__(
        self, o: Any, model: Any, classes: tuple[str, ...], sheet: np.ndarray | None, batches: list[dict[str, Any]]
    ):
        self.sheet = sheet
        self.model, self.classes, self.seed = model, classes, o.seed
        self.sheet_freq = o.sample_epoch_freq
        self.batches = [] if can_generate(model) else batches

    def sheets(self, at: Position) -> dict[str, Any]:
        """Return what a model generates without input, {name: (H, W, C) uint8}, where an epoch's is due."""
        due = self.sheet_freq and (at.epoch % self.sheet_freq == 0 or at.epoch == at.last_epoch)
        return training_grid(self.model, self.classes, self.seed) if due else {}

    def samples(self, at: Position) -> dict[str, dict[str, Any]]:
        """Return {file: {label: (H, W, C) uint8}} of the fixed samples where an epoch's are due, as of test.py."""
        every = -(-at.last_epoch // KEPT)
        if at.epoch not in (1, at.last_epoch) and at.epoch % every:
            return {}
        self.model.eval()
        try:
            with torch.inference_mode(), torch.random.fork_rng(), seeded(self.seed):
                return {str(batch["path_A"][0]): self._translated(batch) for batch in self.batches}
        finally:
            self.model.train()

    def _translated(self, batch: dict[str, Any]) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        return first_pixels(self.model.show(self.model(move(batch, device))))

    def end(self) -> None:
        """Draw nothing any more."""
        self.sheet_freq, self.batches = 0, []
