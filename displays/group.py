"""Run all displays of a run as one; a display that fails is switched off, and the run goes on."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from displays.base import Pictures, Sink
from displays.loss_log import LossLog
from displays.watchdog import Watchdog
from metrics.history import Report
from options.unused_flags import requested_displays
from registry.attribution import plugin_line
from registry.lookup import find
from util import ranks
from util.errors import print_line, printable
from util.progress import Progress

CLOSE_TIMEOUT_S = 2.0  # seconds that the end of a run waits for all displays together


class Display:
    """All sinks of a run. A sink that raises is reported once and removed."""

    def __init__(self, sinks: list[Sink]):
        self.sinks = sinks

    def add(self, name: str, make: Callable[[], Sink]) -> None:
        """Create a sink and add it; if that fails, print a note and go on without it."""
        try:
            sink = make()
        except (Exception, SystemExit) as problem:  # a failing display must not stop the run
            self._report_failure(name, problem)
        else:
            sink.called = name
            self.sinks.append(sink)

    def start(self, progress: Progress, sheet: np.ndarray | None = None) -> None:
        """Start all sinks. sheet: grid of images as the networks will see them."""
        self._call(self.sinks, "start", progress)
        if sheet is not None:
            self._call(self.sinks, "data", progress, sheet)

    def step(self, progress: Progress, losses: dict[str, Any], pictures: Callable[..., Pictures], *args: Any) -> None:
        """Show one step on the sinks that are due. Losses may be tensors; pictures(*args) is called only if needed."""
        self._call(self.sinks, "progress", progress)
        due_sinks = [s for s in self.sinks if s.loss_freq and (progress.due(s.loss_freq) or _early_due(s, progress))]
        if due_sinks:
            self._call(due_sinks, "losses", progress, {name: float(value) for name, value in losses.items()})
        due_sinks = [s for s in self.sinks if s.image_freq and (progress.due(s.image_freq) or progress.epoch_done)]
        if due_sinks:
            try:
                shown = pictures(*args)
            except (Exception, SystemExit) as problem:  # a plug-in's show() failed: the run goes on without images
                for sink in due_sinks:
                    sink.image_freq = 0
                self.say(f"note: no images are shown from here on ({error_text(problem)})")
            else:
                self._call(due_sinks, "images", progress, shown)

    def epoch(
        self,
        progress: Progress,
        means: dict[str, float],
        spent: dict[str, float],
        lr: float,
        measured: Report | None = None,
    ) -> None:
        """Show the end of an epoch, and its metrics if they were measured."""
        self._call(self.sinks, "epoch", progress, means, spent, lr)
        if measured:
            self._call(self.sinks, "metrics", progress, measured)

    def preview(self, progress: Progress, preview: Any) -> bool:
        """Show generated sheets and fixed samples if they are due; return whether there were sheets."""
        try:
            sheets, samples = preview.sheets(progress), preview.samples(progress)
        except (Exception, SystemExit) as problem:  # a plug-in's error: the run goes on without samples
            preview.disable()
            self.say(f"note: no samples are shown from here on ({error_text(problem)})")
            return False
        if sheets:
            self._call(self.sinks, "sheets", progress, sheets)
        if samples:
            self._call(self.sinks, "samples", progress, samples)
        return bool(sheets)

    def say(self, text: str) -> None:
        """Show a line on the first sink that can, else print it; unprintable characters are escaped."""
        text = printable(text)
        for sink in self.sinks:
            try:
                if sink.say(text):
                    return
            except Exception:  # try the next sink, or print
                continue
        print_line(text)

    def close(self) -> None:
        """Close all sinks in parallel, so that their waiting times do not add up."""
        others = [sink for sink in self.sinks if not sink.vital]
        ends = [threading.Thread(target=self._call, args=([sink], "close"), daemon=True) for sink in others]
        for end in ends:
            end.start()
        self._call([sink for sink in self.sinks if sink.vital], "close")
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        for end in ends:
            end.join(max(0.0, deadline - time.monotonic()))

    def _call(self, sinks: list[Sink], method: str, *args: Any) -> None:
        for sink in list(sinks):
            try:
                getattr(sink, method)(*args)
            except (Exception, SystemExit) as problem:  # a failing display must not stop the run
                if sink.vital:
                    raise
                if sink not in self.sinks:  # it was removed for an error, and closing it failed too
                    continue
                self.sinks.remove(sink)
                self._report_failure(sink.called or type(sink).__name__.lower(), problem)
                if method != "close":
                    self._call([sink], "close")  # it may own a thread, a process or a file

    def _report_failure(self, name: str, problem: BaseException) -> None:
        self.say(f"note: display {name} is off from here on ({error_text(problem)})")


def _early_due(sink: Sink, progress: Progress) -> bool:
    """Whether the last batch passed a power of two images, before a sink's first loss_freq."""
    before = progress.samples - progress.batch
    return (
        sink.early_losses and progress.samples < sink.loss_freq and progress.samples.bit_length() > before.bit_length()
    )


def any_display_overrides(o: Any, method: str) -> bool:
    """Whether any requested display overrides this method of Sink."""
    displays = [find("display", name) for name in requested_displays(o)]
    return any(getattr(display, method, None) is not getattr(Sink, method) for display in displays)


def error_text(problem: BaseException) -> str:
    """Return an error in one line, with the line of the plug-in that raised it."""
    location = plugin_line(problem)
    return printable(f"{type(problem).__name__}: {problem}" + (f" at {location}" if location else ""))


def make_display(o: Any, folder: Path) -> Display:
    """Return a Display of the loss log, the requested displays and the watchdog."""
    if ranks.rank():  # process 0 alone shows
        return Display([])
    display = Display([LossLog(o, folder)])
    for name in requested_displays(o):
        display.add(name, partial(find("display", name), o, folder))
    if o.watchdog:
        display.add("watchdog", partial(Watchdog, o, folder))
    return display
