"""Pseudo-terminals, and the console display of a training on one."""

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
from types import SimpleNamespace

from displays import console as module
from displays.console import Console
from util.progress import Progress

TQDM = module.tqdm
OPTIONS = SimpleNamespace(print_freq=1, num_threads=0, no_progress=False, gpu_ids="-1")
SPENT = {"data": 6.2, "compute": 3.0, "display": 0.5, "save": 0.3}  # seconds of an epoch


class Terminal:
    """A pseudo-terminal in place of stderr; after `close`, `text` is what was written to it."""

    def __init__(self, columns=150):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.stderr = os.fdopen(slave, "w")
        self.pieces = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        try:
            while piece := os.read(self.master, 65536):
                self.pieces.append(piece)
        except OSError:  # the other side is closed
            pass

    def close(self):
        self.stderr.close()
        self.thread.join()
        os.close(self.master)
        self.text = b"".join(self.pieces).decode()
        return self.text


class Screen(Terminal):
    """A pseudo-terminal; `close` returns what was written to it."""

    def __init__(self, columns=80):
        super().__init__(columns)

    def train(self, sink, losses, epochs=2, size=30, batch=1):
        """Call a display like the training loop does, for some epochs."""
        at = Progress(epoch_size=size, last_epoch=epochs)
        sink.start(at)
        for epoch in range(1, epochs + 1):
            at.epoch, at.seen = epoch, 0
            while not at.epoch_done:
                at.advance(batch, 0.03, 0.01)
                sink.progress(at)
                sink.losses(at, losses)
            sink.epoch(at, losses, SPENT, 2e-4)
        sink.close()


def console(monkeypatch, screen, request):
    """Return a Console on a screen; stdout is the same terminal."""
    monkeypatch.setattr(sys, "stderr", screen.stderr)
    monkeypatch.setattr(sys, "stdout", screen.stderr)
    monkeypatch.setattr(module, "tqdm", lambda *a, **k: TQDM(*a, **k, mininterval=0))
    module.tqdm.write, module.tqdm.format_meter = TQDM.write, TQDM.format_meter
    return Console(OPTIONS, None)
