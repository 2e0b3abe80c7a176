"""Report where a run hangs if no step finishes for a while (--watchdog)."""

import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from displays.base import Sink
from util.errors import print_line
from util.progress import Progress

TICK_S = 1.0  # seconds; a suspension of the whole process counts as one tick


class Watchdog(Sink):
    """Prints a line when no step has finished for --watchdog seconds, once for each hang."""

    def __init__(self, o: Any, folder: Path):
        self.limit, self.idle, self.run_progress = o.watchdog, 0.0, Progress()
        self.trainer = threading.get_ident()  # the thread that trains
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self, progress: Progress) -> None:
        self.run_progress = progress
        self.thread.start()

    def progress(self, progress: Progress) -> None:
        self.idle = 0.0

    def _watch(self) -> None:
        while not self.ended.wait(TICK_S):
            self.idle += TICK_S
            if self.limit <= self.idle < self.limit + TICK_S:
                frame = sys._current_frames().get(self.trainer)
                location = " < ".join(_call_lines(frame)[:4])
                after = f"step {self.run_progress.step} of epoch {self.run_progress.epoch}"
                note = f"note: no step has finished for {self.limit:g} s after {after}; it hangs in {location}"
                print_line(note, is_error=True)

    def close(self) -> None:
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join(TICK_S)


def _call_lines(frame: FrameType | None) -> list[str]:
    """Return `FILE:LINE FUNCTION` for each call, innermost first."""
    stack = traceback.extract_stack(frame) if frame else []
    return [f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in reversed(stack)]
