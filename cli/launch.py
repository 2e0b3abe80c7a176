"""Start a command as one of several processes: torchrun's, or those of a list of --gpu_ids."""

import os
import sys
from typing import Any


def is_launched() -> bool:
    """Whether torchrun, or another launcher that sets its variables, has started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") and {"RANK", "MASTER_ADDR"} <= os.environ.keys()


def join_others(argv: list[str], report: Any) -> list[str]:
    """Join the other processes of this command, if there are any; return its arguments.

    Process 0 alone prints. Processes that the launcher has started again continue their run.
    """
    if not is_launched():
        return argv
    from cli.process_group import ProcessGroup  # needs torch

    report.group = group = ProcessGroup(report.write)
    if group.rank:
        sys.stdout = open(os.devnull, "w")
    if group.restarted or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        argv = [word for word in argv if word != "--overwrite"]
        argv += ["--continue_train"] if "--continue_train" not in argv else []
    return argv
