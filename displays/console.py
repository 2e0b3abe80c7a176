"""Print losses and progress as a progress bar on a terminal, or as plain lines."""

import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from displays.base import Sink
from displays.bottleneck import bottleneck_text, time_shares_text
from displays.loss_log import v24_line
from displays.pace import Pace, duration_text
from metrics.history import Report
from util.device import select_device
from util.errors import count_text, has_terminal, print_line, printable
from util.progress import Progress

DATA_SHARE_MIN_COLUMNS = 100  # minimum width at which the bar also shows the share of time spent waiting for data
LONG_RUN_S = 86_400.0  # a forecast above this also says what shortens the run
MIN_FORECAST_S = 60.0  # a shorter run has no forecast
SILENCE_S = 60.0  # without a bar, a line is printed if none was for so long


class Console(Sink):
    """A progress bar with ETA and images/s on a terminal; lines in v24's format elsewhere.

    It uses no colours, so NO_COLOR needs no handling; without a terminal it prints no control characters.
    """

    def __init__(self, o: Any, folder: Path):
        self.loss_freq, self.threads = o.print_freq, o.num_threads
        self.on_cpu = select_device(o.gpu_ids).type == "cpu"
        self.bar: tqdm | None = None
        self.has_bar = has_terminal() and not o.no_progress
        self.values: list[str] = []
        self.data_seconds = self.compute_seconds = 0.0  # in this epoch
        self.pace, self.has_forecast = Pace(), False
        self.last_line_time = time.monotonic()

    def progress(self, progress: Progress) -> None:
        self.data_seconds += progress.data_seconds
        self.compute_seconds += progress.seconds * progress.batch
        self.pace.step(progress)
        if self.pace.known and not self.has_forecast:
            self.has_forecast = True
            self._print_forecast(self.pace.seconds_left(progress))
        if not self.has_bar:
            self._break_silence(progress)
            return
        if self.bar is None:
            self.bar = tqdm(
                total=progress.epoch_size,
                initial=progress.seen - progress.batch,
                unit="img",
                dynamic_ncols=True,
                desc=f"epoch {progress.epoch}/{progress.last_epoch}",
            )
        self.bar.set_postfix_str(self._postfix(self.bar), refresh=False)
        self.bar.update(progress.batch)

    def _print_forecast(self, seconds: float) -> None:
        flags = "a smaller --load_size and --crop_size, --ngf, --n_epochs or --max_dataset_size shortens it"
        remedy = "; " + "a GPU, or " * self.on_cpu + flags
        if seconds > MIN_FORECAST_S:
            self.say(f"about {duration_text(seconds)} to go" + remedy * (seconds > LONG_RUN_S))

    def _break_silence(self, progress: Progress) -> None:
        if time.monotonic() - self.last_line_time > SILENCE_S and self.pace.rate:
            images = count_text(progress.epoch_size, "image")
            place = f"epoch {progress.epoch} / {progress.last_epoch}, {progress.seen} of {images}"
            left = duration_text(self.pace.seconds_left(progress))
            self.say(f"{place}, {self.pace.rate:.2g} images/s, {left} to go")

    def _postfix(self, bar: tqdm) -> str:
        """Return the text beside the bar: share of data time, losses; it leaves the bar at least ten columns."""
        state = bar.format_dict
        columns = state["ncols"] or 80
        share = self.data_seconds / max(self.data_seconds + self.compute_seconds, 1e-9)
        words = [f"data {share:.0%}"] if columns >= DATA_SHARE_MIN_COLUMNS else []
        bar_columns = len(tqdm.format_meter(**{**state, "ncols": None, "postfix": ""}))
        return join_fitting([*words, *self.values], columns - bar_columns - 4)

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        if self.bar is None:
            self.say(v24_line(progress, values))
            return
        self.values = [f"{printable(name)}={value:.3f}" for name, value in values.items()]
        self.bar.set_postfix_str(self._postfix(self.bar), refresh=False)

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        self._end_bar()
        seconds = sum(spent.values())
        head = f"End of epoch {progress.epoch} / {progress.last_epoch} \t Time Taken: {seconds:.0f} sec"
        rate = self.pace.epoch_images / max(seconds, 1e-9)
        self.pace.epoch(seconds)
        self.has_forecast = True  # this line tells it
        left = _clock_text(self.pace.seconds_left(progress))
        means_text = " ".join(f"{printable(name)}: {v:.3f}" for name, v in means.items())
        self.say(
            f"{head}, {rate:.1f} images/s, {left} to go, learning rate {lr:.7f}\n"
            f"  time {time_shares_text(spent)}{bottleneck_text(spent, self.threads)}\n  mean {means_text}"
        )
        self.data_seconds = self.compute_seconds = 0.0

    def metrics(self, progress: Progress, report: Report) -> None:
        self.say(f"  {metrics_text(report)}")

    def say(self, text: str) -> bool:
        print_line(*text.splitlines())  # in one piece, because other threads write too
        self.last_line_time = time.monotonic()
        return True

    def close(self) -> None:
        self._end_bar()

    def _end_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar, self.values = None, []


def join_fitting(words: list[str], columns: int) -> str:
    """Return as many words as fit into `columns`, separated by commas; two dots replace the rest."""
    shown = ", ".join(words)
    while words and len(shown) > columns:
        words = words[:-1]
        shown = ", ".join([*words, ".."])
    return shown if words else ""


def metrics_text(report: Report) -> str:
    """Return an evaluation in one line: each value with its standard error, and the best one if it is another."""
    parts = []
    for name, (value, error, _) in report.row.values.items():
        spread = "" if error is None else f" ± {error:.2g}"
        epoch, best = report.best.get(name, (0, value))
        mark = f" (best {best:.4g} of epoch {epoch})" if epoch else ""
        parts.append(f"{name} {value:.4g}{spread}{' (best)' if epoch == report.row.epoch else mark}")
    return printable(f"metrics {', '.join(parts)}; {report.about}, {report.seconds:.1f} sec")


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
