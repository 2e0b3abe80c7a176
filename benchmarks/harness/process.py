"""Run a benchmark case in a separate process that stays warm and repeats the case on request over a pipe."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any

from util.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
OURS, THEIRS = "GANvas", "reference"
Turn = tuple[list[float], float]  # the seconds of each run, and how many cores other processes used at the same time


class TimedCase(AbstractContextManager):
    """A case that takes turns with others: in a separate process (CaseProcess) or in this one (variants.LocalCase)."""

    name: str
    facts: dict[str, Any]

    def time_runs(self, number: int) -> Turn:
        """Return the seconds of each of `number` runs, and how many cores other processes used at the same time."""
        raise NotImplementedError

    def peak_mb(self) -> float:
        """Return the peak memory in MB: GPU memory if the case uses a GPU, else host memory."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what the case holds."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class CaseProcess(TimedCase):
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
        worker = Path(__file__).with_name("worker.py")
        command = [sys.executable, str(worker), self.case_class, str(self.home), json.dumps(self.settings)]
        env = os.environ | self.env
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=self.output, text=True, env=env)
        self.facts = self.read_answer()

    def read_answer(self) -> Any:
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

    def ask(self, message: object) -> Any:
        """Send a request and return the answer."""
        print(message, file=self.process.stdin, flush=True)
        return self.read_answer()

    def time_runs(self, number: int) -> Turn:
        start, before = time.perf_counter(), cpu_seconds_of_others(self.process.pid)
        seconds = self.ask(number)
        others = cpu_seconds_of_others(self.process.pid) - before
        return seconds, max(0.0, others / (time.perf_counter() - start))

    def peak_mb(self) -> float:
        return self.ask("peak")

    def close(self) -> None:
        try:
            self.process.communicate(timeout=10)  # it ends with its input
        except TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.output.close()


def cpu_seconds_of_others(pid: int) -> float:
    """Return the CPU seconds of all cores since the machine started, without a process and its ended children."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    own = map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
    return (user + nice + system + sum(interrupts) - sum(own)) / os.sysconf("SC_CLK_TCK")


def time_interleaved(cases: Sequence[TimedCase], rounds: int, repeats: int) -> dict[str, list[Turn]]:
    """Run the cases in turns (A B A B), never two at once; return what `time_runs` gives in each round, by name."""
    timings: dict[str, list[Turn]] = {case.name: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            timings[case.name].append(case.time_runs(repeats))
    return timings
