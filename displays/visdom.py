"""Send live plots to a visdom server from a background thread that cannot delay or fail the run.

It talks HTTP to the server directly (POST /events, the same in visdom 0.2.4 and 0.3.0), because visdom's own client
has no timeout and prints a traceback per call if there is no server. Every message holds a whole window, so the newest
one replaces older ones that still wait, and a restarted server shows everything after the next message. No socket is
opened through which the server could send commands, and only the window's name is read from its responses.
"""

import html
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from displays.base import Pictures, Sink
from displays.loss_log import EPOCH_AXIS, Curves, metric_rows, step_rows
from displays.visdom_sender import Sender
from displays.visdom_server import LocalServer, is_local, port_of, server_address
from util.errors import print_line, printable
from util.image_io import make_grid, png_base64
from util.progress import Progress

if TYPE_CHECKING:  # it needs torch
    from metrics.history import Report

MAX_ENVIRONMENT_CHARS = 100  # maximum length of an environment's name, because visdom uses it as a file name
PLOT_MARGINS, METRIC_HEIGHT = 120, 180  # pixels of a window of metrics
FORMULA_LOOKALIKES = {ord("$"): "\uff04", ord("\\"): "\uff3c"}  # replacements for characters that start a formula


class VisdomDisplay(Sink):
    """Shows the reference's windows: losses in display_id, images in display_id + 1, their labels in display_id + 2.

    With --display_ncols 0 every image has a separate window, from display_id + 1 on. Metrics have one window, called
    DISPLAY_ID_metrics.
    """

    early_losses = True

    def __init__(self, o: Any, folder: Path):
        self.loss_freq, self.image_freq = o.print_freq, o.display_freq
        self.id, self.ncols, self.name, self.width = o.display_id, o.display_ncols, o.name, o.display_winsize
        self.history = folder / "losses.jsonl"
        self.curves, self.metric_curves = Curves(), Curves()
        address = server_address(o.display_server, o.display_port, "display_port" in getattr(o, "given", ()))
        port = port_of(address, o.display_port)
        self.is_remote = not (o.display_allow_remote or is_local(address))
        server = LocalServer(address, port, folder / "visdom.log") if o.start_visdom else None
        self.sender = Sender(address, environment_name(o.display_env), port, server)

    def start(self, progress: Progress) -> None:
        """Read the earlier curves of the run from its log, and start sending."""
        if self.is_remote:
            host = printable(urlsplit(self.sender.address).hostname)
            what = f"images and losses of this run leave this machine for the visdom server on {host}"
            how = "--display_allow_remote turns this warning off, --display_id 0 turns visdom off"
            print_line(f"warning: {what}; {how}")
        self.curves = Curves(step_rows(self.history))
        rows = [(row["epoch"], row["metrics"]) for row in metric_rows(self.history)]
        self.metric_curves = Curves((epoch, {name: each[0] for name, each in found.items()}) for epoch, found in rows)
        self.sender.start()

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        self.curves.add(progress.at, values)
        x, lines = self.curves.points()
        self.sender.send(str(self.id), lambda: plot_window(f"{self.name} loss over time", x, lines))

    def metrics(self, progress: Progress, report: "Report") -> None:
        self.metric_curves.add(report.row.epoch, {name: result.value for name, result in report.row.values.items()})
        x, lines = self.metric_curves.points()
        self.sender.send(f"{self.id}_metrics", lambda: metric_window(f"{self.name} metrics", x, lines))

    def images(self, progress: Progress, pictures: Pictures) -> None:
        if not pictures:  # images with a number of channels that cannot be shown
            return
        if self.ncols <= 0:
            for number, (label, array) in enumerate(pictures.items(), 1):
                self.sender.send(str(self.id + number), partial(image_window, label, array, self.width))
            return
        arrays = list(pictures.values())
        width = self.width * min(self.ncols, len(arrays))
        sheet = f"{self.name} images"
        self.sender.send(str(self.id + 1), lambda: image_window(sheet, make_grid(arrays, self.ncols), width))
        self.sender.send(str(self.id + 2), lambda: table_window(f"{self.name} labels", list(pictures), self.ncols))

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        for number, (label, array) in enumerate(pictures.items(), 100):
            width = max(self.width, min(array.shape[1], 4 * self.width))
            title = f"{self.name} {label}, epoch {progress.epoch}"
            self.sender.send(str(self.id + number), partial(image_window, title, array, width))

    def close(self) -> None:
        self.sender.close()


def environment_name(name: str) -> str:
    """Return an environment name that is safe in a file name and a URL."""
    return re.sub(r"[^A-Za-z0-9._-]|^[.]+", "_", name)[:MAX_ENVIRONMENT_CHARS] or "main"


def plot_window(title: str, x: list[float], lines: dict[str, list[float | None]]) -> dict[str, Any]:
    """Return the window of loss curves over epochs; names are escaped, because plotly would interpret tags in them."""
    axes = {"xaxis": {"title": EPOCH_AXIS}, "yaxis": {"title": "loss"}, "margin": {"l": 60, "r": 60, "t": 60, "b": 60}}
    line = {"type": "scatter", "mode": "lines"}
    data = [{**line, "name": escape_text(name), "x": x, "y": y} for name, y in lines.items()]
    return {"data": data, "layout": {"title": escape_text(title), "showlegend": True, **axes}, "opts": {"title": title}}


def metric_window(title: str, x: list[float], lines: dict[str, list[float | None]]) -> dict[str, Any]:
    """Return the window of metrics over whole epochs, one below the other, because their values differ in size."""
    content = plot_window(title, x, lines)
    content["layout"] |= {"xaxis": {"title": "epoch", "anchor": "free", "position": 0}, "showlegend": False}
    for number, (trace, name) in enumerate(zip(content["data"], lines, strict=True)):
        axis, top = str(number + 1) if number else "", 1 - number / len(lines)
        trace |= {"yaxis": f"y{axis}", "mode": "lines+markers"}
        content["layout"][f"yaxis{axis}"] = {"title": escape_text(name), "domain": [top - 0.85 / len(lines), top]}
    content["opts"]["height"] = PLOT_MARGINS + METRIC_HEIGHT * len(lines)
    return content


def escape_text(text: str) -> str:
    """Escape a text for HTML: tags, entities and formulas (MathJax follows links in them) are shown literally."""
    return html.escape(text, quote=False).translate(FORMULA_LOOKALIKES)


def image_window(title: str, array: np.ndarray, width: int) -> dict[str, Any]:
    """Return the window of an image, (H, W, 1) or (H, W, 3) uint8, shown `width` pixels wide."""
    source = "data:image/png;base64," + png_base64(array)
    opts = {"title": title, "width": width, "height": round(width * array.shape[0] / array.shape[1])}
    return {"data": [{"type": "image", "content": {"src": source}}], "opts": opts}


def table_window(title: str, labels: list[str], ncols: int) -> dict[str, Any]:
    """Return the window with a table of the labels of the image grid."""
    rows = [labels[i : i + ncols] for i in range(0, len(labels), ncols)]
    cells = "".join("<tr>" + "".join(f"<td>{escape_text(label)}</td>" for label in row) + "</tr>" for row in rows)
    content = f'<table style="border-collapse: separate; border-spacing: 12px 6px">{cells}</table>'
    return {"data": [{"type": "text", "content": content}], "opts": {"title": title}}
