"""Collect the images that a model shows of its outputs, and their pixels."""

import re
from typing import Any

import numpy as np
from torch import Tensor

from data.input_stack import split_inputs
from util.image_io import first_pixels


def collect_visuals(model: Any, out: dict[str, Any], o: Any) -> dict[str, Tensor]:
    """Return the images that a model shows of `out`, plus those with other than 1 or 3 channels, which it omits.

    The added ones are tensors (N, C, H, W) named real, fake, rec or idt with --input_nc or --output_nc channels, unless
    the model shows them in another form (fake_B as fake_B_rgb). Several inputs take the place of their stack real_A.
    """
    many = {o.input_nc, o.output_nc} - {1, 3}
    shown = model.show(out)
    parts = split_inputs(out, getattr(o, "inputs", ""))
    stacks = {part.rstrip("0123456789") for part in parts}
    added = {
        name: value
        for name, value in out.items()
        if many
        and getattr(value, "ndim", 0) == 4
        and value.shape[1] in many
        and re.match(r"(real|fake|rec|idt)(_|$)", name)
        and not any(label.startswith(name) for label in shown)
    }
    return parts | {name: value for name, value in (shown | added).items() if name not in stacks}


def first_visuals(model: Any, out: dict[str, Any], o: Any) -> dict[str, np.ndarray]:
    """Return the first image of each batch that `collect_visuals` returns, as uint8 (H, W, C)."""
    return first_pixels(collect_visuals(model, out, o))
