"""Where the time of an epoch goes: waiting for data, computing, showing, saving."""

import time

PARTS = ("data", "compute", "display", "save")


class Stopwatch:
    """Divides the time since it was made, or since the last `take`, among PARTS without gaps, in seconds."""

    def __init__(self) -> None:
        self.mark = time.monotonic()
        self.spent = dict.fromkeys(PARTS, 0.0)

    def lap(self, part: str) -> float:
        """Count the time since the last lap as one part's, and return it."""
        now = time.monotonic()
        lap, self.mark = now - self.mark, now
        self.spent[part] += lap
        return lap

    def take(self) -> dict[str, float]:
        """Return the seconds of each part, and start again at 0."""
        spent, self.spent = self.spent, dict.fromkeys(PARTS, 0.0)
        return spent
