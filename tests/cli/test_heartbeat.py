"""Heartbeats tell a process that makes progress from one that hangs, is stopped or is gone."""

import json
import os
import platform
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from cli.heartbeat import Heartbeats
from util import ranks


@pytest.fixture(scope="module")
def ended_pid():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(("silent", "waits", "idle", "machine", "is_alive", "words"), [
    (0, False, 1, None, True, ""),
    (4, False, 1, None, True, ""),  # its machine is busy
    (4, True, 1, None, False, "rank '1': of 2 is gone"),
    (4, True, 1, "another", False, ""),  # whose processes cannot be looked up
    (601, True, 1, "another", False, "rank '1': of 2 shows no sign of life"),
    (601, True, 1, None, True, "rank '1': of 2 shows no sign of life"),
    (0, False, 601, None, True, "rank '1': of 2 hangs"),
    (0, True, 601, None, True, ""),  # for process 0, which makes progress
])  # fmt: skip
def test_processes_are_judged(ended_pid, silent, waits, idle, machine, is_alive, words):
    beats, now = Heartbeats(None, 0, 2, print), time.monotonic()
    own = platform.node(), os.getpid()
    beats.seen[0] = json.dumps([1, False, 0.0, *own]), now
    other = machine or platform.node(), os.getpid() if is_alive else ended_pid
    beats.seen[1] = json.dumps([1, waits, float(idle), *other]), now - silent
    found = beats._judge()
    assert (found is None) == (not words)
    if found:
        assert found[0] == 5 and words in found[1]


def test_processes_that_wait_for_each_other_are_reported():
    beats = Heartbeats(None, 0, 2, print)
    text = json.dumps([1, True, 601.0, platform.node(), os.getpid()])
    beats.seen = {rank: (text, time.monotonic()) for rank in range(2)}
    assert "wait for each other" in beats._judge()[1]


@pytest.mark.parametrize(("beats", "shown"), [(0, 10), (1, 10), (2, 60)])
def test_the_first_step_may_take_six_times_as_long(monkeypatch, beats, shown):
    """It imports and compiles; a process shows a sixth of the time that it has taken until its end."""
    pulse = ranks.Pulse()
    for _ in range(beats):
        pulse.beat()
    pulse.last -= 60
    monkeypatch.setattr(ranks, "pulse", pulse)
    written: list = []
    store = SimpleNamespace(set=lambda key, text: written.append(json.loads(text)))
    Heartbeats(store, 1, 2, print)._show(7)
    (number, waits, idle, *_) = written[0]
    assert (number, waits) == (7, False) and idle == pytest.approx(shown, abs=1)
