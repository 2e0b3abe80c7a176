"""Handle Ctrl-C and termination signals: finish the step, save, then end; a second Ctrl-C ends at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from util.errors import Stopped

BATCH_TIMEOUT_S = 5.0  # seconds that a stopping run still waits for a batch


class _NoBatch(BaseException):
    """Raised while waiting for a batch; a BaseException, so that no `except Exception` catches it."""


class StopRequest:
    """Records a signal that asks the run to end; the training loop checks `signal` after each step."""

    def __init__(self) -> None:
        self.signal = _early_signal
        self.waiting = False
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            # a SIGHUP that nohup or the shell ignores stays ignored
            if hasattr(signal, name) and (name != "SIGHUP" or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN):
                signal.signal(getattr(signal, name), self._on_signal)
        self.has_alarm = hasattr(signal, "setitimer")  # Windows has no such timer: there the run waits for its batch
        if self.has_alarm:
            signal.signal(signal.SIGALRM, self._on_alarm)

    def until_requested(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches, after a signal one more, if it arrives within BATCH_TIMEOUT_S seconds (a disk may be dead).

        A signal that arrives while the caller uses a batch ends the batches.
        """
        each = iter(batches)
        with contextlib.suppress(_NoBatch):
            while True:
                self.waiting = True
                try:
                    if self.signal:
                        self._set_alarm()
                    batch = next(each, None)
                except RuntimeError:  # the same signal may have killed a starting worker
                    if not self.signal:
                        raise
                    return
                finally:
                    self.waiting = False
                if batch is None:
                    return
                yield batch
                if self.signal:
                    return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        if hasattr(signal, "SIGCHLD"):  # torch's handler would raise for a worker killed by this signal
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self.waiting:
            self._set_alarm()
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # the reader may be gone: tee gets the same Ctrl-C
                if sys.stdout is not None:  # print is not safe in a handler
                    os.write(1, b"\nstopping after this step, then saving (Ctrl-C again: stop at once)\n")

    def _set_alarm(self) -> None:
        if self.has_alarm:
            signal.setitimer(signal.ITIMER_REAL, BATCH_TIMEOUT_S)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self.waiting:
            raise _NoBatch


_early_signal = 0  # the signal that arrived before a StopRequest existed


def raise_on_signals() -> None:
    """Make signals raise Stopped or KeyboardInterrupt until a StopRequest takes over."""
    global _early_signal
    _early_signal = 0
    usual = (signal.SIG_DFL, signal.default_int_handler)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) in usual:
            signal.signal(getattr(signal, name), _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    global _early_signal
    _early_signal = number  # the exception may be swallowed by a plug-in, or by C code that looks up an attribute
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(number, f"stopped by {signal.Signals(number).name}; earlier saves are unchanged")
