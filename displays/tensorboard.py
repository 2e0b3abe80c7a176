"""TensorBoard event files of a run, in its folder `tensorboard`; look with: tensorboard --logdir RUN/tensorboard."""

import shlex
import threading
from pathlib import Path
from typing import Any

from displays.base import Pictures, Sink
from util.errors import EnvironmentFault, printable
from util.image_io import make_grid
from util.progress import Progress


class TensorBoard(Sink):
    """Losses, means, learning rate and pictures over the images seen; a resumed run goes on where it stands.

    Raises EnvironmentFault where the package tensorboard is not installed.
    """

    def __init__(self, o: Any, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            remedy = "pip install -r requirements-extras.txt"
            raise EnvironmentFault("package", "tensorboard", "is not installed", remedy) from problem
        self.make_writer = SummaryWriter
        self.loss_freq, self.image_freq = o.print_freq, o.update_html_freq
        self.folder = folder / "tensorboard"
        self.writer: Any = None

    def start(self, progress: Progress) -> None:
        if not progress.step:
            for old in self.folder.glob("events.out.tfevents.*"):  # of a run that this one takes the place of
                old.unlink()
        # what an earlier process showed of steps that are done again is not shown any more
        self.writer = self.make_writer(str(self.folder), purge_step=progress.samples + 1 if progress.step else None)

        print(printable(f"TensorBoard: tensorboard --logdir {shlex.quote(str(self.folder))}"), flush=True)

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        self._scalars(progress, values)

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        times = {f"seconds/{part}": seconds for part, seconds in spent.items()}
        self._scalars(progress, {f"mean/{name}": mean for name, mean in means.items()} | {"lr": lr} | times)

    def _scalars(self, progress: Progress, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, progress.samples)
        self.writer.flush()  # a kill must not take what the log has

    def images(self, progress: Progress, pictures: Pictures) -> None:
        for label, array in pictures.items():
            self.writer.add_image(f"results/{label}", array, progress.samples, dataformats="HWC")

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        for name, array in pictures.items():
            self.writer.add_image(f"sheets/{name}", array, progress.samples, dataformats="HWC")

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        """One picture for each label: the same files in the same places every time."""
        labels = list(next(iter(samples.values()), {}))
        for label in labels:
            whole = make_grid([shown[label] for shown in samples.values() if label in shown], 4)
            self.writer.add_image(f"samples/{label}", whole, progress.samples, dataformats="HWC")

    def close(self) -> None:
        """Write what is left; a disk that does not answer is given up after two seconds."""
        if self.writer is not None:
            closing = threading.Thread(target=self.writer.close, daemon=True)
            closing.start()
            closing.join(1.9)
