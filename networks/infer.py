"""Read a reference generator's architecture from the keys and shapes of its weights."""

import re
from typing import Any

from torch import Tensor

from util.checkpoint import renamed

DEPTHS = {8: "unet_256", 7: "unet_128", 6: "unet_64", 5: "unet_32"}


def infer_generator(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the flags {netG, ngf, norm, no_dropout, input_nc, output_nc, padding} that fit the weights.

    {} where the keys are those of no generator of the reference. Dropout of a U-Net leaves no trace in its keys: it
    is on with batch norm, as the reference's pix2pix trains.
    """
    state = renamed(state)
    if "model.model.0.weight" in state:
        return _unet(state)
    if "model.1.weight" in state and any(".conv_block." in key for key in state):
        return _resnet(state)
    return {}


def _norm(state: dict[str, Tensor], inner_conv: str, after: str) -> str:
    """Return the norm; statistics beside a biased convolution are what old instance norms left in their files."""
    has_bias = f"{inner_conv}.bias" in state
    if has_bias:
        return "instance_affine" if f"{after}.weight" in state else "instance"
    return "batch" if f"{after}.weight" in state else "none"


def _unet(state: dict[str, Tensor]) -> dict[str, Any]:
    depth, prefix = 1, "model.model"
    while f"{prefix}.{1 if depth == 1 else 3}.model.1.weight" in state:
        prefix += f".{1 if depth == 1 else 3}.model"
        depth += 1
    if depth not in DEPTHS or "model.model.3.weight" not in state:
        return {}
    norm = _norm(state, "model.model.1.model.1", "model.model.1.model.2")
    ngf, input_nc = state["model.model.0.weight"].shape[:2]
    return {
        "netG": DEPTHS[depth], "ngf": ngf, "norm": norm, "no_dropout": norm != "batch",
        "input_nc": input_nc, "output_nc": state["model.model.3.weight"].shape[1],
    }  # fmt: skip


def _resnet(state: dict[str, Tensor]) -> dict[str, Any]:
    blocks = {int(m[1]) for key in state if (m := re.match(r"model\.(\d+)\.conv_block\.", key))}
    n, last = len(blocks), f"model.{17 + len(blocks)}.weight"
    if blocks != set(range(10, 10 + n)) or last not in state:
        return {}
    padded = "model.10.conv_block.0.weight" not in state  # a padding layer has no weights
    second = f"model.10.conv_block.{6 if padded else 4}.weight"
    dropout = second in state and state[second].dim() == 4
    ngf, input_nc = state["model.1.weight"].shape[:2]
    return {
        "netG": f"resnet_{n}blocks", "ngf": ngf, "norm": _norm(state, "model.1", "model.2"), "no_dropout": not dropout,
        "input_nc": input_nc, "output_nc": state[last].shape[0], "padding": "reflect" if padded else "zero",
    }  # fmt: skip
