"""Fixed samples: a few validation images that show a run's progress."""

import os
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from tqdm import tqdm

from data.loading.loader import Loader, SeededDataset, max_tries, one_batch
from displays.group import any_display_overrides, error_text
from options.checks import whole_preprocess
from registry.lookup import find
from util.errors import DataError, printable
from util.seeding import fork_rng

MAX_WHOLE_PIXELS = 1 << 20  # of a fixed sample that training only sees crops of


def preview_inputs(o: Any, loader: Loader, is_unconditional: bool) -> tuple[np.ndarray | None, list[dict[str, Any]]]:
    """Return (sheet of the first samples, fixed samples); (None, []) for those that no display shows.

    is_unconditional: the model needs no input, so it has no fixed samples. A failure here prints only a note, because
    training itself raises the error if it matters there.
    """
    sheet = _make_or_note(loader.preview_grid, "sheet of the data") if any_display_overrides(o, "data") else None
    wanted = o.fixed_samples and any_display_overrides(o, "samples") and not is_unconditional
    return sheet, (_make_or_note(lambda: fixed_samples(o), "fixed samples") or [] if wanted else [])


def _make_or_note(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as problem:  # a failing display must not stop the run
        print(f"note: no {what} can be shown ({error_text(problem)})", flush=True)
        return None


def fixed_samples(o: Any) -> list[dict[str, Any]]:
    """Return --fixed_samples batches of one image each, prepared as test.py prepares them.

    They are spread evenly over the images of --val_phase, or of the training phase if --val_phase does not exist.
    Of a run trained on crops they are whole images, but crops if these are large. Raise DataError for an image that
    cannot be read.
    """
    test_o = copy(o)
    test_o.isTrain, test_o.serial_batches, test_o.no_flip = False, True, True
    test_o.preprocess = whole_preprocess(o)
    if test_o.preprocess != o.preprocess:
        batches = _load_samples(test_o)
        largest = max((batch["A"][0, 0].numel() for batch in batches), default=0)
        if largest <= MAX_WHOLE_PIXELS:
            return batches
        tqdm.write(f"note: fixed samples are crops of {o.crop_size}, because whole images have {largest} pixels")
    test_o.preprocess, test_o.load_size = o.preprocess, o.crop_size
    return _load_samples(test_o)


def _load_samples(o: Any) -> list[dict[str, Any]]:
    train_phase, o = o.phase, copy(o)
    o.phase = o.val_phase
    with fork_rng(o.seed):  # a data set may draw when built; training's draws must not change
        try:
            dataset = find("dataset", o.dataset_mode)(o)
        except DataError as problem:
            if problem.args[0] not in ("folder", "phase"):
                raise
            if os.path.exists(problem.args[1]):
                tqdm.write(printable(f"note: fixed samples are images of {train_phase} ({problem})"))
            o.phase = train_phase
            dataset = find("dataset", o.dataset_mode)(o)
    samples, count = SeededDataset(dataset, o.seed, max_tries(o)), min(o.fixed_samples, len(dataset))
    # epoch 0: the same random draws as test.py
    return [one_batch(samples[0, i * len(dataset) // count]) for i in range(count)]
