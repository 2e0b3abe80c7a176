"""Write and read the weights of one save, a file for each network, and mark the files that belong together."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from serialization import weight_files
from serialization.weight_files import NOTHING
from serialization.weight_names import PTH, list_weights, weight_path
from util.errors import print_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MIXED_SAVE_TIMEOUT_S = 10.0  # seconds to wait for a run that is writing these files


def write(
    folder: Path, prefix: str, networks: Mapping[str, nn.Module], suffix: str = PTH, about: Mapping[str, Any] = NOTHING
) -> None:
    """Write PREFIX_net_NAME.pth for each network; all files of a save get the same modification time as a mark.

    suffix, about: see `weight_files.save_networks`.
    """
    weight_files.save_networks(folder, prefix, networks, suffix, about)
    files = _weight_paths(folder, prefix, networks)
    for path in files[1:]:
        mark = files[0].stat().st_mtime_ns
        try:
            os.utime(path, ns=(mark, mark))
        except OSError as problem:  # some network drives refuse; then readers wait until the timeout
            note = f"note: {path.name} cannot get the same modification time as the other files ({problem.strerror})"
            print_line(note)


def remove_old_epochs(folder: Path, networks: Mapping[str, nn.Module], keep: int) -> None:
    """Remove the weights N_net_NAME of these networks for all but the `keep` highest N; 0 keeps all.

    What cannot be removed does not stop the run, and a note names it.
    """
    matches = (re.match("([0-9]{1,9})_net_", path.name) for path in list_weights(folder, "*_net_*"))
    numbers = {int(match[1]) for match in matches if match}
    for number in sorted(numbers)[:-keep] if keep else ():
        for path in _weight_paths(folder, str(number), networks):
            try:
                path.unlink(missing_ok=True)
            except OSError as problem:
                print_line(f"note: {path} cannot be removed ({problem.strerror}); it can be deleted by hand")


def is_newer(folder: Path, prefix: str, networks: Mapping[str, nn.Module], since_ns: int) -> bool:
    """Whether all files of a save exist and were modified at or after a time in nanoseconds."""
    return all(mark >= since_ns for mark, _ in _file_stamps(_weight_paths(folder, prefix, networks)))


def load(folder: Path, which: str, networks: Mapping[str, nn.Module], hint: str = "", locked: bool = False) -> None:
    """Load the weights WHICH into each network, all from the same save even while a run replaces the files.

    Reads again until no file was replaced during the read and all files have the mark of one save. Files without common
    marks (copied, or from the reference) are accepted if no run is writing to the folder. locked: the caller holds the
    folder's lock, so no other run is.
    """
    deadline = time.monotonic() + MIXED_SAVE_TIMEOUT_S
    while True:
        files = _weight_paths(folder, which, networks)
        before = _file_stamps(files)
        weight_files.load_networks(folder, which, networks, hint)
        one_save = len({mark for mark, _ in before}) == 1
        if before == _file_stamps(files) and (one_save or locked or not _training_is_writing(folder)):
            weight_files.note_other_format(files)
            return
        if time.monotonic() > deadline:
            names = ", ".join(path.name for path in files)
            print_line(f"note: {names} may be from different steps, because a run keeps saving them")
            return
        time.sleep(0.02)


def _weight_paths(folder: Path, prefix: str, networks: Mapping[str, nn.Module]) -> list[Path]:
    return [weight_path(folder, prefix, name) for name in networks]


def _file_stamps(files: list[Path]) -> list[tuple[int, int]]:
    """Return (modification time, inode) of each file; (0, 0) for a missing one."""
    stats = [path.stat() if path.is_file() else None for path in files]
    return [(state.st_mtime_ns, state.st_ino) if state else (0, 0) for state in stats]


def _training_is_writing(folder: Path) -> bool:
    """Whether a run is writing here: it holds the folder's lock, which the kernel releases when the process ends."""
    if fcntl is None or not (folder / ".lock").exists():  # Windows has no such lock
        return (folder / ".lock").exists() and not (folder / "exit.json").exists()
    with open(folder / ".lock", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
