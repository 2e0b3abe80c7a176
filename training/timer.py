"""Measure where the time of an epoch goes: waiting for data, computing, displaying, saving."""

import time

SECTIONS = ("data", "compute", "display", "save")


class Timer:
    """Divides the time since its creation or the last `reset` among SECTIONS, in seconds, without gaps."""

    def __init__(self) -> None:
        self.last_lap = time.monotonic()
        self.seconds = dict.fromkeys(SECTIONS, 0.0)

    def lap(self, section: str) -> float:
        """Add the time since the last lap to a section; return it in seconds."""
        now = time.monotonic()
        lap, self.last_lap = now - self.last_lap, now
        self.seconds[section] += lap
        return lap

    def reset(self) -> dict[str, float]:
        """Return the seconds of each section, and start again at 0."""
        seconds, self.seconds = self.seconds, dict.fromkeys(SECTIONS, 0.0)
        return seconds
