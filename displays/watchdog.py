"""Says where a run stands that has stopped moving."""

import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from displays.base import Sink
from util.progress import Position

TICK = 1.0  # seconds; time in which the whole process was halted counts as one tick


class Watchdog(Sink):
    """Prints a line when no step was finished for --watchdog seconds, once for each time it freezes."""

    def __init__(self, o: Any, folder: Path):
        self.limit, self.idle, self.at = o.watchdog, 0.0, Position()
        self.main = threading.main_thread().ident
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self, at: Position) -> None:
        self.at = at
        self.thread.start()

    def progress(self, at: Position) -> None:
        self.idle = 0.0

    def _watch(self) -> None:
        while not self.ended.wait(TICK):
            self.idle += TICK
            if self.limit <= self.idle < self.limit + TICK:
                frame = sys._current_frames().get(self.main or 0)
                where = " < ".join(_places(frame)[:4])
                after = f"step {self.at.step} of epoch {self.at.epoch}"
                print(f"note: nothing has moved for {self.limit:g} s after {after}; it stands in {where}",
                      file=sys.stderr, flush=True)  # fmt: skip

    def close(self) -> None:
        self.ended.set()


def _places(frame: FrameType | None) -> list[str]:
    """Return FILE:LINE FUNCTION of each call, innermost first."""
    stack = traceback.extract_stack(frame) if frame else []
    return [f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in reversed(stack)]
