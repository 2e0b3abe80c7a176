"""Fixed samples: a few pictures of the validation phase by which a run's progress is seen."""

import os
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from tqdm import tqdm

from data.loading.loader import Loader, SeededDataset, max_tries, one_batch
from displays.group import any_display_overrides, error_text
from registry.lookup import find
from util.errors import DataError, printable
from util.seeding import fork_rng


def preview_inputs(o: Any, loader: Loader, is_unconditional: bool) -> tuple[np.ndarray | None, list[dict[str, Any]]]:
    """Return what is shown of the data, as far as anybody shows it: a sheet of the first samples, the fixed samples.

    is_unconditional: it needs no input. What cannot be shown is a note: training will say it, if it matters there.
    """
    sheet = _make_or_note(loader.preview_grid, "sheet of the data") if any_display_overrides(o, "data") else None
    wanted = o.fixed_samples and any_display_overrides(o, "samples") and not is_unconditional
    return sheet, (_make_or_note(lambda: fixed_samples(o), "fixed samples") or [] if wanted else [])


def _make_or_note(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as problem:  # whatever fails in showing must not fail the run
        print(f"note: no {what} can be shown ({error_text(problem)})", flush=True)
        return None


def fixed_samples(o: Any) -> list[dict[str, Any]]:
    """Return --fixed_samples batches of one, prepared as test.py prepares them.

    They are spread evenly over the phase --val_phase; where that has none, over the one that is trained on.
    Raises DataError for a picture that cannot be read.
    """
    test_o = copy(o)
    test_o.isTrain, test_o.load_size, test_o.serial_batches, test_o.no_flip = False, o.crop_size, True, True
    test_o.phase = o.val_phase
    with fork_rng(o.seed):  # a data set may draw when it is made: training's draws stay as they are
        try:
            dataset = find("dataset", o.dataset_mode)(test_o)
        except DataError as problem:
            if problem.args[0] not in ("folder", "phase"):
                raise
            if os.path.exists(problem.args[1]):
                tqdm.write(printable(f"note: fixed samples are pictures of {o.phase} ({problem})"))
            test_o.phase = o.phase
            dataset = find("dataset", o.dataset_mode)(test_o)
    samples, count = SeededDataset(dataset, o.seed, max_tries(o)), min(o.fixed_samples, len(dataset))
    return [one_batch(samples[0, i * len(dataset) // count]) for i in range(count)]  # epoch 0: test.py's draws
