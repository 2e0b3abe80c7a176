"""Give a model the weights of a run, and set it up for inference."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from inference.run_weights import load_run_weights
from inference.tiling import apply_tiling
from networks.runtime.apply import apply_inference_options
from registry import sources
from util.errors import print_line


def load_trained(
    o: Any, folder: Path, which: str, model: Any, networks: dict[str, nn.Module], device: torch.device
) -> Any:
    """Return a new model on a device, with the weights `which` of the run in `folder` set up as test.py's flags say.

    networks: those that inference needs, by the names of their files. Raise OptionError for flags that do not fit the
    networks, CheckpointError for weights that are missing or do not fit.
    """
    if note := sources.change_note(folder):
        print_line(note)
    apply_tiling(networks, o)
    load_run_weights(o, folder, which, model, networks)
    set_mode(model.to(device), o.eval)
    apply_inference_options(model.networks(), o, device)
    return model


def set_mode(model: nn.Module, evaluate: bool) -> None:
    """Put the model in evaluation mode; with --no_eval, put only its networks in the mode they have in training."""
    as_in_training = [part for net in model.networks().values() for part in net.modules() if part.training]  # type: ignore[operator]
    model.eval()
    for part in as_in_training if not evaluate else ():
        part.training = True
