"""Draw the images that show a run's progress at the end of an epoch, from the same inputs and noise every time."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from data.base import Spec
from data.loading.loader import Loader, SeededDataset, max_tries
from displays.group import any_display_overrides, error_text
from inference.sampling import Request, has_sampler, sample_sheets
from inference.visuals import first_visuals
from registry.training_position import Now, call_with_now
from training.test_mode import in_test_mode, open_phase, options_of_test
from util import ranks
from util.device import to_device
from util.errors import DataError, print_line
from util.image_io import SHEET_COLUMNS, make_grid
from util.progress import Progress

MAX_WHOLE_PIXELS = 1 << 20  # of a fixed sample that training only sees crops of
MAX_SAMPLE_EPOCHS = 50  # fixed samples are shown about this many times in a run of any length


def make_preview(o: Any, model: Any, loader: Loader, spec: Spec) -> "Preview":
    """Return the Preview of a run: its first training images and its fixed samples, each if a display shows them.

    A failure here prints only a note, because training itself raises the error if it matters there.
    """
    if ranks.rank():  # process 0 alone shows
        idle = Preview(o, model, (), None, [])
        idle.disable()
        return idle
    sheet = _make_or_note(loader.preview_grid, "sheet of the data") if any_display_overrides(o, "data") else None
    wanted = o.fixed_samples and any_display_overrides(o, "samples") and not has_sampler(model)  # which needs no input
    batches = _make_or_note(partial(fixed_samples, o), "fixed samples") if wanted else None
    return Preview(o, model, spec.classes, sheet, batches or [])


def _make_or_note(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as problem:  # a failing display must not stop the run
        print_line(f"note: no {what} can be shown ({error_text(problem)})")
        return None


def fixed_samples(o: Any) -> list[dict[str, Any]]:
    """Return --fixed_samples batches of one image each, prepared as test.py prepares them.

    They are spread evenly over the images of --val_phase, or of the training phase if --val_phase does not exist.
    Of a run trained on crops they are whole images, but crops if these are large. Raise DataError for an image that
    cannot be read; with --on_bad_image skip it is left out.
    """
    test_o = options_of_test(o)
    if test_o.preprocess != o.preprocess:
        batches = _load_samples(test_o)
        largest = max((batch["A"][0, 0].numel() for batch in batches), default=0)
        if largest <= MAX_WHOLE_PIXELS:
            return batches
        print_line(f"note: fixed samples are crops of {o.crop_size}, because whole images have {largest} pixels")
    return _load_samples(options_of_test(o, whole=False))


def _load_samples(o: Any) -> list[dict[str, Any]]:
    try:
        dataset = open_phase(o, o.val_phase)
    except DataError as problem:
        if problem.args[0] not in ("folder", "phase"):
            raise
        if os.path.exists(problem.args[1]) or "val_phase" in o.given:
            print_line(f"note: fixed samples are images of {o.phase} ({problem})")
        dataset = open_phase(o, o.phase)
    samples, count = SeededDataset(dataset, o.seed, max_tries(o)), min(o.fixed_samples, len(dataset))
    # epoch 0: the same random draws as test.py
    batches = [samples.batch((0, i * len(dataset) // count)) for i in range(count)]
    return [batch for batch in batches if batch]  # a skipped image leaves an empty one


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
        always = (1, progress.last_epoch)
        due = self.sheet_freq and (progress.epoch in always or progress.epoch % self.sheet_freq == 0)
        if not due or not has_sampler(self.model):
            return {}
        with in_test_mode(self.model, self.seed):
            made = sample_sheets(self.model, Request("grid", self.classes, SHEET_COLUMNS, self.seed))
        return {name: make_grid(pictures, SHEET_COLUMNS) for name, pictures in made.items()}

    def samples(self, progress: Progress) -> dict[str, dict[str, Any]]:
        """Return the fixed samples, {file: {label: (H, W, C) uint8}}, as in test.py; {} if not due this epoch."""
        interval = -(-progress.last_epoch // MAX_SAMPLE_EPOCHS)
        due = progress.epoch in (1, progress.last_epoch) or progress.epoch % interval == 0
        if not due or not self.batches:
            return {}
        with in_test_mode(self.model, self.seed):
            now = Now(progress.step, progress.epoch, progress.share)
            images = [self._translate(batch, now) for batch in self.batches]
        names = [str(batch["path_A"][0]) for batch in self.batches]
        each_name = [name if name not in names[:i] else f"{name} ({i + 1})" for i, name in enumerate(names)]
        return dict(zip(each_name, images))

    def _translate(self, batch: dict[str, Any], now: Now) -> dict[str, Any]:
        device = next(self.model.parameters()).device
        return first_visuals(self.model, call_with_now(self.model, to_device(batch, device), now=now), self.o)

    def disable(self) -> None:
        """Stop drawing."""
        self.sheet_freq, self.batches = 0, []
