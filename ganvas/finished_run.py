"""Read a run's folder: its losses and metrics as columns, its pictures and its options."""

import math
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from displays.loss_log import read_rows
from ganvas.notebook import curves_html, pictures_html, table_html
from ganvas.run_folder import existing_folder
from options import store
from pages.names import newest_images

if TYPE_CHECKING:
    from ganvas.trained_generator import TrainedGenerator

Columns = dict[str, list[float]]
POSITION = ("epoch", "step", "samples", "at")  # columns that say when a row was measured; at: epochs as a fraction


class Run:
    """A run in a folder. A notebook shows its curves and newest pictures."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = existing_folder(folder)

    def __fspath__(self) -> str:
        """Return the folder: a Run stands for it wherever a path is taken."""
        return str(self.folder)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.resolve().name

    @cached_property
    def options(self) -> dict[str, Any]:
        """The values of all flags; {} for a run of another program."""
        return store.load(self.folder)

    @cached_property
    def losses(self) -> Columns:
        """Columns of equal length: epoch, step, samples, at, and each loss; NaN where it was not finite."""
        return _columns([row | row["losses"] for row in self._rows if "losses" in row])

    @cached_property
    def metrics(self) -> Columns:
        """Columns of equal length: epoch, step, samples, and each metric of --metrics; without rows, no columns."""
        measured = [row for row in self._rows if "metrics" in row]
        return _columns([row | {name: value[0] for name, value in row["metrics"].items()} for row in measured])

    @property
    def pictures(self) -> dict[str, Image.Image]:
        """The newest picture of each label on the run's page, such as real_A and fake_B."""
        return {label: _read_image(file) for label, (_, file) in newest_images(self.folder).items()}

    def load(self, **options: Any) -> "TrainedGenerator":
        """Return the run's generator; options: those of ganvas.load."""
        from ganvas.loading import load  # needs more of GANvas than reading a folder does

        return load(self.folder, **options)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(read_rows(self.folder / "losses.jsonl"))

    def __repr__(self) -> str:
        return f"<Run {self.folder}>"

    def _repr_html_(self) -> str:
        about = {"model": self.options.get("model", ""), "folder": self.folder}
        losses = {name: values for name, values in self.losses.items() if name not in POSITION}
        metrics = {name: values for name, values in self.metrics.items() if name not in POSITION}
        charts = curves_html(self.losses.get("at", []), losses) + curves_html(self.metrics.get("epoch", []), metrics)
        pictures = self.pictures
        return table_html(self.name, about) + charts + pictures_html(list(pictures.values()), list(pictures))


def _read_image(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.copy()  # which holds no file open


def _columns(rows: list[dict[str, Any]]) -> Columns:
    """Return the numbers of rows as columns."""
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _is_column(name, value))
    return {name: [_number(row.get(name)) for row in rows] for name in names}


def _is_column(name: str, value: Any) -> bool:
    is_number = value is None or isinstance(value, int | float)
    return is_number and name not in ("time", "data", "seconds", "lr", "iters")


def _number(value: Any) -> float:
    return math.nan if value is None else value
