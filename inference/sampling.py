"""Sheets of pictures that a model generates without input: a grid, a class at a time, from one latent to another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from util.image_io import to_pixels

INTERPOLATION_STEPS = 10  # of an interpolation


@dataclass(frozen=True)
class Request:
    """What a model is asked for through its optional method `sheets(request) -> {name: (pictures, labels)}`.

    pictures: (N, C, H, W) in [-1, 1]; labels: (N,). Equal requests give equal pictures.
    """

    kind: str  # "grid": one sheet, a row a class; "per_class": a sheet a class; "interpolation": between two latents
    classes: tuple[str, ...]
    number: int  # pictures of each class
    seed: int


def has_sampler(model: Any) -> bool:
    """Whether a model has the optional method `sheets`, and so needs no input pictures."""
    return callable(getattr(model, "sheets", None))


def unused_flag_notes(given: set[str], generates: bool) -> list[str]:
    """Return notes on flags that were given to test.py and say nothing to a model of this sort."""
    flags = ("num_test",) if generates else ("num_samples",)
    why = "this model needs no input pictures" if generates else "this model draws none of its own"
    return [f"note: --{name} is without effect: {why}" for name in flags if name in given]


def sample_sheets(model: Any, request: Request) -> dict[str, list[np.ndarray]]:
    """Return {sheet: pictures (H, W, C) uint8}, made by the networks as they are, without gradients."""
    with torch.no_grad():
        made = model.sheets(request)
    return {name: [to_pixels(image) for image in images] for name, (images, _) in made.items()}
