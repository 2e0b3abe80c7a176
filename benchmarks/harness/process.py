"""A case kept warm in a process of its own, which does it as often as it is asked over a pipe."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from util.errors import DataError, UserError

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "benchmarks" / "harness" / "worker.py"
OURS, THEIRS = "GANvas", "reference"


class TimedCase(Protocol):
    """What takes turns: a case ready in a process of its own (CaseProcess), or in this one (variants.LocalCase)."""

    name: str
    facts: dict[str, Any]

    def time_runs(self, number: int) -> tuple[list[float], float]:
        """Return the seconds of doing it so often, and how many cores other processes took meanwhile."""

    def peak_mb(self) -> float:
        """Return the most memory there was, in MB: of the GPU, if it works there."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class CaseProcess:
    """One process of one case; it stands still while nothing is asked of it.

    case_class: "module:class" below benchmarks/; settings: what the class is made of; home: the checkout whose code
    runs.
    """

    case_class: str
    settings: dict[str, Any]
    name: str = OURS
    home: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.output = tempfile.TemporaryFile("w+")  # whatever the code prints
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), self.case_class, str(self.home), json.dumps(self.settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.output, text=True, env=os.environ | self.env,
        )  # fmt: skip
        self.facts = self.read_answer()

    def read_answer(self) -> dict[str, Any]:
        """Return the next answer; DataError, with the last line the process said, if it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.output.seek(0)
        why = (self.output.read().strip().splitlines() or ["without a word"])[-1]
        why = f"{self.case_class} ended with {code}: {why}"
        raise DataError(self.name, self.home, why, "see whether it runs by itself")

    def ask(self, message: str) -> dict[str, Any]:
        """Return the answer to a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(message + "\n")
        self.process.stdin.flush()
        return self.read_answer()

    def time_runs(self, number: int, *companions: int) -> tuple[list[float], float]:
        """Return the seconds of doing it so often, and how many cores other processes took meanwhile."""
        pids = [self.process.pid, *companions]
        start, all_before, own_before = time.perf_counter(), total_cpu_seconds(), sum(map(process_cpu_seconds, pids))
        seconds = self.ask(str(number))["seconds"]
        elapsed = time.perf_counter() - start
        others = total_cpu_seconds() - all_before - (sum(map(process_cpu_seconds, pids)) - own_before)
        return seconds, max(0.0, others / elapsed)

    def peak_memory(self) -> dict[str, float]:
        """Return the most memory there was, in MB: "host" by the kernel's count, children too; "gpu" by torch's."""
        return self.ask("peak")

    def peak_mb(self) -> float:
        """Return the most memory there was, in MB: of the GPU, if it works there."""
        peak = self.peak_memory()
        return peak["gpu"] or peak["host"]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.output.close()

    def __enter__(self) -> "CaseProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def total_cpu_seconds() -> float:
    """Return the seconds that all cores worked since the machine began."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def process_cpu_seconds(pid: int) -> float:
    """Return the seconds that a process and its ended children worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def time_interleaved(
    cases: Sequence[TimedCase], rounds: int, repeats: int
) -> dict[str, list[tuple[list[float], float]]]:
    """Let the sides take turns, A B A B, never two at once; return what each took in every round."""
    timings: dict[str, list[tuple[list[float], float]]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            timings[case.name].append(case.time_runs(repeats))
    return timings


def start_all(arguments: list[tuple[str, dict[str, Any], str, Path]]) -> list[CaseProcess]:
    """Start the processes of a case one after the other; none stays if one of them cannot start."""
    processes: list[CaseProcess] = []
    try:
        for process_arguments in arguments:
            processes.append(CaseProcess(*process_arguments))
    except (UserError, OSError):
        for process in processes:
            process.close()
        raise
    return processes
