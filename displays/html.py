"""Write the training page of a run, web/index.html: curves, fixed samples, the images of every epoch."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from displays.base import Pictures, Sink
from displays.health_rules import Health
from displays.loss_log import Curves, epoch_rows, metric_row, metric_rows, step_rows
from displays.pace import Pace
from inference.sampling import has_sampler
from metrics import finite_or_none
from metrics.history import Report
from options.store import load_spec
from pages.names import label_file_parts
from pages.training import write_measured_images, write_training
from registry.lookup import find
from util.image_io import save_image
from util.progress import Progress

MIN_INTERVAL_S = 5.0  # minimum seconds between two updates with new losses only


class Html(Sink):
    """Writes web/index.html and web/history.js; an open page updates itself without a reload."""

    early_losses = True

    def __init__(self, o: Any, folder: Path):
        self.loss_freq, self.image_freq = o.print_freq, o.update_html_freq
        self.width, self.name, self.measures = o.display_winsize, o.name, bool(o.metrics)
        self.options = {name: str(value) for name, value in vars(o).items() if name != "isTrain"}
        self.changed_flags = {"model", "dataroot"} | o.given | _changed_flags(o)  # by this or an earlier command
        self.log, self.web = folder / "losses.jsonl", folder / "web"
        self.pictures = self.web / "images"
        self.pictures.mkdir(parents=True, exist_ok=True)
        (self.web / "samples").mkdir(exist_ok=True)
        self.history, self.curves, self.health = History(), Curves(), Health(o.gan_mode, o.dataset_mode)
        self.pace = Pace()
        if has_sampler(find("model", o.model)):  # its sheets show more than one random image
            self.image_freq = 0
        self.row_names = list(load_spec(folder).get("classes", ()))  # of a sheet's rows
        self.last_progress: Progress | None = None  # None: not started
        self.last_write_time = 0.0

    def start(self, progress: Progress) -> None:
        if progress.step:  # a resumed run keeps the rows and curves of its page
            self.history = History.read(self.web / "history.js", progress.epoch)
            self.curves = Curves(step_rows(self.log))
        for row in epoch_rows(self.log):
            self.health.add_row(row)
        for row in metric_rows(self.log):
            self.health.add_metrics(row)
            self.history.add_metrics(row)
        self._write(progress)

    def progress(self, progress: Progress) -> None:
        self.pace.step(progress)

    def data(self, progress: Progress, sheet: np.ndarray) -> None:
        save_image(sheet, self.web / "data.png")
        self._write(progress)

    def losses(self, progress: Progress, values: dict[str, float]) -> None:
        self.curves.add(progress.at, dict(values))
        if time.monotonic() - self.last_write_time > MIN_INTERVAL_S:
            self._write(progress)

    def images(self, progress: Progress, pictures: Pictures) -> None:
        self.history.add_row(progress.epoch, self._save_images(progress, pictures))
        self._write(progress)

    def sheets(self, progress: Progress, pictures: Pictures) -> None:
        self.health.add_sheets(progress.epoch, progress.step, pictures)
        for label in self._save_images(progress, pictures):
            self.history.add_sample(progress.epoch, label)
        self.history.sample_epochs.append(progress.epoch)
        self._write(progress)

    def _save_images(self, progress: Progress, pictures: Pictures) -> list[str]:
        """Write the images of an epoch; return their labels."""
        safe = label_file_parts(pictures)  # a plug-in's label may not be a valid file name
        for label, array in pictures.items():
            save_image(array, self.pictures / f"epoch{progress.epoch:03d}_{safe[label]}.png")
            self.history.sizes[safe[label]] = [array.shape[1], array.shape[0]]
        return list(safe.values())

    def samples(self, progress: Progress, samples: dict[str, Pictures]) -> None:
        common = [label for label in next(iter(samples.values())) if all(label in each for each in samples.values())]
        for shown, label in label_file_parts(common).items():
            arrays = [pictures[shown] for pictures in samples.values()]
            before = self.history.changed_epochs.get(label)
            if before and all(map(_has_pixels, self._sample_files(before[-1], label, len(arrays)), arrays)):
                continue  # unchanged, like an input: the page shows the file of the earlier epoch
            for array, file in zip(arrays, self._sample_files(progress.epoch, label, len(arrays))):
                save_image(array, file)
            self.history.add_sample(progress.epoch, label)
        self.history.files = list(samples)
        self.history.sample_epochs.append(progress.epoch)
        self.health.add_samples(progress.epoch, progress.step, samples)
        self._write(progress)

    def _sample_files(self, epoch: int, label: str, number: int) -> list[Path]:
        return [self.web / "samples" / f"epoch{epoch:03d}_{n}_{label}.png" for n in range(1, number + 1)]

    def epoch(self, progress: Progress, means: dict[str, float], spent: dict[str, float], lr: float) -> None:
        self.pace.epoch(sum(spent.values()))
        self.history.spent, self.history.lr = spent, lr
        self.health.add_row({"epoch": progress.epoch, "step": progress.step, "lr": lr, "mean": finite_or_none(means)})
        self._write(progress)

    def metrics(self, progress: Progress, report: Report) -> None:
        row = metric_row(progress, report)
        self.health.add_metrics(row)
        self.history.add_metrics(row, report.stopped)
        write_measured_images(self.web, progress.epoch, list(report.better), report.images)
        self._write(progress)

    def close(self) -> None:
        if self.last_progress is not None:
            self._write(self.last_progress, "stopped")

    def _write(self, progress: Progress, state: str = "training") -> None:
        self.last_progress, self.last_write_time = progress, time.monotonic()
        if progress.epoch > progress.last_epoch or (progress.epoch == progress.last_epoch and progress.epoch_done):
            state = "done"
        state = self.history.stopped or state
        self.history.notes = [[note.name, note.evidence, note.advice] for note in self.health.notes()]
        left = round(self.pace.seconds_left(progress)) if self.pace.known and state == "training" else 0
        history = self.history.to_json(progress, state) | {
            "curves": self.curves.to_json(),
            "interval": MIN_INTERVAL_S,
            "left": left,
            "row_names": self.row_names,
        }
        if self.measures:
            history["metrics"] = self.history.newest_metrics()
        write_training(self.web, self.name, self.options, self.changed_flags, self.width, history)


def _changed_flags(o: Any) -> set[str]:
    """Return the flags whose values are not their defaults; a default may be the name of another flag."""
    options = vars(o)
    defaults = {name: flag.default for name, flag in o.flags.items() if name in options}
    return {name for name, value in defaults.items() if options[name] not in (value, options.get(str(value), value))}


def _has_pixels(file: Path, array: np.ndarray) -> bool:
    """Whether a file contains exactly these pixels."""
    try:
        with Image.open(file) as image:
            return np.array_equal(np.asarray(image).squeeze(), array.squeeze())
    except OSError:
        return False


class History:
    """The list of images on a run's page; its size does not grow with the number of epochs.

    rows: [first epoch, last epoch, labels, whether they are sheets, step] for each span of epochs with equal labels;
    sheets are among the samples now, and in rows of runs from earlier versions.
    """

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.sizes: dict[str, list[int]] = {}  # label: [width, height]
        self.files: list[str] = []  # the files of the fixed samples; [] for generated sheets
        self.sample_epochs: list[int] = []  # the epochs at which they were drawn
        self.changed_epochs: dict[str, list[int]] = {}  # label: the epochs at which its images changed
        self.notes: list[list[str]] = []
        self.spent: dict[str, float] = {}  # seconds of the last epoch by section
        self.lr = 0.0
        self.evaluations: list[dict[str, Any]] = []  # rows of losses.jsonl
        self.stopped = ""  # why --early_stop has ended the run

    def add_metrics(self, row: dict[str, Any], stopped: str = "") -> None:
        """Record an evaluation."""
        self.evaluations.append(row)
        self.stopped = f"stopped early: {stopped}" if stopped else ""

    def newest_metrics(self) -> dict[str, Any]:
        """Return the newest evaluation, and the curves of all, over the numbers of their epochs."""
        if not self.evaluations:
            return {}
        values = [(float(row["epoch"]), {name: each[0] for name, each in row["metrics"].items()})
                  for row in self.evaluations]  # fmt: skip
        training = [(float(row["epoch"]), row.get("training", {})) for row in self.evaluations]
        return self.evaluations[-1] | {
            "curves": {"values": Curves(values).to_json(), "training": Curves(training).to_json()}
        }

    def add_row(self, epoch: int, labels: list[str]) -> None:
        """Record the images of an epoch."""
        last = next((row for row in reversed(self.rows) if not row[3]), None)
        if last and last[2] == labels and last[1] == epoch:
            return
        if last and last[2] == labels and (last[0] == last[1] or epoch - last[1] == last[4]):
            last[1], last[4] = epoch, epoch - last[1]
        else:
            self.rows.append([epoch, epoch, labels, False, 1])

    def add_sample(self, epoch: int, label: str) -> None:
        """Record that the images of a label changed in this epoch."""
        self.changed_epochs.setdefault(label, []).append(epoch)

    def to_json(self, progress: Progress, state: str) -> dict[str, Any]:
        """Return the data for the page's script."""
        epochs = progress.epoch - 1 + progress.seen / max(1, progress.epoch_size)
        fraction = min(1.0, epochs / max(1, progress.last_epoch))
        seconds = sum(self.spent.values())
        parts = ", ".join(f"{part} {100 * s / seconds:.0f} %" for part, s in self.spent.items() if seconds)
        return {
            "epoch": min(progress.epoch, progress.last_epoch), "last_epoch": progress.last_epoch, "step": progress.step,
            "share": round(fraction, 5),
            "state": state, "updated": round(time.time(), 3), "notes": self.notes, "rows": self.rows,
            "sizes": self.sizes,
            "lr": self.lr, "spent": parts and f"time: {parts}",
            "samples": {"files": self.files, "epochs": self.sample_epochs, "labels": self.changed_epochs},
        }  # fmt: skip

    @classmethod
    def read(cls, path: Path, epoch: int) -> "History":
        """Read an earlier part's history up to an epoch; return an empty one if it is missing or damaged."""
        history = cls()
        try:
            data = json.loads(path.read_text(encoding="utf-8").partition("(")[2].rpartition(")")[0])
            history.rows = [
                [a, b if b <= epoch else epoch - (epoch - a) % step, list(map(str, labels)), bool(wide), step]
                for a, b, labels, wide, step in data["rows"]
                if a <= epoch
            ]
            history.sizes = {str(label): [int(width), int(height)] for label, (width, height) in data["sizes"].items()}
            samples = data["samples"]
            history.files = [str(file) for file in samples["files"]]
            history.sample_epochs = [e for e in samples["epochs"] if e < epoch]
            changed = samples["labels"].items()
            history.changed_epochs = {str(label): [e for e in epochs if e < epoch] for label, epochs in changed}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # from another version, or damaged
            return cls()
        return history
