"""Ctrl-C and the like: finish the step, save, then end; a second Ctrl-C ends at once."""

import os
import signal
from types import FrameType


class StopRequest:
    """Remembers a signal that asks the run to end; the loop looks at `number` after each step."""

    def __init__(self) -> None:
        self.number = 0
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            # what nohup and shells set to be ignored stays ignored, but for Ctrl-C
            if hasattr(signal, name) and (name != "SIGHUP" or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN):
                signal.signal(getattr(signal, name), self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        if number == signal.SIGINT:
            # print is not safe in a handler
            os.write(1, b"\nstopping after this step, then saving (Ctrl-C again: stop at once)\n")
