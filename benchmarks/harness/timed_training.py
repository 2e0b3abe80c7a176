"""Train a run for some seconds, counted from the end of its first step, and stop it by a signal."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.process import ROOT
from util.errors import DataError

POLL_S = 0.02
START_LIMIT_S, END_LIMIT_S = 1200.0, 600.0  # for the first step, and for saving


class TimedTraining:
    """A process of train.py that starts or continues a run and is stopped some seconds after its first step.

    flags: of train.py, without those of the run's folder; log: gets the command and what it prints. reference: a
    checkout of the reference, whose code runs instead; it cannot continue a run.
    """

    def __init__(self, run: Path, flags: Sequence[str], log: Path, reference: Path | None = None):
        more = ["--name", run.name, "--checkpoints_dir", str(run.parent)]
        more += ["--continue_train"] if (run / "options.json").is_file() else []
        script: list[object] = [ROOT / "train.py"]
        if reference:
            script = [Path(__file__).with_name("reference_train.py"), reference, run]
        self.rows, self.log, self.before = run / "losses.jsonl", log, last_row(run / "losses.jsonl").get("step", 0)
        command = [sys.executable, *map(str, script), *flags, *more]
        with open(log, "a", encoding="utf-8") as output:
            print(f"$ {shlex.join(command)}", file=output, flush=True)
            env = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if reference else {})
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )

    def __enter__(self) -> "TimedTraining":
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def train(self, seconds: float) -> tuple[float, float, bool]:
        """Return the seconds since the first step, the cores that others used, and whether the run ended by itself."""
        start = time.monotonic()
        while last_row(self.rows).get("step", 0) <= self.before and self.process.poll() is None:
            if time.monotonic() - start > START_LIMIT_S:
                raise self.failure(f"makes no step in {START_LIMIT_S:.0f} s")
            time.sleep(POLL_S)
        first, busy = time.monotonic(), cpu_seconds_of_others(self.process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        took = time.monotonic() - first
        others = max(0.0, cpu_seconds_of_others(self.process.pid) - busy) / max(took, POLL_S)
        ended = self.process.poll() is not None
        if not ended:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                raise self.failure(f"does not end in {END_LIMIT_S:.0f} s after SIGTERM") from None
        if self.process.returncode not in ((0,) if ended else (0, 143)):
            raise self.failure(f"ends with {self.process.returncode}")
        return took, others, self.process.returncode == 0

    def failure(self, why: str) -> DataError:
        """Return an error with the last line that the process printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return DataError("train.py", self.log.stem, f"{why}: {lines[-1]}", f"see {self.log}")


def last_row(path: Path) -> dict[str, Any]:
    """Return the last complete row of losses.jsonl; {} if there is none."""
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") and lines[-1].endswith(b"}") else {}


def cpu_seconds_of_others(session: int) -> float:
    """Return the CPU seconds that processes outside a session have used since the machine started."""
    user, nice, system = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:4])
    own = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended
            fields = stat.read_text().rpartition(")")[2].split()
            own += sum(map(int, fields[11:15])) if int(fields[3]) == session else 0
    return (user + nice + system - own) / os.sysconf("SC_CLK_TCK")
