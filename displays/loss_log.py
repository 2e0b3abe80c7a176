"""Write a run's losses to loss_log.txt (v24's format) and losses.jsonl, and read them back, as curves too."""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from displays.base import Sink
from metrics import finite, finite_or_none
from util.atomic_write import replace_text
from util.errors import DataError, EnvironmentFault, printable
from util.progress import Progress

if TYPE_CHECKING:  # it needs torch, and curves are read without
    from metrics.history import Report

ENCODING_ERRORS = "surrogateescape"  # keeps bytes that are not UTF-8 unchanged
MAX_POINTS = 1000  # maximum number of points per line
EPOCH_AXIS = "epoch (1.5: half of the first is done)"  # the title of an axis of Progress.at; also in curves.js
Points = tuple[list[float], list[float]]  # x: epochs (steps of the first: 1 to 2); y: NaN where it was not finite


class LossLog(Sink):
    """Writes loss_log.txt in v24's format and losses.jsonl; always on, because resuming and curves need them."""

    vital = True
    early_losses = True  # in losses.jsonl, from which a resumed page draws its curves

    def __init__(self, o: Any, folder: Path):
        self.loss_freq = o.print_freq
        self.text_path, self.json_path = folder / "loss_log.txt", folder / "losses.jsonl"
        self.files: dict[Path, TextIO] = {}  # both, once open

    def start(self, progress: Progress) -> None:
        if self.json_path.is_file():  # remove the rows of steps that a resumed run will repeat
            _filter_lines(self.json_path, lambda row: _is_before(row, progress))
            _filter_lines(self.text_path, lambda line: not _is_after(line, progress))
        for path in (self.text_path, self.json_path):
            self.files[path] = open(path, "a", encoding="utf-8", buffering=1)
        self._append(self.text_path, f"================ Training Loss ({time.strftime('%c')}) ================")

    def _append(self, path: Path, line: str) -> None:
        try:
            self.files[path].write(line + "\n")
        except OSError as problem:  # Python's message lacks the file name
            remedy = "free space on that disk or choose another --checkpoints_dir"
            raise EnvironmentFault("file", path, problem.strerror or "cannot be written", remedy) from problem

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        if progress.due(self.loss_freq):
            self._append(self.text_path, v24_line(progress, values))
        row = {"epoch": progress.epoch, "iters": progress.seen, "step": progress.step, "samples": progress.samples,
               "at": round(progress.at, 6), "time": round(progress.seconds, 6),
               "data": round(progress.data_seconds, 6), "losses": finite_or_none(values)}  # fmt: skip
        self._append(self.json_path, json.dumps(row))

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        row = {"epoch": progress.epoch, "step": progress.step, "samples": progress.samples,
               "seconds": round(sum(spent.values()), 3), "spent": {part: round(s, 3) for part, s in spent.items()},
               "lr": lr, "mean": finite_or_none(means)}  # fmt: skip
        self._append(self.json_path, json.dumps(row))

    def metrics(self, progress: Progress, report: "Report") -> None:
        self._append(self.json_path, json.dumps(metric_row(progress, report)))

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def metric_row(progress: Progress, report: "Report") -> dict[str, Any]:
    """Return the row of an evaluation: the value, standard error or None, and number of images of each metric."""
    metrics = {name: [finite(value), finite(error), n] for name, (value, error, n) in report.row.values.items()}
    best = {name: [epoch, finite(value)] for name, (epoch, value) in report.best.items()}
    return {"epoch": progress.epoch, "step": progress.step, "samples": progress.samples, "metrics": metrics,
            "better": report.better, "best": best, "training": finite_or_none(report.training),
            "copies": report.copies, "measured": report.about, "seconds": round(report.seconds, 3)}  # fmt: skip


def v24_line(progress: Progress, values: dict[str, float]) -> str:
    """Return a line of losses in the format of the reference's v24."""
    times = f"time: {progress.seconds:.3f}, data: {progress.data_seconds:.3f}"
    head = f"(epoch: {progress.epoch}, iters: {progress.seen}, {times}) "
    return head + "".join(f"{printable(name)}: {value:.3f} " for name, value in values.items())


