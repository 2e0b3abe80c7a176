"""Losses and progress on the terminal, or as plain lines."""

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from util.display import Sink
from util.log import v24_line
from util.position import Position


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

    def epoch(self, at: Position, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        seconds = sum(spent.values())
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
