"""Losses and progress on the terminal, or as plain lines."""

import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from displays.base import Sink
from displays.loss_log import v24_line
from util.errors import printable
from util.progress import Position

WIDE = 100  # columns from which the bar also tells how much of the time is waiting for data
CLEAR = {"data": 0.4, "display": 0.3, "save": 0.3}  # shares of an epoch above which a part holds up the others
SECONDS = 5.0  # shorter epochs tell nothing


class Console(Sink):
    """A progress bar with ETA and images/s on a terminal; v24's lines elsewhere.

    Nothing is coloured, so NO_COLOR has nothing to turn off; without a terminal there are no control characters.
    """

    def __init__(self, o: Any, folder: Path):
        self.loss_freq, self.threads = o.print_freq, o.num_threads
        self.bar: tqdm | None = None
        self.with_bar = sys.stderr.isatty() and not o.no_progress
        self.values: list[str] = []
        self.done = self.all_done = 0  # in this epoch, and in this command's epochs before
        self.all_seconds = 0.0
        self.waited = self.worked = 0.0  # of this epoch

    def progress(self, at: Position) -> None:
        self.done += at.batch
        self.waited, self.worked = self.waited + at.data_seconds, self.worked + at.seconds * at.batch
        if not self.with_bar:
            return
        if self.bar is None:
            self.bar = tqdm(total=at.epoch_size, initial=at.seen - at.batch, unit="img", dynamic_ncols=True,
                            desc=f"epoch {at.epoch}/{at.last_epoch}")  # fmt: skip
        self.bar.set_postfix_str(self._beside(self.bar), refresh=False)
        self.bar.update(at.batch)

    def _beside(self, bar: tqdm) -> str:
        """Return what stands beside a bar, which keeps at least ten columns: where the time goes, and losses."""
        state = bar.format_dict
        columns = state["ncols"] or 80
        share = self.waited / max(self.waited + self.worked, 1e-9)
        words = [f"data {share:.0%}"] if columns >= WIDE else []
        taken = len(tqdm.format_meter(**{**state, "ncols": None, "postfix": ""}))
        return fitting([*words, *self.values], columns - taken - 4)

    def losses(self, at: Position, values: dict[str, float]) -> None:
        if self.bar is None:
            print(v24_line(at, values), flush=True)
            return
        self.values = [f"{printable(name)}={value:.3f}" for name, value in values.items()]
        self.bar.set_postfix_str(self._beside(self.bar), refresh=False)

    def epoch(self, at: Position, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        self._end_bar()
        seconds = sum(spent.values())
        self.all_seconds, self.all_done = self.all_seconds + seconds, self.all_done + self.done
        left = (at.last_epoch - at.epoch) * at.epoch_size * self.all_seconds / max(1, self.all_done)
        head = f"End of epoch {at.epoch} / {at.last_epoch} \t Time Taken: {seconds:.0f} sec"
        rate = self.done / max(seconds, 1e-9)
        print(f"{head}, {rate:.1f} images/s, {_clock(left)} to go, learning rate {lr:.7f}")
        print(f"  time {shares(spent)}{bottleneck(spent, self.threads)}")
        print("  mean " + " ".join(f"{printable(name)}: {v:.3f}" for name, v in means.items()), flush=True)
        self.done, self.waited, self.worked = 0, 0.0, 0.0

    def say(self, text: str) -> bool:
        if self.bar is not None:
            tqdm.write(text)
        else:
            print(text, flush=True)
        return True

    def close(self) -> None:
        self._end_bar()

    def _end_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar, self.values = None, []


def fitting(words: list[str], room: int) -> str:
    """Return as many words as fit into `room` columns, with commas between; two dots stand for the others."""
    shown = ", ".join(words)
    while words and len(shown) > room:
        words = words[:-1]
        shown = ", ".join([*words, ".."])
    return shown if words else ""


def shares(spent: dict[str, float]) -> str:
    """Return how the seconds of an epoch divide: `data 62 %, compute 30 %, ...`."""
    whole = sum(spent.values()) or 1.0
    return ", ".join(f"{part} {seconds / whole:.0%}".replace("%", " %") for part, seconds in spent.items())


def bottleneck(spent: dict[str, float], threads: int) -> str:
    """Return `; PART holds it up: ADVICE` where something else than computing clearly does, else nothing."""
    whole = sum(spent.values())
    part = max(spent, key=lambda name: spent[name], default="")
    if whole < SECONDS or part not in CLEAR or spent[part] < CLEAR[part] * whole:
        return ""
    more = threads < (os.cpu_count() or 1)
    advice = {
        "data": f"raise --num_threads (now {threads})" if more else "keep smaller pictures, on a faster disk",
        "display": "raise --update_html_freq, or lower --fixed_samples",
        "save": "raise --save_latest_freq and --save_epoch_freq",
    }[part]
    return f"; {part} holds it up: {advice}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
