"""List the runs in --checkpoints_dir and suggest the nearest name for a missing one."""

from collections.abc import Iterable
from pathlib import Path

from util.spelling import nearest

# files that mark a folder as a run
RUN_FILE_PATTERNS = ("options.json", "loss_log.txt", "losses.jsonl", "*.pth", "state_*.pt")


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
