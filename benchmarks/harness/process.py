"""Run a benchmark case in a separate process that stays warm and repeats the case on request over a pipe."""

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
    """A case that takes turns with others: in a separate process (CaseProcess) or in this one (variants.LocalCase)."""

    name: str
    facts: dict[str, Any]

    def time_runs(self, number: int) -> tuple[list[float], float]:
        """Return the seconds of each of `number` runs, and how many cores other processes used at the same time."""

    def peak_mb(self) -> float:
        """Return the peak memory in MB: GPU memory if the case uses a GPU, else host memory."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class CaseProcess:
    """A process that runs one case; it is idle between requests.

    case_class: "module:class" in benchmarks/; settings: the keyword arguments of the class; home: the checkout whose
    code runs.
    """

    case_class: str
    settings: dict[str, Any]
    name: str = OURS
    home: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.output = tempfile.TemporaryFile("w+")  # everything that the code prints
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), self.case_class, str(self.home), json.dumps(self.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.output,
            text=True,
            env=os.environ | self.env,
        )
        self.facts = self.read_answer()

    def read_answer(self) -> dict[str, Any]:
        """Return the next answer; if the process ended, raise DataError with the last line that it printed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.output.seek(0)
        why = (self.output.read().strip().splitlines() or ["no output"])[-1]
        why = f"{self.case_class} ended with {code}: {why}"
        raise DataError(self.name, self.home, why, "check whether it runs by itself")

    def ask(self, message: str) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(message + "\n")
        self.process.stdin.flush()
        return self.read_answer()

    def time_runs(self, number: int, *companions: int) -> tuple[list[float], float]:
        """Return the seconds of each of `number` runs, and how many cores other processes used at the same time.

        companions: process ids that do not count as others.
        """
        pids = [self.process.pid, *companions]
        start, all_before, own_before = time.perf_counter(), total_cpu_seconds(), sum(map(process_cpu_seconds, pids))
        seconds = self.ask(str(number))["seconds"]
        elapsed = time.perf_counter() - start
        others = total_cpu_seconds() - all_before - (sum(map(process_cpu_seconds, pids)) - own_before)
        return seconds, max(0.0, others / elapsed)

    def peak_memory(self) -> dict[str, float]:
        """Return the peak memory in MB: "host" as the kernel counts it, with child processes; "gpu" as torch does."""
        return self.ask("peak")

    def peak_mb(self) -> float:
        """Return the peak memory in MB: GPU memory if the case uses a GPU, else host memory."""
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
    """Return the CPU seconds of all cores since the machine started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def process_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def time_interleaved(
    cases: Sequence[TimedCase], rounds: int, repeats: int
) -> dict[str, list[tuple[list[float], float]]]:
    """Run the cases in turns (A B A B), never two at once; return what `time_runs` gives in each round, by name."""
    timings: dict[str, list[tuple[list[float], float]]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            timings[case.name].append(case.time_runs(repeats))
    return timings


def start_all(arguments: list[tuple[str, dict[str, Any], str, Path]]) -> list[CaseProcess]:
    """Start the processes of a case one after the other; if one fails, close the others and raise its error."""
    processes: list[CaseProcess] = []
    try:
        for process_arguments in arguments:
            processes.append(CaseProcess(*process_arguments))
    except (UserError, OSError):
        for process in processes:
            process.close()
        raise
    return processes
