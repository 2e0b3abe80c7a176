"""The lasting record of a run's losses: loss_log.txt in v24's format and losses.jsonl, written and read back."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from util.display import Sink
from util.errors import DataError, EnvironmentFault, printable
from util.files import replace_text
from util.metrics import finite
from util.position import Position


class Log(Sink):
    """loss_log.txt in v24's format and losses.jsonl; always on: resuming and curves rely on them."""

    vital = True

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

    def epoch(self, at: Position, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        row = {"epoch": at.epoch, "step": at.step, "samples": at.samples, "seconds": round(sum(spent.values()), 3),
               "spent": {part: round(s, 3) for part, s in spent.items()}, "lr": lr, "mean": finite(means)}  # fmt: skip
        self._append(self.json, json.dumps(row))

    def close(self) -> None:
        for file in (self.text, self.json):
            if file is not None:
                file.close()


def v24_line(at: Position, values: dict[str, float]) -> str:
    """Return a line of losses as v24 of the reference writes it."""
    head = f"(epoch: {at.epoch}, iters: {at.seen}, time: {at.seconds:.3f}, data: {at.data_seconds:.3f}) "
    return head + "".join(f"{printable(name)}: {value:.3f} " for name, value in values.items())


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


# --- reading back

Points = tuple[list[float], list[float]]  # x: epochs (of steps the first from 1 to 2); y: NaN where it was no number


@dataclass
class Curves:
    """A run's losses by name, as they were logged and as means of whole epochs, and what is odd about the file."""

    steps: dict[str, Points] = field(default_factory=dict)
    means: dict[str, Points] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, x: float, values: Mapping[str, float | None]) -> None:
        """Add one row of "steps" or "means"."""
        curves = self.steps if kind == "steps" else self.means
        for name, value in values.items():
            xs, ys = curves.setdefault(name, ([], []))
            xs.append(x)
            ys.append(math.nan if value is None else float(value))


def read_losses(path: Path) -> Curves:
    """Return the losses in a losses.jsonl, or in a loss_log.txt of this or another program (v24's format or v25's).

    Lines that are cut or foreign are left out. Raises DataError for a file without losses.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            ours = file.read(1) == "{"
            file.seek(0)
            curves = _of_json(file) if ours else _of_text(file)
    except OSError as problem:
        raise DataError("file", path, problem.strerror or str(problem), "give a run that has a log") from problem
    if not curves.steps and not curves.means:
        raise DataError("file", path, "holds no losses", "give a run's losses.jsonl, or a loss_log.txt")
    return curves


def events(file: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of an open losses.jsonl; one that is cut short, or no table, is left out."""
    for line in file:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def epoch_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a losses.jsonl that are about whole epochs: {"epoch", "step", "lr", "mean", ...}; or none."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return [event for event in events(file) if isinstance(event.get("mean"), dict)]


def _of_json(file: Any) -> Curves:
    curves = Curves()
    for event in events(file):
        try:
            if "losses" in event:
                curves.add("steps", float(event["at"]), event["losses"])
            elif "mean" in event:
                curves.add("means", float(event["epoch"]), event["mean"])
        except (KeyError, TypeError, ValueError, AttributeError):  # another program's table
            continue
    return curves


_HEAD = re.compile(r"(?:\[Rank (\d+)\] )?\(epoch: (\d+),(?: total_iters: \d+,)? iters: (\d+),[^()]*\)")
_VALUE = re.compile(r"([^\s:,]+): ([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))(?=[\s,])", re.IGNORECASE)
Line = tuple[int, int, dict[str, float]]  # epoch, iters, losses


def _of_text(file: Any) -> Curves:
    """Put the sessions of a log together: what was done again replaces what is after it, and no epoch counts twice."""
    curves, before = Curves(), 0
    lines: list[Line] = []
    ranks: set[str | None] = set()
    for number, line in enumerate(file, 1):
        heads = list(_HEAD.finditer(line))
        values = {name: float(value) for name, value in _VALUE.findall(line[heads[-1].end() :])} if heads else {}
        if not values:  # a header, or cut by a kill: what is whole of a line counts
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
                curves.notes.append(f"its epochs begin at 1 again in line {number}: counted on from {last}")
            else:
                while lines and lines[-1][:2] >= place:
                    lines.pop()
        lines.append((*place, values))
    size = max((iters for _, iters, _ in lines), default=1) or 1
    for epoch, iters, values in lines:
        curves.add("steps", epoch + iters / size, values)
    _add_means(curves, lines)
    return curves


def _add_means(curves: Curves, lines: list[Line]) -> None:
    sums: dict[int, dict[str, list[float]]] = {}
    for epoch, _, values in lines:
        for name, value in values.items():
            sums.setdefault(epoch, {}).setdefault(name, []).append(value)
    for epoch, found in sums.items():
        curves.add("means", float(epoch), {name: sum(values) / len(values) for name, values in found.items()})
