"""Write TensorBoard event files to the run's folder `tensorboard`; view with: tensorboard --logdir RUN/tensorboard."""

import shlex
import threading
from pathlib import Path
from typing import Any

from displays.base import Pictures, Sink
from metrics.history import Report
from util.errors import EnvironmentFault, print_line
from util.image_io import make_grid
from util.progress import Progress


class TensorBoard(Sink):
    """Writes losses, means, learning rate and images over the number of images seen; a resumed run continues them.

    Raise EnvironmentFault if the package tensorboard is not installed.
    """

    def __init__(self, o: Any, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter  # an extra
        except ImportError as problem:
            remedy = "pip install -r requirements-extras.txt"
            raise EnvironmentFault("package", "tensorboard", "is not installed", remedy) from problem
        self.make_writer = SummaryWriter
        self.loss_freq, self.image_freq = o.print_freq, o.update_html_freq
        self.folder = folder / "tensorboard"
        self.writer: Any = None

    def start(self, progress: Progress) -> None:
        if not progress.step:
            for old in self.folder.glob("events.out.tfevents.*"):  # from a run that this one replaces
                old.unlink()
        # purge_step hides the events of steps that the resumed run repeats
        self.writer = self.make_writer(str(self.folder), purge_step=progress.samples + 1 if progress.step else None)

        print_line(f"TensorBoard: tensorboard --logdir {shlex.quote(str(self.folder))}")

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        self._scalars(progress, values)

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        times = {f"seconds/{part}": seconds for part, seconds in spent.items()}
        self._scalars(progress, {f"mean/{name}": mean for name, mean in means.items()} | {"lr": lr} | times)

    def metrics(self, progress: Progress, report: Report) -> None:
        training = {f"metric of training images/{name}": value for name, value in report.training.items()}
        values = {f"metric/{name}": result.value for name, result in report.row.values.items()}
        self._scalars(progress, values | training)

    def _scalars(self, progress: Progress, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, progress.samples)
        self.writer.flush()  # events must survive a kill, as the loss log does

    def images(self, progress: Progress, pictures: Pictures) -> None:
        self._images("results", progress, pictures)

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        self._images("sheets", progress, pictures)

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        """Write one grid for each label, with the files in the same order every time."""
        for label in next(iter(samples.values()), {}):
            grid = make_grid([shown[label] for shown in samples.values() if label in shown], 4)
            self._images("samples", progress, {label: grid})

    def _images(self, kind: str, progress: Progress, pictures: Pictures) -> None:
        for label, array in pictures.items():
            self.writer.add_image(f"{kind}/{label}", array, progress.samples, dataformats="HWC")

    def close(self) -> None:
        """Write the remaining events; give up after 1.9 seconds if the disk does not respond."""
        if self.writer is not None:
            closing = threading.Thread(target=self.writer.close, daemon=True)
            closing.start()
            closing.join(1.9)
