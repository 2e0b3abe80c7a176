"""Live plots on a visdom server, sent by a thread that may wait, fail or hang without the run noticing.

It speaks HTTP to the server itself (POST /events, alike in visdom 0.2.4 and 0.3.0): visdom's own client has no
time-out and prints a traceback per call without a server. Every message holds a whole window, so the newest replaces
older ones that still wait, and a server that comes back shows everything at the next message.
"""

import base64
import html
import io
import json
import math
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from util.display import Pictures, Sink
from util.pixels import grid
from util.position import Position

TIMEOUT = 3.0  # seconds for one answer
RETRY = 10.0  # seconds of rest after a failure
MAX_POINTS = 500  # of a line; every other one is dropped beyond twice that
MAX_ANSWER = 4096  # bytes read of an answer


class VisdomDisplay(Sink):
    """Windows as the reference's: losses in display_id, pictures in display_id + 1, their labels in display_id + 2.

    With --display_ncols 0 every picture has a window of its own, from display_id + 1 on.
    """

    def __init__(self, o: Any, folder: Path):
        self.loss_freq, self.image_freq = o.print_freq, o.display_freq
        self.id, self.ncols, self.name = o.display_id, o.display_ncols, o.name
        self.width = o.display_winsize
        self.history = folder / "losses.jsonl"
        self.x: list[float] = []
        self.lines: dict[str, list[float | None]] = {}
        address = f"{o.display_server.rstrip('/')}:{o.display_port}"
        self.sender = Sender(address, re.sub(r"[^A-Za-z0-9._-]", "_", o.display_env) or "main", o.display_port)

    def start(self, at: Position) -> None:
        """Take over the curves of the run so far from its log."""
        for row in self.history.read_text(encoding="utf-8").splitlines() if self.history.is_file() else ():
            event = json.loads(row)
            if "losses" in event:
                self._add(event["at"], event["losses"])
        self.sender.start()

    def losses(self, at: Position, values: dict[str, float]) -> None:
        self._add(at.at, values)
        x, lines = list(self.x), {name: list(line) for name, line in self.lines.items()}
        self.sender.send(str(self.id), lambda: plot(f"{self.name} loss over time", x, lines))

    def _add(self, x: float, values: dict[str, float]) -> None:
        for name in values.keys() - self.lines.keys():
            self.lines[name] = [None] * len(self.x)
        self.x.append(x)
        for name, line in self.lines.items():
            value = values.get(name)
            line.append(value if value is not None and math.isfinite(value) else None)  # null is a gap
        if len(self.x) > 2 * MAX_POINTS:
            del self.x[1::2]
            for line in self.lines.values():
                del line[1::2]

    def images(self, at: Position, pictures: Pictures) -> None:
        if self.ncols <= 0:
            for number, (label, array) in enumerate(pictures.items(), 1):
                self.sender.send(str(self.id + number), partial(picture, label, array, self.width))
            return
        arrays = list(pictures.values())
        width = self.width * min(self.ncols, len(arrays))
        self.sender.send(str(self.id + 1), lambda: picture(f"{self.name} images", grid(arrays, self.ncols), width))
        self.sender.send(str(self.id + 2), lambda: table(f"{self.name} labels", list(pictures), self.ncols))

    def sheets(self, at: Position, pictures: Pictures) -> None:
        for number, (label, array) in enumerate(pictures.items(), 100):
            width = max(self.width, min(array.shape[1], 4 * self.width))
            self.sender.send(
                str(self.id + number), partial(picture, f"{self.name} {label}, epoch {at.epoch}", array, width)
            )

    def close(self) -> None:
        self.sender.close()


class Sender:
    """A thread that posts the newest content of each window; holds at most one message per window."""

    def __init__(self, address: str, env: str, port: int):
        self.address, self.env, self.port = address, env, port
        self.waiting: dict[str, Callable[[], dict[str, Any]]] = {}
        self.changed = threading.Condition()
        self.ending = False
        self.reached: bool | None = None  # None: not tried yet
        self.thread = threading.Thread(target=self._run, name="visdom", daemon=True)
        no_proxy, no_redirect = urllib.request.ProxyHandler({}), _NoRedirect()
        self.opener = urllib.request.build_opener(no_proxy, no_redirect)

    def start(self) -> None:
        self.thread.start()

    def send(self, window: str, make: Callable[[], dict[str, Any]]) -> None:
        """Queue a window's content, to be made in the thread; returns at once."""
        with self.changed:
            self.waiting[window] = make
            self.changed.notify()

    def close(self) -> None:
        """Send what waits if the server answers; give up after 2 seconds."""
        with self.changed:
            self.ending = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join(2.0)

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.ending)
                if not self.waiting:
                    return
                window = next(iter(self.waiting))
                make = self.waiting.pop(window)
            try:
                data = self._body(window, make())
            except Exception as problem:  # one window's fault must not end the others
                print(f"live plots: window {window} cannot be made ({type(problem).__name__}: {problem})", flush=True)
                continue
            worked = self._post(window, data)
            if worked != self.reached:
                self._tell(worked)
            self.reached = worked
            if not worked:
                with self.changed:
                    self.waiting.setdefault(window, make)
                    if self.changed.wait_for(lambda: self.ending, RETRY):
                        return

    def _body(self, window: str, content: dict[str, Any]) -> bytes:
        # 0.3.0 redraws an open page only for a version it has not seen
        body = {"eid": self.env, "win": window, "version": time.time_ns() // 1_000_000, **content}
        return json.dumps(body, allow_nan=False).encode()

    def _post(self, window: str, data: bytes) -> bool:
        try:
            request = urllib.request.Request(self.address + "/events", data, {"Content-Type": "application/json"})
            with self.opener.open(request, timeout=TIMEOUT) as answer:
                return answer.read(MAX_ANSWER).decode("utf-8", "replace") == window
        except (OSError, HTTPException, ValueError):  # refused, timed out, not HTTP, an address that is none
            return False

    def _tell(self, worked: bool) -> None:
        if worked:
            print(f"live plots: {self.address}/env/{self.env}", flush=True)
        else:
            again = "lost" if self.reached else "off"
            start = f"visdom -port {self.port} -bind_local"
            print(f"live plots {again}: no visdom server at {self.address}; start one with: {start}", flush=True)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None  # a server that sends us elsewhere is not the one the user named


def plot(title: str, x: list[float], lines: dict[str, list[float | None]]) -> dict[str, Any]:
    """Return the window of loss curves over epochs."""
    axes = {"xaxis": {"title": "epoch"}, "yaxis": {"title": "loss"}, "margin": {"l": 60, "r": 60, "t": 60, "b": 60}}
    data = [{"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y} for name, y in lines.items()]
    return {"data": data, "layout": {"title": title, "showlegend": True, **axes}, "opts": {"title": title}}


def picture(title: str, array: np.ndarray, width: int) -> dict[str, Any]:
    """Return the window of a picture (H, W, 1 or 3) uint8, shown `width` pixels wide."""
    file = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(file, "PNG")
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    height = round(width * array.shape[0] / array.shape[1])
    opts = {"title": title, "width": width, "height": height}
    return {"data": [{"type": "image", "content": {"src": source}}], "opts": opts}


def table(title: str, labels: list[str], ncols: int) -> dict[str, Any]:
    """Return the window that names the pictures of the grid, place by place."""
    rows = [labels[i : i + ncols] for i in range(0, len(labels), ncols)]
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(label)}</td>" for label in row) + "</tr>" for row in rows)
    return {"data": [{"type": "text", "content": f"<table>{cells}</table>"}], "opts": {"title": title}}
