"""Where the time of an epoch goes: waiting for data, computing, showing, saving."""

import time

SECTIONS = ("data", "compute", "display", "save")


class Timer:
    """Divides the time since it was made, or since the last `reset`, among SECTIONS without gaps, in seconds."""

    def __init__(self) -> None:
        self.last_lap = time.monotonic()
        self.seconds = dict.fromkeys(SECTIONS, 0.0)

    def lap(self, section: str) -> float:
        """Count the time since the last lap as one part's, and return it."""
        now = time.monotonic()
        lap, self.last_lap = now - self.last_lap, now
        self.seconds[section] += lap
        return lap

    def reset(self) -> dict[str, float]:
        """Return the seconds of each part, and start again at 0."""
        seconds, self.seconds = self.seconds, dict.fromkeys(SECTIONS, 0.0)
        return seconds
