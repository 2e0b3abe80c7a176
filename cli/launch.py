"""Start a command as one of several processes: those of torchrun, or one for each of several --gpu_ids."""

import contextlib
import io
import os
import sys
import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from util.errors import OptionError, print_line


def is_launched() -> bool:
    """Whether torchrun, or another launcher that sets its variables, has started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") and {"RANK", "MASTER_ADDR"} <= os.environ.keys()


def hide_store_warnings() -> None:
    """Before torch is imported: of several processes, hide warnings in C++ about others that are gone."""
    if is_launched():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def join_others(script: str, argv: list[str], report: Any) -> list[str]:
    """Join the other processes of this command, if there are any; return its arguments.

    Process 0 alone prints. train.py that torchrun has started again, with any number of processes, continues its run.
    """
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if is_launched():
        from cli.process_group import ProcessGroup  # needs torch

        report.group = group = ProcessGroup(report.write)
        restarted |= group.restarted
        if group.rank:
            sys.stdout = open(os.devnull, "w")
    elif script == "train" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # one process of torchrun
        from cli.process_group import mark_start  # needs torch

        restarted |= mark_start()
    if restarted and script == "train":
        argv = [word for word in argv if word != "--overwrite"]
        argv += ["--continue_train"] if "--continue_train" not in argv else []
    return argv


def listed_devices(argv: list[str]) -> list[str]:
    """Return the devices of --gpu_ids if there are several and this process is to start one for each, else []."""
    values = [word.partition("=")[2] for word in argv if word.startswith("--gpu_ids=")]
    values += [after for word, after in pairwise(argv) if word == "--gpu_ids"]
    devices = [word for word in (values or [""])[-1].replace(" ", "").split(",") if word]
    return devices if len(devices) > 1 and not is_launched() else []


def start_processes(script: str, argv: list[str], devices: list[str], parse: Callable[..., Any]) -> int:
    """Run a script of ours as a process for each device, by torch's launcher; return its exit code.

    Training splits --batch_size among them, as DataParallel does; if it does not divide, fewer devices are used.
    parse: of options/parse.py. Raise OptionError or EnvironmentFault for a device that is not there.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException  # these need torch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from util.device import select_device

    if "mps" in devices:
        raise OptionError("option", "--gpu_ids", "MPS does not work with several processes", "name one device")
    for device in devices:
        select_device(device)  # raises for one that is not there
    count, argv = len(devices), [*argv, "--gpu_ids", ",".join(devices)]
    if script == "train":
        with contextlib.redirect_stdout(io.StringIO()):  # process 0 prints its notes
            size = parse([*argv, "--gpu_ids", devices[0]], "train").batch_size
        count = max(n for n in range(1, count + 1) if size % n == 0)
        argv += ["--batch_size", str(size // count), "--gpu_ids", ",".join(devices[:count])]
        if count < len(devices):
            print_line(f"note: --batch_size {size} is split over {count} of {len(devices)} devices: give a multiple")
    file = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), f"{script}.py")
    if count == 1:
        os.execv(sys.executable, [sys.executable, file, *argv])
    config = LaunchConfig(1, 1, count, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0")
    try:
        elastic_launch(config, sys.executable)(file, *argv)
    except ChildFailedError as failed:  # the process itself has said why
        code = failed.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0
