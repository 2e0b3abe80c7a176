"""The progress of a download."""

from tqdm import tqdm

from util.disk_space import format_bytes
from util.errors import print_line, printable


class ProgressBar(tqdm):
    """The progress of an operation: a bar on a terminal, elsewhere a line for every tenth."""

    def __init__(self, what: str, unit: str):
        super().__init__(desc=printable(what), unit=unit, unit_scale=True, disable=None, leave=False)
        self.what, self.tenth = what, 0

    def show(self, done: int, total: int | None) -> None:
        """Show how much is done, and how much there is in total (None if unknown)."""
        self.total = total
        self.update(done - self.n)
        if self.disable and total and done * 10 // total > self.tenth:
            self.tenth = done * 10 // total
            print_line(f"{self.what}: {self.tenth}0 % of {format_bytes(total)}")
