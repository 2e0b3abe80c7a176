"""Adapt how torch's OpenMP threads wait at barriers to whether other processes want their cores."""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

# how often a thread polls a barrier before it sleeps, if the system does not report waiting times
SPIN_COUNT = "1000"
CHECK_INTERVAL_S = 0.1  # seconds between two measurements,
REST_FACTOR = 500  # or this multiple of a measurement's duration if that is longer (many threads)
# seconds of waiting for a core per second: above BUSY_SHARE other processes want our cores, below IDLE_SHARE none does
BUSY_SHARE, IDLE_SHARE = 0.2, 0.1
TASKS_FOLDER = Path("/proc/self/task")

_watching = False


def share_cores() -> None:
    """Make waiting threads yield their cores when other processes want them; the user's environment takes precedence.

    GNU OpenMP's threads poll a barrier 300,000 times before they sleep. Beside one busy process a step then takes
    three to ten times as long, because the threads spin on cores that others need. If they sleep at once, a step
    without other processes takes up to a fifth longer. A thread therefore monitors which case applies. Call this
    before torch is loaded.
    """
    global _watching
    if _watching or os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        return
    if core_wait_seconds():
        with contextlib.suppress(RuntimeError):  # the user's limit of threads is reached
            threading.Thread(target=_monitor, name="busy-core watch", daemon=False).start()
            _watching = True
            return
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def core_wait_seconds() -> dict[str, float]:
    """Return the seconds each thread of this process was ready to run without a core; {} if unknown.

    This is the second number in Linux's /proc/PID/task/TID/schedstat, in nanoseconds. The first is the time on a core;
    it is 0 for all threads if counting is disabled in Linux.
    """
    total, waits = 0, dict[str, float]()
    with contextlib.suppress(OSError):  # the folder does not exist
        for task in TASKS_FOLDER.iterdir():
            with contextlib.suppress(OSError):  # the thread has ended, or the file does not exist
                ran, waited = (int(number) for number in (task / "schedstat").read_text().split()[:2])
                total, waits[task.name] = total + ran, waited / 1e9
    return waits if total else {}


def _monitor() -> None:
    """Keep an IdleTeam while other processes want our cores, until this process ends.

    Neither thread is a daemon, because Python kills daemon threads at exit, and one inside torch then crashes the
    process.
    """
    idle_team, then, before = None, time.perf_counter(), core_wait_seconds()
    measuring_s, main = 0.0, threading.main_thread()  # measuring_s: seconds that a measurement took
    while True:
        main.join(max(CHECK_INTERVAL_S, REST_FACTOR * measuring_s))
        if not main.is_alive():
            break
        now, after = time.perf_counter(), core_wait_seconds()
        measuring_s = time.perf_counter() - now
        share = sum(waited - before.get(thread, 0) for thread, waited in after.items()) / (now - then)
        if share > BUSY_SHARE and idle_team is None and _is_loaded("torch"):
            with contextlib.suppress(RuntimeError):  # the user's limit of threads is reached
                idle_team = IdleTeam()
        elif share < IDLE_SHARE and idle_team is not None:
            idle_team.stop.set()
            idle_team = None
        then, before = now, after
    if idle_team is not None:
        idle_team.stop.set()


def _is_loaded(name: str) -> bool:
    """Whether a module is imported completely."""
    return name in sys.modules and not getattr(sys.modules[name].__spec__, "_initializing", False)


class IdleTeam(threading.Thread):
    """A second team of torch's OpenMP threads that sleeps until it is stopped.

    While GNU OpenMP has more threads than cores, each waiting thread polls only 100 times before it sleeps.
    """

    def __init__(self) -> None:
        super().__init__(name="idle team")
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        """Run one large operation, which creates the team of threads, then wait."""
        import torch  # loaded by now

        with contextlib.suppress(RuntimeError):  # memory ran out: the training step, which needs more, reports it
            torch.zeros(1 << 18).add_(1)
        self.stop.wait()
