"""Fixed samples: a few pictures of the validation phase by which a run's progress is seen."""

from copy import copy
from typing import Any

from data.loader import Seeded, one_batch
from util.errors import DataError
from util.registry import find


def fixed_samples(o: Any) -> list[dict[str, Any]]:
    """Return --fixed_samples batches of one, prepared as test.py prepares them.

    They are spread evenly over the phase --val_phase; where that has none, over the one that is trained on.
    Raises DataError for a picture that cannot be read.
    """
    if not o.fixed_samples:
        return []
    shown = copy(o)
    shown.isTrain, shown.load_size, shown.serial_batches, shown.no_flip = False, o.crop_size, True, True
    shown.phase = o.val_phase
    try:
        dataset = find("dataset", o.dataset_mode)(shown)
    except DataError as problem:
        if problem.args[0] != "folder":
            raise
        shown.phase = o.phase
        dataset = find("dataset", o.dataset_mode)(shown)
    samples, count = Seeded(dataset, o.seed), min(o.fixed_samples, len(dataset))
    return [one_batch(samples[0, i * len(dataset) // count]) for i in range(count)]  # epoch 0: test.py's draws
