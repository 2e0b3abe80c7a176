"""Whole runs of train.py in float64, in one process or in one of several, in this interpreter."""

import os
from contextlib import nullcontext
from pathlib import Path

import torch

import train
from options.parse import parse
from registry import discovery
from tests.support.distributed.shared_steps import in_float64
from util import ranks
from util.device import map_leaves, to_device


def train_run(folder: str, argv: list[str], stop_after: int = 0, wide: bool = True) -> int:
    """Train a run in float64 (`wide`), or its next `stop_after` steps; return the steps done."""
    os.chdir(folder)
    discovery.clear()
    ranks.pulse.votes |= {"stop": 0, "save": 0}
    steps = 0
    if wide:
        train.to_device = lambda batch, device: to_device(map_leaves(_wide, batch), device)
    try:
        with in_float64() if wide else nullcontext():
            for steps, _ in enumerate(train.training(parse(argv, "train")), 1):
                if steps == stop_after:
                    break
    finally:
        train.to_device = to_device
    return steps


def _wide(value):
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


def newest_state(folder: Path) -> dict:
    """Return the newest state of the run in a folder."""
    return torch.load(max(folder.glob("state_*.pt")), weights_only=True)


def differences(one, other, path="") -> dict[str, float]:
    """Return {place: largest difference} of the tensors and numbers in two nested values; inf for other structures."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return {f"{path}: {sorted(map(str, one.keys() ^ other.keys()))}": float("inf")}
        return {k: v for key in one for k, v in differences(one[key], other[key], f"{path}/{key}").items()}
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return {k: v for i, pair in enumerate(zip(one, other)) for k, v in differences(*pair, f"{path}/{i}").items()}
    if torch.is_tensor(one) and torch.is_tensor(other) and one.shape == other.shape:
        return {path: float((one.double() - other.double()).abs().max()) if one.numel() else 0.0}
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return {path: abs(one - other)}
    return {path: 0.0 if one == other else float("inf")}
