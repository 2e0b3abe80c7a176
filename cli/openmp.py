"""How torch's threads wait for each other, and how they notice that others want their cores."""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

# times a thread looks at a barrier before it sleeps, where nobody can tell whether others want its core
SPIN_COUNT = "1000"
CHECK_INTERVAL_S = 0.1  # seconds between looks,
REST_FACTOR = 500  # or so many times what a look takes, where there are many threads to look at
# seconds a second of waiting for a core: more says that others want it, less that none does
BUSY_SHARE, IDLE_SHARE = 0.2, 0.1
TASKS_FOLDER = Path("/proc/self/task")

_watching = False


def share_cores() -> None:
    """Have threads that wait leave their core to others that want it, unless the user's environment says how they wait.

    GNU OpenMP's threads look at a barrier 300,000 times before they sleep. Beside one busy process a step then takes
    three to ten times as long, since they turn round on cores that others need; where they sleep at once, a step
    without neighbours takes up to a fifth longer. So it is watched which of the two is right. To be called before
    torch is loaded.
    """
    global _watching
    if _watching or os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        return
    if core_wait_seconds():
        with contextlib.suppress(RuntimeError):  # this user may have no more threads
            threading.Thread(target=_monitor, name="neighbours", daemon=False).start()
            _watching = True
            return
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def core_wait_seconds() -> dict[str, float]:
    """Return for how many seconds each thread of this process was ready and had no core; {} if the system does not say.

    It is the second number of Linux's /proc/PID/task/TID/schedstat, in nanoseconds; the first is how long it had one,
    which is 0 for all threads where Linux was told not to count.
    """
    had, found = 0, dict[str, float]()
    with contextlib.suppress(OSError):  # there is no such folder
        for task in TASKS_FOLDER.iterdir():
            with contextlib.suppress(OSError):  # it has ended, or there is no such file
                ran, waited = (int(number) for number in (task / "schedstat").read_text().split()[:2])
                had, found[task.name] = had + ran, waited / 1e9
    return found if had else {}


def _monitor() -> None:
    """Keep an idle team while others want our cores, until the process ends.

    Neither thread is a daemon: Python ends those by force, and what is in torch then takes the whole process along.
    """
    idle_team, then, before = None, time.perf_counter(), core_wait_seconds()
    looked, main = 0.0, threading.main_thread()  # seconds that a look took
    while True:
        main.join(max(CHECK_INTERVAL_S, REST_FACTOR * looked))
        if not main.is_alive():
            break
        now, after = time.perf_counter(), core_wait_seconds()
        looked = time.perf_counter() - now
        share = sum(waited - before.get(thread, 0) for thread, waited in after.items()) / (now - then)
        if share > BUSY_SHARE and idle_team is None and _is_loaded("torch"):
            with contextlib.suppress(RuntimeError):  # this user may have no more threads
                idle_team = IdleTeam()
        elif share < IDLE_SHARE and idle_team is not None:
            idle_team.stop.set()
            idle_team = None
        then, before = now, after
    if idle_team is not None:
        idle_team.stop.set()


def _is_loaded(name: str) -> bool:
    """Whether a module is there, as a whole."""
    return name in sys.modules and not getattr(sys.modules[name].__spec__, "_initializing", False)


class IdleTeam(threading.Thread):
    """A second team of torch's threads, which does nothing until it is to leave.

    While there are more of its threads than cores, GNU OpenMP has all that wait look a hundred times only.
    """

    def __init__(self) -> None:
        super().__init__(name="crowd")
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        """Have a team made, as any larger operation in a thread does, and wait."""
        import torch

        torch.zeros(1 << 18).add_(1)
        self.stop.wait()
