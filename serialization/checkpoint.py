"""Write and load the state files of a run, so that a killed process loses no saved state."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from serialization.atomic_save import write_atomically
from serialization.safe_load import load_file
from serialization.weight_files import find_non_finite
from util.errors import CheckpointError

STATE_FORMAT = 1


def save_state(folder: Path, state: dict[str, Any], step: int, keep: int) -> list[str]:
    """Write the state file that a run resumes from; then remove all but the newest `keep`.

    The file gets its name only when it is complete and on the disk. States of later steps remain when training has
    gone back (--epoch, a damaged newest state); they are renamed to state_STEP.superseded. Returns a line for each old
    state that could not be removed; EnvironmentFault if the new state cannot be written.
    """
    path = folder / f"state_{step:09d}.pt"
    write_atomically(path, {"format": STATE_FORMAT, **state}, read_back=True)
    files = state_files(folder)
    newest = sorted(number for number in files if number <= step)[-keep:]
    notes = []
    for number, old in files.items():
        try:
            if number > step:
                os.replace(old, old.with_suffix(".superseded"))
            elif number not in newest:
                old.unlink(missing_ok=True)
        except OSError as problem:  # the new state is safe, so an extra old one does not stop the run
            notes.append(f"note: old state {old} cannot be removed ({problem.strerror}); it can be deleted by hand")
    return notes


def state_files(folder: Path) -> dict[int, Path]:
    """Return {step: path} of a run's state files."""
    matches = {p: re.fullmatch(r"state_(\d{9,})\.pt", p.name) for p in folder.glob("state_*.pt")}
    return {int(match[1]): p for p, match in matches.items() if match}


def keep_best(folder: Path, step: int, prefixes: Iterable[str]) -> None:
    """Keep the state of a step as PREFIX_state.pt too, which no later save removes, for each prefix best_METRIC."""
    source = folder / f"state_{step:09d}.pt"
    for kept in (folder / f"{prefix}_state.pt" for prefix in prefixes if prefix.startswith("best_")):
        if not source.is_file() or (kept.is_file() and source.samefile(kept)):
            continue
        new = kept.with_suffix(".tmp")
        new.unlink(missing_ok=True)
        try:
            os.link(source, new)  # the same file: no time and no space
        except OSError:  # the disk has no links
            shutil.copyfile(source, new)
        os.replace(new, kept)


def load_state(folder: Path, which: str = "latest") -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest readable state, and a line for each newer state that is not.

    which: "latest", or best_METRIC for the state of its epoch; other weights have no state. Returns (None, []) without
    a state; raises CheckpointError if there are states but none is readable.
    """
    notes: list[str] = []
    newest_first = [path for _, path in sorted(state_files(folder).items(), reverse=True)]
    for path in newest_first if which == "latest" else folder.glob(f"{which}_state.pt"):
        try:
            state = load_file(path)
        except CheckpointError as problem:
            notes.append(f"note: {path.name} cannot be used ({problem}); falling back to the one before")
            continue
        if not isinstance(state, dict) or type(state.get("format")) is not int or not _has_valid_types(state):
            notes.append(f"note: {path.name} does not hold the state of a run; falling back to the one before")
        elif state["format"] > STATE_FORMAT:
            why = f"was written by a newer version (format {state['format']}, this one knows {STATE_FORMAT})"
            raise CheckpointError("state", path, why, "upgrade")
        elif bad := find_non_finite({part: state.get(part) for part in FINITE_PARTS}):
            notes.append(f"note: {path.name} holds NaN or Inf in '{bad}'; falling back to the one before")
        else:
            return state, notes
    if notes:
        why = "none of its states can be read: " + "; ".join(n.removeprefix("note: ") for n in notes)
        raise CheckpointError("run", folder, why, "start afresh with --overwrite")
    return None, []


STATE_TYPES: dict[str, Any] = {"model": dict, "optimizers": dict, "position": dict, "means": dict, "history": list,
                               "generators": dict, "classes": list, "options": dict, "ema": dict, "metrics": dict,
                               "tools": dict, "scaler": dict, "inventory": dict, "exports": list,
                               "ranks": list}  # fmt: skip
FINITE_PARTS = ("model", "optimizers", "ema", "tools")  # a NaN in these would spread to all weights


def _has_valid_types(state: dict[str, Any]) -> bool:
    """Whether each part present in a state has the right type."""
    right = all(isinstance(state[part], kind) for part, kind in STATE_TYPES.items() if part in state)
    numbers = [*state.get("history", []), *state.get("position", {}).values()] if right else [None]
    texts = (
        [name for part in ("classes", "options", "exports", "tools") for name in state.get(part, ())] if right else []
    )
    tensors = state.get("tools", {}).values() if right else []
    return (
        all(type(n) in (int, float) for n in numbers)
        and all(type(text) is str for text in texts)
        and all(isinstance(value, Tensor) for value in tensors)
    )
