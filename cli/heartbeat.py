"""Heartbeats of the processes of a command: which of them make progress, which wait, and which are gone."""

import json
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

from util import ranks
from util.errors import EnvironmentFault

INTERVAL_S = 0.5
START_FACTOR = 6  # times as long may pass before the end of the first step: listing files and compiling take long
GONE_S = 3.0  # without a heartbeat, after a collective has failed or a process of this machine has ended
STOP_S = 600.0  # that a stopped process waits for process 0, which saves
FAILURE = "failure"


class Heartbeats(threading.Thread):
    """A thread that shows the others when the main thread last made progress, and watches them.

    It does so twice a second. A process hangs if it makes no progress for --rank_timeout seconds although it waits for
    no other one; one that shows nothing for so long is stopped, or its machine is gone; one of this machine that has
    ended without a word was killed. on_failure(code, line, traceback) is called for all of these, and if the store
    tells of a failure of another process.
    """

    def __init__(self, store: Any, rank: int, size: int, on_failure: Callable[[int, str, str], None]):
        super().__init__(daemon=True, name="heartbeats")
        self.store, self.rank, self.size, self.on_failure = store, rank, size, on_failure
        self.left, self.store_lost = threading.Event(), False
        self.seen = {other: ("", time.monotonic()) for other in range(size)}  # the newest heartbeat of each, and when

    def run(self) -> None:
        """Show, look and judge until the command ends."""
        number = 0
        while not self.left.wait(INTERVAL_S):
            number += 1
            try:
                self._show(number)
                if self.store.check([FAILURE]):
                    return self.on_failure(*json.loads(self.store.get(FAILURE)))
                if self.rank < 2:  # process 1 watches process 0
                    self._look()
            except RuntimeError:  # the process that holds the store is gone: a collective will fail
                if self.left.wait(GONE_S):
                    return
                continue
            if self.rank < 2 and (found := self._judge()):
                return self.on_failure(*found)

    def leave(self) -> None:
        """Stop, because this process has done its work."""
        self.left.set()
        try:
            self.store.set(f"pulse/{self.rank}", "left")
        except RuntimeError:  # the process that holds the store has left
            return

    def _show(self, number: int) -> None:
        idle = (time.monotonic() - ranks.pulse.last) / (1 if ranks.pulse.has_done_a_step else START_FACTOR)
        shown = number, ranks.pulse.waiting, idle, platform.node(), os.getpid()
        self.store.set(f"pulse/{self.rank}", json.dumps(shown))

    def _look(self) -> None:
        for other in range(self.size):
            if self.store.check([f"pulse/{other}"]):
                text = self.store.get(f"pulse/{other}").decode()
                if text != self.seen[other][0]:
                    self.seen[other] = text, time.monotonic()

    def _judge(self) -> tuple[int, str, str] | None:
        """Return the outcome if a process is gone, silent, hangs, or if all wait for each other."""
        now, idle = time.monotonic(), []
        for other, (text, when) in self.seen.items():
            if text == "left":
                continue
            _, waits, seconds, machine, pid = json.loads(text) if text else (0, False, 0.0, "", 0)
            if now - when > GONE_S and machine == platform.node() and not _exists(pid):
                return *gone([other], self.size), ""
            if now - when > ranks.pulse.timeout:
                return self._fault(str(other), "shows no sign of life: it is stopped, or its machine is gone")
            if seconds > ranks.pulse.timeout and not waits:
                return self._fault(str(other), "hangs: its step, batch or save does not end")
            idle.append(seconds > ranks.pulse.timeout)
        if idle and all(idle):
            return self._fault(f"0 to {self.size - 1}", "wait for each other: they do not do the same")
        return None

    def _fault(self, who: str, why: str) -> tuple[int, str, str]:
        why = f"of {self.size} {why} ({ranks.pulse.timeout:g} s, --rank_timeout)"
        error = EnvironmentFault("rank", who, why, "look at its machine and its disk; the last save counts")
        return error.code, f"error: {error}", ""

    def wait_for_failure(self) -> tuple[int, str, str] | None:
        """Return the failure that another process tells of within a few seconds, else None."""
        end = time.monotonic() + GONE_S + 2 * INTERVAL_S
        try:
            while time.monotonic() < end:
                if self.store.check([FAILURE]):
                    return tuple(json.loads(self.store.get(FAILURE)))  # type: ignore[return-value]
                self._look()
                time.sleep(0.1)
        except RuntimeError:  # process 0, which holds the store unless the launcher does, is gone
            self.store_lost = True
        return None

    def wait_for_first(self) -> None:
        """Wait until process 0 has left, or a process has failed."""
        end = time.monotonic() + STOP_S
        try:
            while time.monotonic() < end and not self.store.check([FAILURE]):
                if self.store.check(["pulse/0"]) and self.store.get("pulse/0") == b"left":
                    return
                time.sleep(0.1)
        except RuntimeError:  # process 0, which holds the store unless the launcher does, has left
            return

    def silent_ranks(self) -> list[int]:
        """Return the processes without a recent heartbeat."""
        if self.store_lost:
            return [0]
        now = time.monotonic()
        return [r for r, (text, when) in self.seen.items() if r != self.rank and text != "left" and now - when > GONE_S]


def gone(who: list[int], size: int) -> tuple[int, str]:
    """Return the exit code and the line for processes that have ended without a word."""
    why = f"of {size} is gone: it was killed (out of memory?), or its machine or network failed"
    fault = EnvironmentFault("rank", " and ".join(map(str, who)) or "?", why, "start again: the last save counts")
    return fault.code, f"error: {fault}"


def _exists(pid: int) -> bool:
    """Whether this machine has a process of this number; True where signal 0 does not tell, as on Windows."""
    try:
        if os.name == "posix":
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True
