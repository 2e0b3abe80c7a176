"""Prepare images and put the model in the mode of test.py while training, and leave no trace of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch

from data.base import BaseDataset
from inference.model_state import undone_changes
from options.checks import test_load_size, whole_preprocess
from registry.lookup import find
from util.seeding import fork_rng


def options_of_test(o: Any, whole: bool = True) -> Any:
    """Return a copy of the options with which a data set prepares images as test.py does: in order, not mirrored.

    whole: of a run trained on crops, whole images; else crops of images that are scaled to the crop's size.
    """
    test_o = copy(o)
    test_o.isTrain, test_o.serial_batches, test_o.no_flip = False, True, True
    test_o.preprocess = whole_preprocess(o) if whole else o.preprocess
    test_o.load_size = test_load_size(o, test_o.preprocess, o.load_size)
    return test_o


def open_phase(o: Any, phase: str) -> BaseDataset:
    """Return the data set of a phase; training's random draws do not change."""
    o = copy(o)
    o.phase = phase
    with fork_rng(o.seed):  # a data set may draw when built
        return find("dataset", o.dataset_mode)(o)


@contextmanager
def in_test_mode(model: Any, seed: int) -> Iterator[None]:
    """Put the model in evaluation mode; restore it afterwards, as its memory too is training's, and all generators.

    Not inference_mode, because a tensor that the model caches here (a mask, a grid) must work in training.
    """
    device = next(model.parameters()).device
    with (
        undone_changes(model),
        torch.no_grad(),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        fork_rng(seed),
    ):
        model.eval()
        yield
