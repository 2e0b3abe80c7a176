"""What is shown of a run's progress at the ends of epochs, from the same inputs and the same noise every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from inference.sampling import Request, has_sampler, sample_sheets
from util.device import to_device
from util.image_io import SHEET_COLUMNS, collect_visuals, first_pixels, make_grid
from util.progress import Progress
from util.seeding import fork_rng

MAX_SAMPLE_EPOCHS = 50  # epochs of which a run of any length shows fixed samples, about


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

    def sheets(self, progress: Progress) -> dict[str, Any]:
        """Return what a model generates without input, {name: (H, W, C) uint8}, where an epoch's is due."""
        due = self.sheet_freq and (progress.epoch % self.sheet_freq == 0 or progress.epoch == progress.last_epoch)
        if not due or not has_sampler(self.model):
            return {}
        with self._test_mode():
            made = sample_sheets(self.model, Request("grid", self.classes, SHEET_COLUMNS, self.seed))
        return {name: make_grid(pictures, SHEET_COLUMNS) for name, pictures in made.items()}

    def samples(self, progress: Progress) -> dict[str, dict[str, Any]]:
        """Return {file: {label: (H, W, C) uint8}} of the fixed samples where an epoch's are due, as of test.py."""
        interval = -(-progress.last_epoch // MAX_SAMPLE_EPOCHS)
        if progress.epoch not in (1, progress.last_epoch) and progress.epoch % interval:
            return {}
        with self._test_mode():
            images = [self._translate(batch) for batch in self.batches]
        names = [str(batch["path_A"][0]) for batch in self.batches]
        each_name = [name if name not in names[:i] else f"{name} ({i + 1})" for i, name in enumerate(names)]
        return dict(zip(each_name, images))

    @contextmanager
    def _test_mode(self) -> Iterator[None]:
        """Have the model as in test.py, and every generator of random numbers back where it was afterwards.

        Not inference_mode: what a model keeps of such a step (a mask, a grid) must still serve training.
        """
        device = next(self.model.parameters()).device
        self.model.eval()
        try:
            with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []), fork_rng(self.seed):
                yield
        finally:
            self.model.train()

    def _translate(self, batch: dict[str, Any]) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        return first_pixels(collect_visuals(self.model, self.model(to_device(batch, device)), self.o))

    def disable(self) -> None:
        """Draw nothing any more."""
        self.sheet_freq, self.batches = 0, []
