"""Find the folder of a run that a caller names."""

import os
from pathlib import Path

from util.errors import CheckpointError
from util.spelling import path_hint


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """Return a run's folder; raise CheckpointError, with the path that is meant, if there is none."""
    given = Path(path).expanduser()
    if given.is_dir():
        return given
    if given.exists():
        raise CheckpointError(
            "run", given, "is a file", "give the folder of a run, or to ganvas.load its weights (.pth, .safetensors)"
        )
    inside = Path("checkpoints", given)
    hint = f"did you mean {inside}?" if inside.is_dir() else path_hint(str(inside)) or path_hint(str(given))
    raise CheckpointError("run", given, "there is no such folder", hint or "give the folder of a run")
