"""Write a run's losses to loss_log.txt (v24's format) and losses.jsonl, and remove rows that a resume repeats."""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from displays.base import Sink
from metrics import finite_or_none
from util.atomic_write import replace_text
from util.errors import EnvironmentFault, printable
from util.progress import Progress

ENCODING_ERRORS = "surrogateescape"  # keeps bytes that are not UTF-8 unchanged


class LossLog(Sink):
    """Writes loss_log.txt in v24's format and losses.jsonl; always on, because resuming and curves need them."""

    vital = True

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

    def close(self) -> None:
        for file in self.files.values():
            file.close()


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
