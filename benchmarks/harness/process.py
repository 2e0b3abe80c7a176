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
SERVE = ROOT / "benchmarks" / "harness" / "worker.py"
OURS, THEIRS = "GANvas", "reference"


class Warm(Protocol):
    """What takes turns: a case that is ready in a process of its own (Side), or in this one (ways.Here)."""

    name: str
    facts: dict[str, Any]

    def times(self, number: int) -> tuple[list[float], float]:
        """Return the seconds of doing it so often, and how many cores other processes took meanwhile."""

    def most(self) -> float:
        """Return the most memory there was, in MB: of the GPU, if it works there."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass
class Side:
    """One process of one case; it stands still while nothing is asked of it.

    maker: "module:class" below benchmarks/; settings: what the class is made of; home: the checkout whose code runs.
    """

    maker: str
    settings: dict[str, Any]
    name: str = OURS
    home: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.said = tempfile.TemporaryFile("w+")  # whatever the code prints
        self.process = subprocess.Popen(
            [sys.executable, str(SERVE), self.maker, str(self.home), json.dumps(self.settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, env=os.environ | self.env,
        )  # fmt: skip
        self.facts = self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; DataError, with the last line the process said, if it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.said.seek(0)
        why = (self.said.read().strip().splitlines() or ["without a word"])[-1]
        why = f"{self.maker} ended with {code}: {why}"
        raise DataError(self.name, self.home, why, "see whether it runs by itself")

    def ask(self, request: str) -> dict[str, Any]:
        """Return the answer to a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.answer()

    def times(self, number: int, *companions: int) -> tuple[list[float], float]:
        """Return the seconds of doing it so often, and how many cores other processes took meanwhile."""
        own = [self.process.pid, *companions]
        began, all_before, own_before = time.perf_counter(), all_busy(), sum(map(processor, own))
        seconds = self.ask(str(number))["seconds"]
        took = time.perf_counter() - began
        others = all_busy() - all_before - (sum(map(processor, own)) - own_before)
        return seconds, max(0.0, others / took)

    def peak(self) -> dict[str, float]:
        """Return the most memory there was, in MB: "host" by the kernel's count, children too; "gpu" by torch's."""
        return self.ask("peak")

    def most(self) -> float:
        """Return the most memory there was, in MB: of the GPU, if it works there."""
        found = self.peak()
        return found["gpu"] or found["host"]

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
        self.said.close()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def all_busy() -> float:
    """Return the seconds that all cores worked since the machine began."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def processor(pid: int) -> float:
    """Return the seconds that a process and its ended children worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def in_turns(sides: Sequence[Warm], rounds: int, times: int) -> dict[str, list[tuple[list[float], float]]]:
    """Let the sides take turns, A B A B, never two at once; return what each took in every round."""
    taken: dict[str, list[tuple[list[float], float]]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            taken[side.name].append(side.times(times))
    return taken


def open_all(makers: list[tuple[str, dict[str, Any], str, Path]]) -> list[Side]:
    """Start the processes of a case one after the other; none stays if one of them cannot start."""
    sides: list[Side] = []
    try:
        for maker in makers:
            sides.append(Side(*maker))
    except (UserError, OSError):
        for side in sides:
            side.close()
        raise
    return sides
