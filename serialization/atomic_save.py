"""Save to a temporary file, by torch.save unless another writer is given, flush it to the disk, and rename it."""

import contextlib
import errno
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from serialization.safe_load import check_file
from util import disk_space
from util.atomic_write import sync_folder
from util.errors import CheckpointError, EnvironmentFault, first_line

Save = Callable[[Any, Any], Any]  # (thing, open file)


def write_atomically(path: Path, thing: Any, read_back: bool = False, save: Save | None = None) -> None:
    """Save beside the target, flush to the disk, then rename onto the target.

    read_back: scan the written file before the rename. Raises EnvironmentFault if writing fails; on a full disk it is
    tried twice.
    """
    try:
        disk_space.retry_when_full(partial(_write_and_flush, path, thing, read_back, save), path)
    except CheckpointError as problem:
        why = f"failed the check after writing: {problem.args[2]}"
        raise EnvironmentFault("file", path, why, "check the disk, and the state that plug-ins store") from problem
    except OSError as problem:
        raise disk_space.write_error(path, problem, disk_space.tensor_bytes(thing)) from problem


def _write_and_flush(path: Path, thing: Any, read_back: bool, save: Save | None) -> None:
    beside = path.with_name(path.name + ".tmp")
    try:
        with open(beside, "wb") as file:  # not a path, with which torch loses the errno of a full disk
            (save or torch.save)(thing, file)
            file.flush()
            os.fsync(file.fileno())
        if read_back:
            check_file(beside)
        os.replace(beside, path)
        sync_folder(path.parent)
    except BaseException as problem:
        with contextlib.suppress(OSError):  # remove the incomplete file, if possible
            beside.unlink()
        if isinstance(problem, RuntimeError) and isinstance(problem.__context__, OSError):
            raise problem.__context__ from problem
        if isinstance(problem, RuntimeError) and re.search("unexpected pos|StreamWriter", str(problem)):
            raise OSError(errno.EIO, first_line(problem)) from problem  # torch reports a short write like this
        raise
