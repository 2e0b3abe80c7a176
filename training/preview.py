"""Draw the images that show a run's progress at the end of an epoch, from the same inputs and noise every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from data.base import Spec
from data.loading.loader import Loader
from inference.model_state import undone_changes
from inference.sampling import Request, has_sampler, sample_sheets
from inference.visuals import first_visuals
from training.fixed_samples import preview_inputs
from util.device import to_device
from util.image_io import SHEET_COLUMNS, make_grid
from util.progress import Progress
from util.seeding import fork_rng

MAX_SAMPLE_EPOCHS = 50  # fixed samples are shown about this many times in a run of any length


def make_preview(o: Any, model: Any, loader: Loader, spec: Spec) -> "Preview":
    """Return the Preview of a run: its first training images and its fixed samples."""
    return Preview(o, model, spec.classes, *preview_inputs(o, loader, has_sampler(model)))


class Preview:
    """Draws fixed samples and generated sheets in evaluation mode, without advancing training's random generators.

    data_sheet: grid of the first training images, (H, W, 3) uint8, or None. batches: the fixed samples, one per batch.
    """

    def __init__(
        self, o: Any, model: Any, classes: tuple[str, ...], data_sheet: np.ndarray | None, batches: list[dict[str, Any]]
    ):
        self.data_sheet = data_sheet
        self.o, self.model, self.classes, self.seed = o, model, classes, o.seed
        self.sheet_freq = o.sample_epoch_freq
        self.batches = batches

    def sheets(self, progress: Progress) -> dict[str, Any]:
        """Return the sheets of an unconditional model, {name: (H, W, C) uint8}; {} if none is due this epoch."""
        due = self.sheet_freq and (progress.epoch % self.sheet_freq == 0 or progress.epoch == progress.last_epoch)
        if not due or not has_sampler(self.model):
            return {}
        with self._test_mode():
            made = sample_sheets(self.model, Request("grid", self.classes, SHEET_COLUMNS, self.seed))
        return {name: make_grid(pictures, SHEET_COLUMNS) for name, pictures in made.items()}

    def samples(self, progress: Progress) -> dict[str, dict[str, Any]]:
        """Return the fixed samples, {file: {label: (H, W, C) uint8}}, as in test.py; {} if not due this epoch."""
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
        """Put the model in evaluation mode; restore it afterwards, as its memory too is training's, and all generators.

        Not inference_mode, because a tensor that the model caches here (a mask, a grid) must work in training.
        """
        device = next(self.model.parameters()).device
        with (
            undone_changes(self.model),
            torch.no_grad(),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            fork_rng(self.seed),
        ):
            self.model.eval()
            yield

    def _translate(self, batch: dict[str, Any]) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        return first_visuals(self.model, self.model(to_device(batch, device)), self.o)

    def disable(self) -> None:
        """Stop drawing."""
        self.sheet_freq, self.batches = 0, []
