"""Measure where the time of an epoch goes: waiting for data, computing, displaying, saving."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SECTIONS = ("data", "compute", "display", "save")  # and "metrics", where something is measured


class Timer:
    """Adds up the seconds spent in each of SECTIONS: `with timer("compute"): ...`."""

    def __init__(self) -> None:
        self.last = dict.fromkeys(SECTIONS, 0.0)  # seconds of the latest block of each section
        self.seconds = dict.fromkeys(SECTIONS, 0.0)

    @contextmanager
    def __call__(self, section: str) -> Iterator[None]:
        """Add the time that the block takes to a section."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.last[section] = time.monotonic() - start
            self.seconds[section] = self.seconds.get(section, 0.0) + self.last[section]

    def waiting(self, section: str, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items, adding the time spent waiting for each one to a section."""
        each, end = iter(items), object()
        while True:
            with self(section):
                item = next(each, end)
            if item is end:
                return
            yield item

    def take(self) -> dict[str, float]:
        """Return the seconds of each section, and start again at 0."""
        seconds, self.seconds = self.seconds, dict.fromkeys(SECTIONS, 0.0)
        return seconds