def _filter_lines(path: Path, is_kept: Callable[[str], bool]) -> None:
    """Remove the other lines from a file, if it exists."""
    lines = path.read_text(encoding="utf-8", errors=ENCODING_ERRORS).splitlines() if path.is_file() else []
    kept = [line for line in lines if is_kept(line)]
    if len(kept) < len(lines):
        replace_text(path, "".join(line + "\n" for line in kept), ENCODING_ERRORS)


def _is_before(row: str, progress: Progress) -> bool:
    """Whether a row of losses.jsonl is from before a position; False for a row cut short by a kill."""
    try:
        event = json.loads(row)
        return (event["epoch"], event.get("iters", math.inf)) <= (progress.epoch, progress.seen)
    except (ValueError, KeyError, TypeError):
        return False


def _is_after(line: str, progress: Progress) -> bool:
    match = re.match(r"\(epoch: (\d+), iters: (\d+),", line)
    return match is not None and (int(match[1]), int(match[2])) > (progress.epoch, progress.seen)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a losses.jsonl: of logged steps ("losses"), whole epochs ("mean"), evaluations ("metrics").

    Yield nothing if the file does not exist; skip a line that was cut short by a kill.
    """
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event


def step_rows(path: Path) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (epoch as a fraction, losses) of the logged steps in a losses.jsonl; skip rows of another format."""
    for row in read_rows(path):
        if isinstance(row.get("losses"), dict) and isinstance(row.get("at"), int | float):
            yield row["at"], row["losses"]


def epoch_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a losses.jsonl for whole epochs: {"epoch", "step", "lr", "mean", ...}."""
    for row in read_rows(path):
        if isinstance(row.get("mean"), dict) and isinstance(row.get("epoch"), int | float):
            yield row


def metric_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a losses.jsonl for evaluations, as metric_row returns them."""
    for row in read_rows(path):
        if isinstance(row.get("metrics"), dict) and isinstance(row.get("epoch"), int | float):
            yield row


@dataclass
class Losses:
    """A run's losses by name: logged steps, means of whole epochs, and notes about irregularities in the file.

    metrics: the values of --metrics at whole epochs.
    """

    steps: dict[str, Points] = field(default_factory=dict)
    means: dict[str, Points] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, Points] = field(default_factory=dict)

    def add(self, kind: str, x: float, values: Mapping[str, float | None]) -> None:
        """Add one row of "steps", "means" or "metrics"."""
        curves: dict[str, Points] = {"steps": self.steps, "means": self.means, "metrics": self.metrics}[kind]
        numbers = {name: value for name, value in values.items() if value is None or isinstance(value, int | float)}
        for name, value in numbers.items():
            xs, ys = curves.setdefault(name, ([], []))
            xs.append(x)
            ys.append(math.nan if value is None else float(value))


