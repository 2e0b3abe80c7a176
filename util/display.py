"""Who is shown losses and pictures while a run trains; nobody here can stop, fail or slow it."""

import json
import math
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from util.blame import place
from util.errors import EnvironmentFault, printable
from util.files import replace_text
from util.html import Row, write_page
from util.metrics import finite
from util.pixels import save_image
from util.position import Position
from util.registry import Table, find

DISPLAYS = Table("display", {  # called as (o, folder); see Sink
    "console": "util.display:Console",
    "html": "util.display:Html",
    "visdom": "util.visdom_client:VisdomDisplay",
})  # fmt: skip

Pictures = dict[str, np.ndarray]  # name: (H, W, 3) or (H, W, 1) uint8


class Sink:
    """One way of showing a run; subclasses override what they need.

    loss_freq, image_freq: how many images apart it wants losses and pictures; 0 never.
    """

    loss_freq = image_freq = 0

    def start(self, at: Position) -> None:
        """Begin, at this position."""

    def progress(self, at: Position) -> None:
        """After every step."""

    def losses(self, at: Position, values: dict[str, float]) -> None:
        """When loss_freq is due."""

    def images(self, at: Position, pictures: Pictures) -> None:
        """When image_freq is due, and at the last batch of an epoch."""

    def sheets(self, at: Position, pictures: Pictures) -> None:
        """At the end of an epoch, what the model generates from the same noise every time."""

    def epoch(self, at: Position, means: dict[str, float], seconds: float, lr: float) -> None:
        """At the end of an epoch, with the mean of each loss over it."""

    def say(self, text: str) -> bool:
        """Show a line of text; return whether this was done."""
        return False

    def close(self) -> None:
        """End; must return within 2 seconds."""


class Display:
    """All sinks of a run. A sink that raises is named once and left out from then on."""

    def __init__(self, sinks: list[Sink]):
        self.sinks = sinks

    def add(self, name: str, make: Callable[[], Sink]) -> None:
        """Make one more sink; if that fails, say so and go on without it."""
        try:
            self.sinks.append(make())
        except Exception as problem:  # whatever fails in showing must not fail the run
            self._off(name, problem)

    def start(self, at: Position) -> None:
        self._each("start", at)

    def step(self, at: Position, losses: dict[str, Any], pictures: Callable[[], Pictures]) -> None:
        """Show one step where it is due; losses may be tensors, pictures are made only if somebody wants them."""
        self._each("progress", at)
        wanting = [s for s in self.sinks if s.loss_freq and at.due(s.loss_freq)]
        if wanting:
            values = {name: float(value) for name, value in losses.items()}
            self._each("losses", at, values, among=wanting)
        wanting = [s for s in self.sinks if s.image_freq and (at.due(s.image_freq) or at.epoch_done)]
        if wanting:
            try:
                shown = pictures()
            except Exception as problem:  # a plug-in's show(): the run goes on without pictures
                for sink in wanting:
                    sink.image_freq = 0
                self.say(f"note: no pictures are shown from here on ({_what(problem)})")
                return
            self._each("images", at, shown, among=wanting)

    def epoch(self, at: Position, means: dict[str, float], seconds: float, lr: float) -> None:
        self._each("epoch", at, means, seconds, lr)

    def sheets(self, at: Position, pictures: Pictures) -> None:
        """Show generated sheets, if there are any."""
        if pictures:
            self._each("sheets", at, pictures)

    def say(self, text: str) -> None:
        """Show a line on whichever sink prints, else plainly."""
        for sink in self.sinks:
            try:
                if sink.say(text):
                    return
            except Exception:  # a sink that cannot even say a line: the next one, or print, does
                continue
        print(text, flush=True)

    def close(self) -> None:
        self._each("close")

    def _each(self, method: str, *args: Any, among: list[Sink] | None = None) -> None:
        for sink in list(self.sinks if among is None else among):
            try:
                getattr(sink, method)(*args)
            except Exception as problem:  # likewise
                if isinstance(sink, Log):
                    raise  # it is the truth, not a display
                self.sinks.remove(sink)
                self._off(type(sink).__name__.lower(), problem)

    def _off(self, name: str, problem: Exception) -> None:
        self.say(f"note: display {name} is off from here on ({_what(problem)})")


