"""Load a trained generator from a run's folder or from a file of weights."""

import os
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ganvas.run_folder import existing_folder
from ganvas.session import log
from ganvas.trained_generator import TrainedGenerator, renamed_error
from options import store
from serialization.weight_names import SUFFIXES
from util.errors import CheckpointError, OptionError, UserError

OTHER_DIRECTION = {"AtoB": "BtoA", "BtoA": "AtoB"}
FOR_COMMAND = {  # flags that only choose test.py's images, or how it writes results
    "aspect_ratio", "dataroot", "display_winsize", "format", "generate", "max_dataset_size", "metric_weights",
    "metrics", "num_results", "num_samples", "num_test", "num_threads", "on_bad_image", "phase", "results_dir",
    "results_only", "split", "suffix",
}  # fmt: skip


def load(
    path: str | os.PathLike[str],
    *,
    direction: str | None = None,
    epoch: str | int | None = None,
    device: str | torch.device | None = None,
    **flags: Any,
) -> TrainedGenerator:
    """Return the trained generator of a run's folder, or of a file of weights (.pth).

    direction: "AtoB" or "BtoA", of a run with both generators. epoch: the weights, as --epoch. device: "cpu", "cuda",
    "cuda:1", "mps"; default: the best available. flags: those of test.py, such as plugin="mine.py" or netG="unet_256".
    Raises a UserError, with the text that the command prints.
    """
    given = Path(path).expanduser()
    if unused := sorted(FOR_COMMAND.intersection(flags)):
        log(
            f"note: {', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect: only test.py uses such flags"
        )
        flags = {name: value for name, value in flags.items() if name not in FOR_COMMAND}
    flags |= {"direction": direction, "epoch": epoch, "gpu_ids": flags.get("gpu_ids", _gpu_ids(device))}
    try:
        loaded = _load(given, dict(flags))
    except UserError as problem:
        thing, name, why, *_ = problem.args
        if device is None or name != "--gpu_ids":
            raise
        raise type(problem)(thing, "device", why, 'give "cpu", "cuda", "cuda:1" or "mps"') from problem.__cause__
    loaded.reload = partial(load, os.path.abspath(given), **flags)
    return loaded


def _load(given: Path, flags: dict[str, Any]) -> TrainedGenerator:
    if given.is_dir() or given.suffix not in SUFFIXES:
        folder = Path(os.path.abspath(existing_folder(given)))
        return TrainedGenerator({"name": folder.name, "checkpoints_dir": folder.parent} | flags)
    if not given.is_file():
        raise CheckpointError("file", given, "there is no such file", "give a run's folder or a file of weights")
    part = re.fullmatch(r"(.+)_net_(.+)", given.stem)
    if part and (given.parent / store.OPTIONS_FILE).is_file():  # a run's own file
        folder, network = Path(os.path.abspath(given.parent)), part[2]
        if str(flags["epoch"] or part[1]) != part[1]:
            why = f"is {flags['epoch']}, but the file holds the weights of {part[1]}"
            raise OptionError("option", "epoch", why, "omit it, or give the run's folder")
        flags["epoch"] = part[1]
        if network.endswith("_B") and flags["direction"] is None:
            flags["direction"] = OTHER_DIRECTION[store.load(folder).get("direction", "AtoB")]
        loaded = TrainedGenerator({"name": folder.name, "checkpoints_dir": folder.parent} | flags)
        if network not in loaded.network_names:
            why = f"holds {network}, but results come from {' and '.join(loaded.network_names)}"
            raise CheckpointError("file", given, why, "give that file, or the run's folder (with its direction)")
        return loaded
    holder = tempfile.TemporaryDirectory(prefix="ganvas_")
    folder = Path(holder.name, "weights")
    folder.mkdir()
    _link(Path(os.path.abspath(given)), folder / f"latest_net_G{given.suffix}")
    try:
        where = {"name": folder.name, "checkpoints_dir": folder.parent, "model": "test", "dataset_mode": "single"}
        return TrainedGenerator(where | flags, holder, given)
    except UserError as problem:
        raise renamed_error(problem, str(folder / f"latest_net_G{given.suffix}"), str(given)) from problem.__cause__


def _gpu_ids(device: str | torch.device | None) -> str | None:
    """Return the value of --gpu_ids for a device."""
    if device is None:
        return None
    kind, _, number = str(device).partition(":")
    return {"cpu": "-1", "cuda": number or "0"}.get(kind, str(device))


def _link(file: Path, place: Path) -> None:
    """Make a file appear at another place, as a link or else as a copy."""
    try:
        place.symlink_to(file)
    except OSError:  # Windows allows links only to some users
        shutil.copyfile(file, place)
