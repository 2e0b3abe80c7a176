"""Reading losses back: ours from losses.jsonl, anybody's from a loss_log.txt."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from util.errors import DataError

Points = tuple[list[float], list[float]]  # x: epochs (of steps the first from 1 to 2); y: NaN where it was no number


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a losses.jsonl: of logged steps (with "losses") and of whole epochs (with "mean").

    None where there is no file; a line that a kill cut short is left out.
    """
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from _parse_rows(file)


def _parse_rows(file: Any) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            yield event


def step_rows(path: Path) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (epoch as a fraction, losses) of the logged steps in a losses.jsonl; rows of another shape are left out."""
    for row in read_rows(path):
        if isinstance(row.get("losses"), dict) and isinstance(row.get("at"), int | float):
            yield row["at"], row["losses"]


def epoch_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a losses.jsonl that are about whole epochs: {"epoch", "step", "lr", "mean", ...}."""
    yield from (row for row in read_rows(path) if isinstance(row.get("mean"), dict))


@dataclass
class Losses:
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


def read_losses(path: Path) -> Losses:
    """Return the losses in a losses.jsonl, or in a loss_log.txt of this or another program (v24's format or v25's).

    Lines that are cut or foreign are left out. Raises DataError for a file without losses.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            ours = file.read(1) == "{"
            file.seek(0)
            curves = _parse_json(file) if ours else _parse_text(file)
    except OSError as problem:
        raise DataError("file", path, problem.strerror or str(problem), "give a run that has a log") from problem
    if not curves.steps and not curves.means:
        raise DataError("file", path, "holds no losses", "give a run's losses.jsonl, or a loss_log.txt")
    return curves


def _parse_json(file: Any) -> Losses:
    curves = Losses()
    for event in _parse_rows(file):
        try:
            if "losses" in event:
                curves.add("steps", float(event["at"]), event["losses"])
            elif "mean" in event:
                curves.add("means", float(event["epoch"]), event["mean"])
        except (KeyError, TypeError, ValueError, AttributeError):  # another program's table
            continue
    return curves


MAX_LINE_CHARS = 20_000  # characters of a line that can be one of losses
_HEAD = re.compile(r"(?:\[Rank (\d+)\] )?\(epoch: (\d+),(?: total_iters: \d+,)? iters: (\d+),[^()]*\)")
_VALUE = re.compile(r"([^\s:,]+): ([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))(?=[\s,])", re.IGNORECASE)
Line = tuple[int, int, dict[str, float]]  # epoch, iters, losses


def _parse_text(file: Any) -> Losses:
    """Put the sessions of a log together: what was done again replaces what is after it, and no epoch counts twice."""
    curves, before = Losses(), 0
    lines: list[Line] = []
    ranks: set[str | None] = set()
    for number, line in enumerate(file, 1):
        heads = list(_HEAD.finditer(line)) if len(line) < MAX_LINE_CHARS else []
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


def _add_means(curves: Losses, lines: list[Line]) -> None:
    sums: dict[int, dict[str, list[float]]] = {}
    for epoch, _, values in lines:
        for name, value in values.items():
            sums.setdefault(epoch, {}).setdefault(name, []).append(value)
    for epoch, found in sums.items():
        curves.add("means", float(epoch), {name: sum(values) / len(values) for name, values in found.items()})
