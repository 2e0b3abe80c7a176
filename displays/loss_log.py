"""The lasting record of a run's losses: loss_log.txt in v24's format and losses.jsonl, written and read back."""

import json
import math
import re
import time
from pathlib import Path
from typing import Any, TextIO

from displays.base import Sink
from metrics import finite
from util.atomic_write import replace_text
from util.errors import EnvironmentFault, printable
from util.progress import Position

KEEP = "surrogateescape"  # bytes that are no UTF-8, of another program or a damaged disk, stay as they are


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
        rows = self.json_path.read_text(encoding="utf-8", errors=KEEP).splitlines()
        kept = [row for row in rows if _is_before(row, at)]
        if len(kept) < len(rows):
            replace_text(self.json_path, "".join(row + "\n" for row in kept), KEEP)
        there = self.text_path.is_file()
        lines = self.text_path.read_text(encoding="utf-8", errors=KEEP).splitlines() if there else []
        past = [line for line in lines if not _is_after(line, at)]
        if len(past) < len(lines):
            replace_text(self.text_path, "".join(line + "\n" for line in past), KEEP)

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
