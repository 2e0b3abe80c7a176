"""Fixed samples: a few validation images that show a run's progress."""

import os
from copy import copy
from typing import Any

from tqdm import tqdm

from data.loading.loader import SeededDataset, max_tries, one_batch
from registry.lookup import find
from util.errors import DataError, printable
from util.seeding import fork_rng


def fixed_samples(o: Any) -> list[dict[str, Any]]:
    """Return --fixed_samples batches of one image each, prepared as test.py prepares them.

    They are spread evenly over the images of --val_phase, or of the training phase if --val_phase does not exist.
    Raise DataError for an image that cannot be read.
    """
    test_o = copy(o)
    test_o.isTrain, test_o.load_size, test_o.serial_batches, test_o.no_flip = False, o.crop_size, True, True
    test_o.phase = o.val_phase
    with fork_rng(o.seed):  # a data set may draw when built; training's draws must not change
        try:
            dataset = find("dataset", o.dataset_mode)(test_o)
        except DataError as problem:
            if problem.args[0] not in ("folder", "phase"):
                raise
            if os.path.exists(problem.args[1]):
                tqdm.write(printable(f"note: fixed samples are images of {o.phase} ({problem})"))
            test_o.phase = o.phase
            dataset = find("dataset", o.dataset_mode)(test_o)
    samples, count = SeededDataset(dataset, o.seed, max_tries(o)), min(o.fixed_samples, len(dataset))
    # epoch 0: the same random draws as test.py
    return [one_batch(samples[0, i * len(dataset) // count]) for i in range(count)]
