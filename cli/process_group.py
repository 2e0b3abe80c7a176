"""Join the other processes that torchrun has started, and end all of them together if one fails."""

import datetime
import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from cli.heartbeat import Heartbeats, gone
from util import ranks
from util.errors import EnvironmentFault, first_line

JOIN_TIMEOUT_S = 600.0  # for processes that start later, on other machines
REPORT_TIMEOUT_S = 10.0  # that a failed process waits for process 0 to report it
TOLD_TIMEOUT_S = 3.0  # that process 0 waits until the others know, because it may hold the store
FAILURE, REPORTED, TOLD, STARTED = "failure", "reported", "told", "started"
Outcome = tuple[int, str, str]  # exit code, the line on stderr, traceback


class ProcessGroup:
    """The processes of one command. `report` writes an outcome; it is called in one process only.

    Each process tells the others by heartbeats that its main thread makes progress. If one fails, hangs or is gone, the
    first to notice writes that to the store that all share, process 0 reports it, and all end.
    """

    def __init__(self, report: Callable[[int, str, str], None]):
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.report, self.reporting, self.has_failed = report, threading.Lock(), False
        base = _base_store(self.rank, self.size)
        self.restarted = self.rank == 0 and base.check([STARTED])
        self.store = distributed.PrefixStore(_meet(base, self.rank, self.size), base)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        timeout = datetime.timedelta(days=7)  # the heartbeats decide
        group_store = distributed.PrefixStore("group", self.store)
        try:
            distributed.init_process_group(
                backend, store=group_store, rank=self.rank, world_size=self.size, timeout=timeout
            )
        except RuntimeError as problem:  # of gloo: an interface that is not there, or one that others cannot reach
            why = f"of {self.size} cannot connect to the others ({first_line(problem).rpartition('] ')[2]})"
            remedy = "name a network interface of this machine in GLOO_SOCKET_IFNAME"
            raise EnvironmentFault("rank", self.rank, why, remedy) from problem
        ranks.pulse.is_ours = True
        if self.rank == 0:
            base.set(STARTED, "1")
        self.restarted = self.store_flag("restarted", self.restarted)
        self.beats = Heartbeats(self.store.clone(), self.rank, self.size, self._others_failed)
        self.beats.start()

    def store_flag(self, name: str, value: bool) -> bool:
        """Return in all processes the flag of process 0."""
        if self.rank == 0:
            self.store.set(name, str(int(value)))
        return self.store.get(name) == b"1"

    def outcome(self, code: int, line: str, trace: str) -> Outcome:
        """Return what this process reports at its end: an empty line if another one does."""
        stopped = code > 128 and not ranks.pulse.lost  # by a signal, after a step that all have agreed on
        if code == 0 or stopped:
            if stopped and self.rank:  # the launcher ends all soon after the first one
                self.beats.wait_for_first()
            self.beats.leave()
            return code, line if self.rank == 0 else "", trace
        failed = self._failure()
        if failed is None and ranks.pulse.lost:  # a collective failed, because another process is gone
            failed = self.beats.wait_for_failure()
            if failed is None:
                failed = self._publish(*gone(self.beats.silent_ranks(), self.size), trace)
        elif failed is None:
            same = code == 2 and not ranks.pulse.has_begun  # wrong options are wrong in all
            where = "" if same or "(rank " in line else f" (rank {self.rank} of {self.size})"
            why, mark, remedy = line.rpartition("; ")
            failed = self._publish(code, f"{why}{where}{mark}{remedy}", trace)
        return self._report(*failed)

    def _others_failed(self, code: int, line: str, trace: str) -> None:
        """End this process, in the thread of the heartbeats, because another one has failed or is gone."""
        code, line, trace = self._report(*self._publish(code, line, trace))
        if line:
            self.report(code, line, trace)
            self.end(line)
        os._exit(code)

    def _failure(self) -> Outcome | None:
        try:
            return tuple(json.loads(self.store.get(FAILURE))) if self.store.check([FAILURE]) else None  # type: ignore
        except RuntimeError:  # the process that holds the store is gone
            return None

    def _publish(self, code: int, line: str, trace: str) -> Outcome:
        """Write the failure for all to read; return it, or the one that came first. The line ends the traceback."""
        trace = f"{trace.rstrip()}\n{line}\n".lstrip()
        mine = json.dumps([code, line, trace])
        try:
            return tuple(json.loads(self.store.compare_set(FAILURE, "", mine)))  # type: ignore[return-value]
        except RuntimeError:
            return code, line, trace

    def _report(self, code: int, line: str, trace: str) -> Outcome:
        """Return the outcome if this process is the one to report it, else without its line, once it is reported."""
        self.has_failed = True
        if not self.reporting.acquire(blocking=False):  # the other thread of this process does
            time.sleep(REPORT_TIMEOUT_S)
            return code, "", ""
        if self.rank == 0:
            return code, line, trace
        end = time.monotonic() + REPORT_TIMEOUT_S * (1 if self.rank == 1 else 2)
        try:
            while time.monotonic() < end and not self.store.check([REPORTED]):
                time.sleep(0.1)
            if self.store.check([REPORTED]):
                self.store.add(TOLD, 1)
                return code, "", ""
            return code, line, trace
        except RuntimeError:
            return code, line if self.rank == 1 else "", trace

    def end(self, line: str) -> None:
        """Tell the others that this process has reported the failure, and wait until they know, so that they end."""
        if not line or not self.has_failed:
            return
        end = time.monotonic() + TOLD_TIMEOUT_S
        try:
            self.store.set(REPORTED, "1")
            while time.monotonic() < end and self.store.add(TOLD, 0) < self.size - 1:
                time.sleep(0.05)
        except RuntimeError:  # the process that holds the store is gone
            return


