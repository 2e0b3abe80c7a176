"""Read files of weights and state that anybody may have made: nothing in them is run."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from util.errors import CheckpointError


def read(path: Path) -> Any:
    """Return what a .pth or .pt file holds, on the CPU; only tensors and plain containers are ever built.

    Raises CheckpointError, in one line, for a missing, empty, foreign or unsafe file.
    """
    try:
        if path.stat().st_size == 0:
            raise CheckpointError("file", path, "is empty", "copy it again")
        with open(path, "rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise CheckpointError("file", path, "is a Git LFS pointer, not the weights", "fetch it with git lfs pull")
        if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise CheckpointError("file", path, "is a web page, not the weights", "download it again")
        if start.startswith(b"PK") and not is_whole(path):
            raise CheckpointError("file", path, "is damaged (its checksums do not fit)", "copy it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickle protocols: what cannot be read raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as problem:
        what = re.search(r"Unsupported (?:global|class|operand)[^\n]*?([\w.]+\.[\w.]+)", str(problem))
        why = (
            f"holds Python objects ({what[1]}), not just weights" if what else "holds no weights that are safe to read"
        )
        raise CheckpointError("file", path, why, "save the network's state_dict() instead") from problem
    except OSError as problem:
        raise CheckpointError("file", path, problem.strerror or "cannot be read", "check the path") from problem
    except Exception as problem:  # torch raises RuntimeError, EOFError, ValueError, KeyError and more on damage
        why = f"is damaged or no file of weights ({type(problem).__name__})"
        raise CheckpointError("file", path, why, "copy it again") from problem


def is_whole(path: Path) -> bool:
    """Whether the checksums of a zip file fit; torch does not look at them."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False
