"""Handle Ctrl-C and termination signals: finish the step, save, then end; a second Ctrl-C ends at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from registry import loaded
from util.errors import Stopped

BATCH_TIMEOUT_S = 5.0  # seconds that a stopping run still waits for a batch
ALARM_REPEAT_S = 1.0  # a single alarm is lost if it arrives just before a system call that blocks
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_Handler = Callable[[int, FrameType | None], object] | int | None


class _NoBatch(BaseException):
    """Raised while waiting for a batch; a BaseException, so that no `except Exception` catches it."""


class StopRequest:
    """Records a signal that asks the run to end; the training loop checks `signal` after each step.

    Several processes agree on `signal` in each step, so that all end after the same one.

    `with StopRequest() as stop` puts the process's own signal handlers and its timer back at the end. It records none
    if not `listens`, and outside the main thread, where Python delivers no signals. answer: what Ctrl-C prints.
    """

    def __init__(self, listens: bool = True, answer: str = "stopping after this step, then saving") -> None:
        self.listens, self.answer = listens, answer
        self.noted = 0  # the signal that this process got
        self.waiting = False
        self._former: dict[int, _Handler] = {}
        self._former_timer: tuple[float, float] | None = None

    @property
    def signal(self) -> int:
        """The signal that asks the run to end; 0 for none."""
        several = sys.modules.get(f"{loaded.PREFIX}util.ranks")  # it needs torch
        return several.agree("stop", self.noted) if several else self.noted

    def __enter__(self) -> "StopRequest":
        if self.listens and is_main_thread():
            self.noted = _early_signal
            for number in _stop_signals():
                # a SIGHUP that nohup or the shell ignores stays ignored
                if signal.Signals(number).name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                    self._install(number, self._on_signal)
        return self

    def __exit__(self, *problem: object) -> None:
        if self._former_timer is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # before its handler is replaced by one that ends the process
        # In a command the handlers answer until it has reported its end; run_command puts its caller's back.
        _restore({number: handler for number, handler in self._former.items() if handler is not _raise})
        if self._former_timer is not None:
            signal.setitimer(signal.ITIMER_REAL, *self._former_timer)

    def _install(self, number: int, handler: _Handler) -> None:
        self._former.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

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
        if number == signal.SIGINT and self.noted == signal.SIGINT:
            raise KeyboardInterrupt
        self.noted = number
        if hasattr(signal, "SIGCHLD"):  # torch's handler would raise for a worker killed by this signal
            self._install(signal.SIGCHLD, signal.SIG_DFL)
        if self.waiting and self.signal:
            self._set_alarm()
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # the reader may be gone: tee gets the same Ctrl-C
                if sys.stdout is not None:  # print is not safe in a handler
                    os.write(1, f"\n{self.answer} (Ctrl-C again: stop at once)\n".encode())

    def _set_alarm(self) -> None:
        if hasattr(signal, "setitimer"):  # Windows has no such timer: there the run waits for its batch
            self._install(signal.SIGALRM, self._on_alarm)
            timer = signal.setitimer(signal.ITIMER_REAL, BATCH_TIMEOUT_S, ALARM_REPEAT_S)
            self._former_timer = self._former_timer or timer

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self.waiting:
            raise _NoBatch
        signal.setitimer(signal.ITIMER_REAL, 0)


_early_signal = 0  # the signal that arrived before a StopRequest existed


@contextlib.contextmanager
def kept_handlers() -> Iterator[None]:
    """Put the handlers of the signals that stop a run back at the end of the block."""
    former = {number: signal.getsignal(number) for number in _stop_signals()} if is_main_thread() else {}
    try:
        yield
    finally:
        _restore(former)


@contextlib.contextmanager
def quiet_finalizers() -> Iterator[None]:
    """In the block, print nothing for a signal that arrives while an object is deleted, where Python ignores errors.

    StopRequest answers it, because `_raise` remembers it.
    """
    former = sys.unraisablehook

    def hook(ignored: Any) -> None:
        if not isinstance(ignored.exc_value, Stopped | KeyboardInterrupt):
            former(ignored)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = former


def raise_on_signals() -> None:
    """Make signals raise Stopped or KeyboardInterrupt until a StopRequest takes over; outside the main thread, nothing.

    Handlers that a caller from Python has installed stay.
    """
    global _early_signal
    if not is_main_thread():
        return
    _early_signal = 0
    for number in _stop_signals():
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _raise)


def is_main_thread() -> bool:
    """Whether this is the thread that may install signal handlers and in which they run."""
    return threading.current_thread() is threading.main_thread()


def _stop_signals() -> list[int]:
    """Return the numbers of the signals that stop a run and that this system has."""
    return [getattr(signal, name) for name in _STOP_SIGNALS if hasattr(signal, name)]


def _restore(handlers: dict[int, _Handler]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # None: not installed by Python, which therefore cannot install it again
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    global _early_signal
    _early_signal = number  # the exception may be swallowed by a plug-in, or by C code that looks up an attribute
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(number, f"stopped by {signal.Signals(number).name}", is_whole=False)