def mark_start() -> bool:
    """Note in the launcher's store that one process has started; return whether an earlier start has noted it."""
    store = _base_store(0, 1)
    found = store.check([STARTED])
    store.set(STARTED, "1")
    return found


def _base_store(rank: int, size: int) -> Any:
    """Return the launcher's store, or without one that of process 0; raise EnvironmentFault."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    timeout = datetime.timedelta(seconds=JOIN_TIMEOUT_S)
    try:
        store = distributed.TCPStore(
            address, port, None, is_master=rank == 0 and not served, timeout=timeout, wait_for_workers=False
        )
        return distributed.PrefixStore("ganvas", store)
    except (RuntimeError, OSError) as problem:  # both kinds of torch's errors
        why = "is taken" if "EADDRINUSE" in str(problem) or "in use" in str(problem) else "cannot be reached"
        remedy = "give torchrun another --master_port, or --standalone on one machine"
        raise EnvironmentFault("port", f"{address}:{port}", why, remedy) from problem


def _meet(base: Any, rank: int, size: int) -> str:
    """Return a name that the processes of this start alone share: an earlier start may have left its keys in the store.

    Each shows a number drawn at random, and process 0 answers to each number with its own.
    """
    own = uuid.uuid4().hex
    if rank:
        base.set(f"here/{rank}", own)
        try:
            first = base.get(f"welcome/{own}").decode()
        except RuntimeError as problem:
            why = f"of {size} did not start within {JOIN_TIMEOUT_S:.0f} s"
            raise EnvironmentFault("rank", 0, why, "look at the launcher's output on its machine") from problem
        base.add(f"met/{first}", 1)
        return first
    answered, end = dict[int, bytes](), time.monotonic() + JOIN_TIMEOUT_S
    while time.monotonic() < end:
        for other in range(1, size):
            if base.check([f"here/{other}"]) and (number := base.get(f"here/{other}")) != answered.get(other):
                answered[other] = number
                base.set(f"welcome/{number.decode()}", own)
        if base.check([f"met/{own}"]) and base.add(f"met/{own}", 0) == size - 1:
            return own
        time.sleep(0.02)
    missing = ", ".join(str(r) for r in range(1, size) if r not in answered) or "1"
    why = f"of {size} did not start within {JOIN_TIMEOUT_S:.0f} s"
    raise EnvironmentFault("rank", missing, why, "look at the launcher's output on its machine")
