"""Results of test.py: a file for every picture, pages that show them, figures where the truth is known."""

import json
import math
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from metrics import better, finite
from pages.async_writer import Writer
from pages.gallery import Book, tile_pages, write_tiles
from pages.gallery import page_name as numbered
from pages.names import Names, file_name, label_parts, tails_of
from pages.rows import Column, Picture, filled, means_html
from registry.lookup import entries
from util.atomic_write import replace_text
from util.errors import EnvironmentFault, OptionError
from util.image_io import as_image, fits_png, grid, save_numbers, save_png, to_image
from util.value_range import of_option, side

WAITING = 64e6  # bytes of pictures that wait for their files; a larger one waits for no thread
FIRST_FEW = 8  # pictures of a class on the first page; all are on the class's own


class Results:
    """results_dir/name/PHASE_EPOCH/: images/STEM_LABEL.png, index.html, and metrics.json where pictures are compared.

    compare: whether real_B is the true translation that fake_B can be held against. Files stay flat; inputs of one
    stem get their folder or their extension into the name, so that none replaces another. Threads make the files: add
    pictures in a `with` of `writer`.
    """

    def __init__(self, o: Any, which: str, compare: bool):
        epoch = o.epoch + (f"_iter{o.load_iter}" if o.load_iter else "")
        self.folder = Path(o.results_dir) / o.name / f"{o.phase}_{epoch}"
        self.title = f"Experiment = {o.name}, Phase = {o.phase}, Epoch = {epoch}"
        self.run, self.part = o.name, f"{o.phase}, {epoch}"
        self.width, self.aspect_ratio = o.display_winsize, o.aspect_ratio
        self.values = {"A": of_option(o.range_A), "B": of_option(o.range_B or o.range_A)}
        self.count = 0  # inputs, or pictures generated without
        self.names = Names()
        self.pages = Names()  # of classes
        self.parts: dict[str, str] = {}  # what stands for each label in names of files
        self.figures: dict[str, dict[str, float]] = {}
        self.writer = Writer(WAITING)
        self.metrics = _metrics() if compare else {}
        self.better = {name: better(name, measure) for name, measure in self.metrics.items()}
        self.book: Book | None = None  # begun with the first pictures: only they tell whether there are figures
        try:
            (self.folder / "images").mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise EnvironmentFault("folder", self.folder, problem.strerror or "cannot be made",
                                   "choose another --results_dir") from problem  # fmt: skip

    @property
    def page(self) -> Path:
        """The first page's path."""
        return self.folder / numbered("index", 1)

    def add(self, images: dict[str, Tensor], paths: list[str]) -> None:
        """Add a batch: {label: (N, C, H, W) in [-1, 1]} and the N inputs they come from; `images` is emptied."""
        if not self.parts:
            self.parts = label_parts(images)
            self.names = Names(tails_of(self.parts.values()))
        for label, image in images.items():
            images[label] = image.cpu()
        for i, path in enumerate(paths):
            name = self.names.of_input(PurePath(path))
            figures = self._compared(name, images, i)
            last = i + 1 == len(paths)
            own = {label: (images.pop(label) if last else images[label])[i] for label in list(images)}
            weight = sum(image.nbytes for image in own.values())
            make = partial(self._files, own, name, PurePath(path).suffix.lower())
            self.writer.put(weight, make, partial(self._row, name, figures))
            self.count += 1

    def _files(self, images: dict[str, Tensor], name: str, suffix: str) -> list[Picture]:
        """Save an input's pictures; `images` is emptied, so that each goes when it is saved."""
        return [self._of_input(images.pop(label), name, label, suffix) for label in list(images)]

    def _row(self, name: str, figures: list[float], pictures: list[Picture]) -> None:
        self._book(bool(figures)).add(name, pictures, figures)

    def add_sheets(self, kind: str, sheets: dict[str, list[np.ndarray]], per_row: int,
                   classes: tuple[str, ...] = ()) -> None:  # fmt: skip
        """Add generated pictures: each sheet as one file, but of kind "per_class" each picture as a file.

        classes: those of the rows of a sheet that holds them all.
        """
        for name, pictures in sheets.items():
            safe = file_name(name)
            stem = safe if name == kind else f"{safe}_{kind}"
            stem = self.names.first_free([stem], stem)
            if kind == "per_class":
                self._add_class(name, stem.removesuffix("_per_class"), pictures)
                continue
            sheet = self._saved(as_image(grid(pictures, per_row)), stem, name, ".png")
            heading = name if name == kind else f"{name}, {kind.replace('_', ' ')}"
            extra: dict[str, Any] = {"wide": True}
            if classes and len(pictures) == per_row * len(classes):
                extra["side"] = classes
            self._book().add(heading, [sheet], stem=stem, **extra)
            self.count += 1

    def _add_class(self, name: str, stem: str, pictures: list[np.ndarray]) -> None:
        """Save a class's pictures, write its own pages, and put the first few on the first page."""
        tails = [f"_{i:04d}_fake.png" for i in range(len(pictures))]
        saved = [self._saved(as_image(picture), stem, str(i), tails[i]) for i, picture in enumerate(pictures)]
        self.count += len(saved)
        tails_of_pages = [numbered("", n + 1) for n in range(tile_pages(len(saved)))]
        page = self.pages.first_free([f"class_{stem}"], f"class_{stem}", tails_of_pages)
        heading = filled('<p><a href="index.html">{0}</a></p><h1 dir="auto">{1}</h1><p class="quiet">{2}</p>',
                         f"{self.run} ({self.part})", name, f"{len(saved)} pictures")  # fmt: skip
        write_tiles(self.folder, page, f"{name}, {self.title}", heading, [(stem, p) for p in saved], self.width)
        self._book().add(name, saved[:FIRST_FEW], stem=stem, page=f"{page}.html", said=f"all {len(saved)} pictures")

    def _of_input(self, image: Tensor, name: str, label: str, suffix: str) -> Picture:
        """Save a picture; what a PNG of 8 bits cannot hold goes to a file of its own, and the page shows it in 8 bits.

        suffix: of the input's file, whose format is kept where it can hold the values.
        """
        values, tail = self.values[side(label)], f"_{self.parts[label]}"
        if values.kind == "uint8" and len(image) in (1, 3):
            if values.usual:
                return self._saved(to_image(image), name, label, f"{tail}.png")
            return self._saved(as_image(values.restored(image)), name, label, f"{tail}.png")
        suffix = {".npz": ".npy", ".pgm": ".png", ".ppm": ".png"}.get(suffix, suffix)
        if suffix not in (".npy", ".png", ".tiff") or (suffix == ".png" and not fits_png(values.kind, len(image))):
            suffix = ".tif"
        preview = self._saved(to_image(image), name, label, f"{tail}{'_preview' * (suffix == '.png')}.png")
        save_numbers(values.restored(image), self.folder / "images" / f"{name}{tail}{suffix}")
        return preview

    def _saved(self, image: Image.Image, stem: str, label: str, tail: str) -> Picture:
        path = self.folder / "images" / (stem + tail)
        if "/" in stem:
            path.parent.mkdir(parents=True, exist_ok=True)
        return Picture(label, tail, *save_png(image, path, self.aspect_ratio))

    def _book(self, figures: bool = False) -> Book:
        if self.book is None:
            columns = [Column(name, self.better[name]) for name in self.metrics] if figures else []
            self.book = Book(self.folder, self.title, self._heading("still at work"), columns, self.width)
        return self.book

    def _heading(self, state: str) -> str:
        return filled('<h1 dir="auto">{0}</h1><p class="quiet">{1}</p>', self.run, f"{self.part}; {state}")

    def _compared(self, name: str, images: dict[str, Tensor], i: int) -> list[float]:
        label = next((shown for shown in images if shown.startswith("fake_B")), "")  # colorization's is fake_B_rgb
        true = label.replace("fake", "real", 1)
        if not self.metrics or not label or true not in images:
            return []
        fake, real = (images[shown][i].float().cpu() for shown in (label, true))
        self.figures[name] = {metric: measure(fake, real) for metric, measure in self.metrics.items()}
        return list(self.figures[name].values())

    def close(self) -> None:
        """Write the pages and, where pictures were compared, metrics.json; print the means."""
        self.writer.finish()
        book = self._book()
        means = {m: _mean([f[m] for f in self.figures.values()]) for m in self.metrics} if self.figures else {}
        book.heading = self._heading(f"{self.count} images")
        book.intro = means_html("mean over the images", means) if means else ""
        book.close()
        if not self.figures:
            return
        tables = {"mean": finite(means), "images": {name: finite(f) for name, f in self.figures.items()}}
        replace_text(self.folder / "metrics.json", json.dumps(tables, indent=1) + "\n")
        print("mean over the images: " + ", ".join(f"{name} {value:.4f}" for name, value in means.items()))


def _metrics() -> dict[str, Any]:
    """Return every metric by name; one of a plug-in that is broken is named and left out, for nobody asked for it."""
    found = {}
    for known in entries("metric"):
        try:
            found[known.name] = known.load()
        except OptionError as problem:
            print(f"note: metric {known.name} is left out ({problem})")
    return found


def _mean(values: list[float]) -> float:
    measured = [v for v in values if math.isfinite(v)]
    return sum(measured) / len(measured) if measured else math.inf