def _what(problem: Exception) -> str:
    """Return an error in one line, with the plug-in's line it comes from."""
    where = place(problem)
    return printable(f"{type(problem).__name__}: {problem}" + (f" at {where}" if where else ""))


class Log(Sink):
    """loss_log.txt in v24's format and losses.jsonl; the lasting record, always on."""

    def __init__(self, o: Any, folder: Path):
        self.loss_freq = o.print_freq
        self.text_path, self.json_path = folder / "loss_log.txt", folder / "losses.jsonl"
        self.text: TextIO | None = None
        self.json: TextIO | None = None

    def start(self, at: Position) -> None:
        self._forget_after(at)
        self.text = open(self.text_path, "a", encoding="utf-8", buffering=1)
        self.json = open(self.json_path, "a", encoding="utf-8", buffering=1)
        self._append(self.text, f"================ Training Loss ({time.strftime('%c')}) ================")

    def _append(self, file: TextIO | None, line: str) -> None:
        assert file is not None
        try:
            file.write(line + "\n")
        except OSError as problem:  # Python leaves the name out
            remedy = "free space on that disk or choose another --checkpoints_dir"
            raise EnvironmentFault("file", file.name, problem.strerror or "cannot be written", remedy) from problem

    def _forget_after(self, at: Position) -> None:
        """Drop rows of steps that a resumed run will do again."""
        if not self.json_path.is_file():
            return
        rows = self.json_path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if _is_before(row, at)]
        if len(kept) < len(rows):
            replace_text(self.json_path, "".join(row + "\n" for row in kept))
        lines = self.text_path.read_text(encoding="utf-8").splitlines() if self.text_path.is_file() else []
        past = [line for line in lines if not _is_after(line, at)]
        if len(past) < len(lines):
            replace_text(self.text_path, "".join(line + "\n" for line in past))

    def losses(self, at: Position, values: dict[str, float]) -> None:
        self._append(self.text, v24_line(at, values))
        row = {"epoch": at.epoch, "iters": at.seen, "step": at.step, "samples": at.samples, "at": round(at.at, 6),
               "time": round(at.seconds, 6), "data": round(at.data_seconds, 6), "losses": finite(values)}  # fmt: skip
        self._append(self.json, json.dumps(row))

    def epoch(self, at: Position, means: dict[str, float], seconds: float, lr: float) -> None:
        row = {"epoch": at.epoch, "step": at.step, "samples": at.samples, "seconds": round(seconds, 3), "lr": lr,
               "mean": finite(means)}  # fmt: skip
        self._append(self.json, json.dumps(row))

    def close(self) -> None:
        for file in (self.text, self.json):
            if file is not None:
                file.close()


def v24_line(at: Position, values: dict[str, float]) -> str:
    """Return a line of losses as v24 of the reference writes it."""
    head = f"(epoch: {at.epoch}, iters: {at.seen}, time: {at.seconds:.3f}, data: {at.data_seconds:.3f}) "
    return head + "".join(f"{name}: {value:.3f} " for name, value in values.items())


def _is_before(row: str, at: Position) -> bool:
    """Whether a row of losses.jsonl lies before a position; a row cut short by a kill does not."""
    try:
        event = json.loads(row)
        return (event["epoch"], event.get("iters", math.inf)) <= (at.epoch, at.seen)
    except (ValueError, KeyError, TypeError):
        return False


def _is_after(line: str, at: Position) -> bool:
    match = re.match(r"\(epoch: (\d+), iters: (\d+),", line)
    return match is not None and (int(match[1]), int(match[2])) > (at.epoch, at.seen)


