"""List the runs in --checkpoints_dir and suggest the nearest name for a missing one."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from util.spelling import nearest, nearest_path

# files that mark a folder as a run
RUN_FILE_PATTERNS = ("options.json", "loss_log.txt", "losses.jsonl", "*.pth", "*.safetensors", "state_*.pt")


def list_runs(checkpoints_dir: Path) -> list[str]:
    """Return the sorted names of all runs in a folder."""
    folders = (path for path in checkpoints_dir.glob("*") if path.is_dir())
    return sorted(folder.name for folder in folders if any(any(folder.glob(mark)) for mark in RUN_FILE_PATTERNS))


def suggest_run(name: str, names: Iterable[str]) -> str:
    """Return "did you mean NAME?" or the existing names; "" without names."""
    known = list(names)
    near = nearest(name, known)
    if near and near != name:
        return f"did you mean {near}?"
    return f"there are {', '.join(known[:20])}" if known else ""


def suggest_folder(folder: Path) -> str:
    """Return which run is meant by a missing folder, or which --checkpoints_dir; "" if there are no runs."""
    if names := list_runs(folder.parent):
        return suggest_run(folder.name, names)
    near = nearest_path(str(folder.parent))
    return f"did you mean --checkpoints_dir {shlex.quote(near)}?" if near and list_runs(Path(near)) else ""