def read_losses(path: Path) -> Losses:
    """Read the losses of a losses.jsonl, or of a loss_log.txt of this or another program (v24's or v25's format).

    Skip lines that are incomplete or of another format. Raise DataError if the file has no losses.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            ours = file.read(1) == "{"
            file.seek(0)
            curves = _read_json(path) if ours else _parse_text(file)
    except OSError as problem:
        raise DataError("file", path, problem.strerror or str(problem), "give a run that has a log") from problem
    if not curves.steps and not curves.means:
        raise DataError("file", path, "holds no losses", "give a run's losses.jsonl, or a loss_log.txt")
    return curves


def _read_json(path: Path) -> Losses:
    curves = Losses()
    for x, values in step_rows(path):
        curves.add("steps", float(x), values)
    for row in epoch_rows(path):
        curves.add("means", float(row["epoch"]), row["mean"])
    for row in metric_rows(path):
        values = {name: value[0] for name, value in row["metrics"].items() if isinstance(value, list) and value}
        curves.add("metrics", float(row["epoch"]), values)
    return curves


MAX_LINE_CHARS = 20_000  # longer lines are not parsed
_HEAD = re.compile(r"(?:\[Rank (\d+)\] )?\(epoch: (\d+),(?: total_iters: \d+,)? iters: (\d+),[^()]*\)")
_VALUE = re.compile(r"([^\s:,]+): ([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))(?=[\s,])", re.IGNORECASE)


def _parse_text(file: Any) -> Losses:
    """Merge the sessions of a log: repeated steps replace the old rows from there on; restarted epochs count on."""
    curves, before = Losses(), 0
    lines: list[tuple[int, int, dict[str, float]]] = []  # epoch, iters, losses
    ranks: set[str | None] = set()
    for number, line in enumerate(file, 1):
        heads = list(_HEAD.finditer(line)) if len(line) < MAX_LINE_CHARS else []
        values = {name: float(value) for name, value in _VALUE.findall(line[heads[-1].end() :])} if heads else {}
        if not values:  # a header, or cut before its first complete value
            continue
        rank, epoch, iters = heads[-1].groups()
        ranks.add(rank)
        if rank != min(ranks, key=lambda r: int(r or 0)):
            continue
        place = (before + int(epoch), int(iters))
        if lines and place <= lines[-1][:2]:
            last = lines[-1][0]
            if int(epoch) == 1 and last - before > 1:
                before = last
                place = (before + 1, int(iters))
                curves.notes.append(f"its epochs restart at 1 in line {number}: numbering continues from {last}")
            else:
                while lines and lines[-1][:2] >= place:
                    lines.pop()
        lines.append((*place, values))
    size = max((iters for _, iters, _ in lines), default=1) or 1
    by_epoch: dict[int, dict[str, list[float]]] = {}
    for epoch, iters, values in lines:
        curves.add("steps", epoch + iters / size, values)
        for name, value in values.items():
            by_epoch.setdefault(epoch, {}).setdefault(name, []).append(value)
    for epoch, found in by_epoch.items():
        curves.add("means", float(epoch), {name: sum(values) / len(values) for name, values in found.items()})
    return curves


class Curves:
    """Named lines over a common x. At MAX_POINTS points, each pair of neighbours is replaced by its mean.

    x: epochs, fractional; lines: {name: values}, None where a value is missing or not finite.
    """

    def __init__(self, rows: Iterable[tuple[float, Mapping[str, float | None]]] = ()):
        self.x: list[float] = []
        self.lines: dict[str, list[float | None]] = {}
        self.stride = 1  # rows averaged in each point
        self.pending: list[tuple[float, Mapping[str, float | None]]] = []  # rows of the next point
        for x, values in rows:
            self.add(x, values)

    def add(self, x: float, values: Mapping[str, float | None]) -> None:
        """Add one row; a new line starts with a gap."""
        self.pending.append((x, values))
        if len(self.pending) == self.stride:
            self._add_point()
            if len(self.x) >= MAX_POINTS:
                self._halve()

    def _add_point(self) -> None:
        """Append the mean of the pending rows to all lines."""
        for name in (name for _, values in self.pending for name in values):
            self.lines.setdefault(name, [None] * len(self.x))
        self.x.append(_mean([x for x, _ in self.pending]) or 0.0)
        for name, line in self.lines.items():
            line.append(_mean([values.get(name) for _, values in self.pending]))
        self.pending = []

    def _halve(self) -> None:
        self.stride *= 2
        self.x = [_mean(self.x[i : i + 2]) or 0.0 for i in range(0, len(self.x), 2)]
        for name, line in self.lines.items():
            self.lines[name] = [_mean(line[i : i + 2]) for i in range(0, len(line), 2)]

    def points(self) -> tuple[list[float], dict[str, list[float | None]]]:
        """Return copies of x and the lines, including the unfinished last point."""
        whole = Curves()
        whole.x, whole.lines = list(self.x), {name: list(line) for name, line in self.lines.items()}
        if self.pending:
            whole.pending = self.pending
            whole._add_point()
        return whole.x, whole.lines

    def to_json(self) -> dict[str, Any]:
        """Return {"x", "lines"} of all points; values have six significant digits."""
        x, lines = self.points()
        short = {name: [None if v is None else float(f"{v:.6g}") for v in line] for name, line in lines.items()}
        return {"x": [round(v, 4) for v in x], "lines": short}


def read_curves(log: Path) -> dict[str, Any]:
    """Return the curves of a losses.jsonl: of logged steps, or of epoch means if fewer than two steps are logged.

    A mean is at the end of its epoch, 2 for the first, as the epoch's last step.
    """
    steps, epochs = Curves(step_rows(log)), Curves((row["epoch"] + 1.0, row["mean"]) for row in epoch_rows(log))
    return (steps if len(steps.x) + len(steps.pending) > 1 else epochs).to_json()


def _mean(values: list[float] | list[float | None]) -> float | None:
    known = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return sum(known) / len(known) if known else None
