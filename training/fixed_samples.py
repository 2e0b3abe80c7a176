"""Fixed samples: a few pictures of the validation phase by which a run's progress is seen."""

import os
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from tqdm import tqdm

from data.loading.loader import Loader, Seeded, one_batch, tries
from displays.group import in_one_line, shows
from registry.lookup import find
from util.errors import DataError, printable
from util.seeding import seeded


def first_shown(o: Any, loader: Loader, draws_alone: bool) -> tuple[np.ndarray | None, list[dict[str, Any]]]:
    """Return what is shown of the data, as far as anybody shows it: a sheet of the first samples, the fixed samples.

    draws_alone: the model needs no input. What cannot be shown is a note: training will say it, if it matters there.
    """
    sheet = _or_note(loader.sheet, "sheet of the data") if shows(o, "data") else None
    wanted = o.fixed_samples and shows(o, "samples") and not draws_alone
    return sheet, (_or_note(lambda: fixed_samples(o), "fixed samples") or [] if wanted else [])


def _or_note(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as problem:  # whatever fails in showing must not fail the run
        print(f"note: no {what} can be shown ({in_one_line(problem)})", flush=True)
        return None


def fixed_samples(o: Any) -> list[dict[str, Any]]:
    """Return --fixed_samples batches of one, prepared as test.py prepares them.

    They are spread evenly over the phase --val_phase; where that has none, over the one that is trained on.
    Raises DataError for a picture that cannot be read.
    """
    shown = copy(o)
    shown.isTrain, shown.load_size, shown.serial_batches, shown.no_flip = False, o.crop_size, True, True
    shown.phase = o.val_phase
    with seeded(o.seed):  # a data set may draw when it is made: training's draws stay as they are
        try:
            dataset = find("dataset", o.dataset_mode)(shown)
        except DataError as problem:
            if problem.args[0] not in ("folder", "phase"):
                raise
            if os.path.exists(problem.args[1]):
                tqdm.write(printable(f"note: fixed samples are pictures of {o.phase} ({problem})"))
            shown.phase = o.phase
            dataset = find("dataset", o.dataset_mode)(shown)
    samples, count = Seeded(dataset, o.seed, tries(o)), min(o.fixed_samples, len(dataset))
    return [one_batch(samples[0, i * len(dataset) // count]) for i in range(count)]  # epoch 0: test.py's draws