class Console(Sink):
    """A progress bar with ETA and images/s on a terminal; v24's lines elsewhere."""

    def __init__(self, o: Any, folder: Path):
        self.loss_freq = o.print_freq
        self.bar: tqdm | None = None
        self.with_bar = sys.stderr.isatty() and not o.no_progress

    def progress(self, at: Position) -> None:
        if not self.with_bar:
            return
        if self.bar is None:
            self.bar = tqdm(total=at.epoch_size, initial=at.seen - at.batch, unit="img", dynamic_ncols=True,
                            desc=f"epoch {at.epoch}/{at.last_epoch}")  # fmt: skip
        self.bar.update(at.batch)

    def losses(self, at: Position, values: dict[str, float]) -> None:
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        else:
            print(v24_line(at, values), flush=True)

    def epoch(self, at: Position, means: dict[str, float], seconds: float, lr: float) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        left = (at.last_epoch - at.epoch) * seconds
        head = f"End of epoch {at.epoch} / {at.last_epoch} \t Time Taken: {seconds:.0f} sec"
        rate = at.epoch_size / max(seconds, 1e-9)
        print(f"{head}, {rate:.1f} images/s, {_clock(left)} to go, learning rate {lr:.7f}")
        print("  mean " + " ".join(f"{name}: {value:.3f}" for name, value in means.items()), flush=True)

    def say(self, text: str) -> bool:
        if self.bar is not None:
            tqdm.write(text)
        else:
            print(text, flush=True)
        return True

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Html(Sink):
    """web/index.html: the newest pictures of every epoch, the last epoch on top."""

    def __init__(self, o: Any, folder: Path):
        self.image_freq = o.update_html_freq
        self.width, self.name = o.display_winsize, o.name
        self.page, self.pictures = folder / "web" / "index.html", folder / "web" / "images"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self.kept = folder / "web" / "labels.json"
        self.labels: list[str] = []  # as the model shows them
        self.sheet_labels: list[str] = []

    def start(self, at: Position) -> None:
        if at.step:  # a continued run goes on with the rows of its page
            self.labels, self.sheet_labels = _labels(self.kept)

    def images(self, at: Position, pictures: Pictures) -> None:
        self._add(at.epoch, pictures, self.labels)

    def sheets(self, at: Position, pictures: Pictures) -> None:
        self._add(at.epoch, pictures, self.sheet_labels)

    def _add(self, newest: int, pictures: Pictures, known: list[str]) -> None:
        if new := [label for label in pictures if label not in known]:
            known += new
            replace_text(self.kept, json.dumps([self.labels, self.sheet_labels]) + "\n")
        for label, array in pictures.items():
            save_image(array, self.pictures / f"epoch{newest:03d}_{label}.png")
        rows: list[Row] = []
        for epoch in range(newest, 0, -1):
            for labels, own_width in ((self.labels, False), (self.sheet_labels, True)):
                files = [(label, f"epoch{epoch:03d}_{label}.png") for label in labels]
                files = [(label, file) for label, file in files if (self.pictures / file).is_file()]
                if files:
                    rows.append(Row(f"epoch [{epoch}]", files, [], own_width))
        write_page(self.page, f"Experiment name = {self.name}", rows, self.width, refresh=10)


def _labels(path: Path) -> tuple[list[str], list[str]]:
    """Return the labels of pictures and of sheets that a page of the run has had; none where nobody wrote them down."""
    try:
        pictures, sheets = json.loads(path.read_text(encoding="utf-8"))
        return [str(label) for label in pictures], [str(label) for label in sheets]
    except (OSError, ValueError, TypeError):  # an earlier version's run, or a file spoilt: they come with the pictures
        return [], []


def make_display(o: Any, folder: Path) -> Display:
    """Return the log and every sink of --displays, without those that --no_html and --display_id 0 turn off."""
    off = ({"html"} if o.no_html else set()) | ({"visdom"} if o.display_id <= 0 else set())
    if o.use_wandb:
        print("note: --use_wandb is accepted, but Weights & Biases is not built in (docs/migration.md)")
    display = Display([Log(o, folder)])
    for name in o.displays:
        if name not in off:
            display.add(name, partial(find("display", name), o, folder))
    if o.watchdog:
        from util.watchdog import Watchdog  # it is a Sink itself

        display.add("watchdog", partial(Watchdog, o, folder))
    return display
