"""Sheets of images generated from noise: a grid, one sheet per class, or an interpolation between two latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from util.class_names import describe_classes
from util.image_io import to_pixels

INTERPOLATION_STEPS = 10  # images in one interpolation


@dataclass(frozen=True)
class Request:
    """The argument of a model's optional method `sheets(request) -> {name: (images, labels)}`.

    images: (N, C, H, W) in [-1, 1]; labels: (N,). Equal requests give equal images.
    """

    kind: str  # "grid": one sheet, one row per class; "per_class": one sheet per class; "interpolation": two latents
    classes: tuple[str, ...]
    number: int  # images of each class
    seed: int


def has_sampler(model: Any) -> bool:
    """Whether a model has the optional method `sheets` and so needs no input images."""
    return callable(getattr(model, "sheets", None))


def start_notes(given: set[str], generates: bool, classes: Sequence[str]) -> list[str]:
    """Return a line with the classes that a model generates, and notes on flags without effect on such a model."""
    return [describe_classes(classes)] * (generates and bool(classes)) + unused_flag_notes(given, generates)


def unused_flag_notes(given: set[str], generates: bool) -> list[str]:
    """Return notes on flags that were given to test.py but have no effect on this kind of model."""
    why = "this model generates images from noise" if generates else "this model does not generate samples from noise"
    notes = dict.fromkeys(("num_test", "results_only", "dataroot") if generates else ("num_samples",), why)
    notes["batch_size"] = "every image is translated as if it were alone, several at a time where that is the same"
    return [f"note: --{name} has no effect: {reason}" for name, reason in notes.items() if name in given]


def sample_sheets(model: Any, request: Request) -> dict[str, list[np.ndarray]]:
    """Return {sheet: images (H, W, C) uint8}; the networks keep their train or eval mode and record no gradients."""
    with torch.no_grad():
        made = model.sheets(request)
    return {name: [to_pixels(image) for image in images] for name, (images, _) in made.items()}
