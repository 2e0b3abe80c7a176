"""The timer adds up the time of each section, and what the caller does between the items is not counted."""

import contextlib

import pytest

from training import timer as timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when told: clock(seconds)."""
    now = [100.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_seconds_of_a_section_add_up_and_start_again(clock):
    timer = timing.Timer()
    for seconds in (1.0, 2.0):
        with timer("compute"):
            clock(seconds)
        clock(10)
    assert timer.last["compute"] == 2.0
    assert timer.take() == {"data": 0.0, "compute": 3.0, "display": 0.0, "save": 0.0}
    assert set(timer.seconds.values()) == {0.0}


def test_a_block_that_raises_is_counted(clock):
    timer = timing.Timer()
    with contextlib.suppress(OSError), timer("save"):
        clock(3)
        raise OSError
    assert timer.seconds["save"] == 3.0


def test_waiting_counts_the_items_and_not_their_use(clock):
    def slow():
        for item in "ab":
            clock(2)
            yield item
        clock(1)

    timer, found = timing.Timer(), []
    for item in timer.waiting("data", slow()):
        found.append((item, timer.last["data"]))
        clock(50)
    assert found == [("a", 2.0), ("b", 2.0)]
    assert timer.seconds["data"] == 5.0  # the end of the items, too
