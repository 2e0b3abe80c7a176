"""Write the results of test.py: image files, pages that show them, and metrics where the target is known."""

import json
import math
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from metrics import better_direction, finite_or_none
from pages.async_writer import AsyncWriter
from pages.names import UniqueNames, colliding_tails, label_file_parts, safe_file_name
from pages.paged_gallery import PagedGallery, page_file_name, tile_page_count, write_tiles
from pages.rows import Column, Picture, format_html, means_html
from registry.lookup import entries
from util.atomic_write import replace_text
from util.errors import EnvironmentFault, OptionError, printable
from util.image_io import array_to_pil, fits_png, make_grid, save_array, save_png, tensor_to_pil
from util.value_range import option_range, side_of_label

MAX_PENDING_BYTES = 64e6  # of images that wait to be written; the caller's thread writes larger ones itself
DARK_LEVELS = 127  # of 8 bits: images that use no more levels, such as masks of 0 and 1, look black or flat on a page
CLASS_PREVIEW_IMAGES = 8  # images of a class on the first page; the class's own page shows all


class Results:
    """The folder results_dir/name/PHASE_EPOCH/ with images/STEM_LABEL.png, index.html and, if compared, metrics.json.

    compare: whether real_B is the target of fake_B. images/ is flat: inputs with the same stem get their folder or
    extension into the name, so that none replaces another. Threads write the files: add images in `with self.writer`.
    """

    def __init__(self, o: Any, which: str, compare: bool):
        epoch = o.epoch + (f"_iter{o.load_iter}" if o.load_iter else "")
        self.folder = Path(o.results_dir) / o.name / f"{o.phase}_{epoch}"
        self.title = f"Experiment = {o.name}, Phase = {o.phase}, Epoch = {epoch}"
        self.run_name, self.phase_epoch = o.name, f"{o.phase}, {epoch}"
        self.width, self.aspect_ratio = o.display_winsize, o.aspect_ratio
        self.value_ranges = {"A": option_range(o.range_A), "B": option_range(o.range_B or o.range_A)}
        self.count = 0  # inputs, or images generated without inputs
        self.image_names = UniqueNames()
        self.class_page_names = UniqueNames()
        self.label_parts: dict[str, str] = {}  # each label's part of a file name
        self.image_metrics: dict[str, dict[str, float]] = {}
        self.writer = AsyncWriter(MAX_PENDING_BYTES)
        self.metric_functions = _load_metrics() if compare else {}
        self.better = {name: better_direction(name, measure) for name, measure in self.metric_functions.items()}
        # created with the first images, because only they show whether there are metrics
        self.gallery: PagedGallery | None = None
        try:
            (self.folder / "images").mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise EnvironmentFault(
                "folder", self.folder, problem.strerror or "cannot be made", "choose another --results_dir"
            ) from problem

    @property
    def page(self) -> Path:
        """The first page's path."""
        return self.folder / page_file_name("index", 1)

    def add(self, images: dict[str, Tensor], paths: list[str]) -> None:
        """Add a batch: {label: (N, C, H, W) in [-1, 1]} and the paths of its N inputs; `images` is emptied."""
        if not self.label_parts:
            self.label_parts = label_file_parts(images)
            self.image_names = UniqueNames(colliding_tails(self.label_parts.values()))
        for label, image in images.items():
            images[label] = image.cpu()
        for i, path in enumerate(paths):
            name = self.image_names.claim_input_name(PurePath(path))
            metrics = self._compare(name, images, i)
            last = i + 1 == len(paths)
            input_images = {label: (images.pop(label) if last else images[label])[i] for label in list(images)}
            weight = sum(image.nbytes for image in input_images.values())
            save_job = partial(self._save_images, input_images, name, PurePath(path).suffix.lower())
            self.writer.submit(weight, save_job, partial(self._add_row, name, metrics))
            self.count += 1

    def _save_images(self, images: dict[str, Tensor], name: str, suffix: str) -> list[Picture]:
        """Save an input's images; `images` is emptied, so that the memory of each is freed once it is saved."""
        return [self._save_image(images.pop(label), name, label, suffix) for label in list(images)]

    def _add_row(self, name: str, metrics: list[float], pictures: list[Picture]) -> None:
        self._open_gallery(bool(metrics)).add(name, pictures, metrics)

    def add_sheets(
        self, kind: str, sheets: dict[str, list[np.ndarray]], per_row: int, classes: tuple[str, ...] = ()
    ) -> None:
        """Add generated images: each sheet as one file; for kind "per_class", each image as one file.

        classes: the names beside the rows of a sheet that has one row for each class.
        """
        for name, pictures in sheets.items():
            safe_name = safe_file_name(name)
            stem = safe_name if name == kind else f"{safe_name}_{kind}"
            stem = self.image_names.claim_first_free([stem], stem)
            if kind == "per_class":
                self._add_class(name, stem.removesuffix("_per_class"), pictures)
                continue
            sheet = self._save_png(array_to_pil(make_grid(pictures, per_row)), stem, name, ".png")
            heading = name if name == kind else f"{name}, {kind.replace('_', ' ')}"
            extra: dict[str, Any] = {"wide": True}
            if classes and len(pictures) == per_row * len(classes):
                extra["side"] = classes
            self._open_gallery().add(heading, [sheet], stem=stem, **extra)
            self.count += 1

    def _add_class(self, name: str, stem: str, pictures: list[np.ndarray]) -> None:
        """Save a class's images, write the class's pages, and show the first few images on the first page."""
        tails = [f"_{i:04d}_fake.png" for i in range(len(pictures))]
        saved_pictures = [
            self._save_png(array_to_pil(picture), stem, str(i), tails[i]) for i, picture in enumerate(pictures)
        ]
        self.count += len(saved_pictures)
        page_tails = [page_file_name("", n + 1) for n in range(tile_page_count(len(saved_pictures)))]
        page = self.class_page_names.claim_first_free([f"class_{stem}"], f"class_{stem}", page_tails)
        heading = format_html(
            '<p><a href="index.html">{0}</a></p><h1 dir="auto">{1}</h1><p class="quiet">{2}</p>',
            f"{self.run_name} ({self.phase_epoch})",
            name,
            f"{len(saved_pictures)} images",
        )
        write_tiles(
            self.folder, page, f"{name}, {self.title}", heading, [(stem, p) for p in saved_pictures], self.width
        )
        self._open_gallery().add(
            name,
            saved_pictures[:CLASS_PREVIEW_IMAGES],
            stem=stem,
            page=f"{page}.html",
            said=f"all {len(saved_pictures)} images",
        )

    def _save_image(self, image: Tensor, name: str, label: str, suffix: str) -> Picture:
        """Save an image as an 8-bit PNG; if that loses or hides values, save them to a second file.

        suffix: of the input's file; its format is used for the second file if it can hold the values.
        """
        value_range, tail = self.value_ranges[side_of_label(label)], f"_{self.label_parts[label]}"
        if value_range.dtype == "uint8" and len(image) in (1, 3):
            if value_range.is_uint8:
                return self._save_png(tensor_to_pil(image), name, label, f"{tail}.png")
            if value_range.max - value_range.min > DARK_LEVELS:
                return self._save_png(array_to_pil(value_range.denormalise(image)), name, label, f"{tail}.png")
            suffix = ".png"
        suffix = {".npz": ".npy", ".pgm": ".png", ".ppm": ".png"}.get(suffix, suffix)
        if suffix not in (".npy", ".png", ".tiff") or (
            suffix == ".png" and not fits_png(value_range.dtype, len(image))
        ):
            suffix = ".tif"
        preview = self._save_png(tensor_to_pil(image), name, label, f"{tail}{'_preview' * (suffix == '.png')}.png")
        save_array(value_range.denormalise(image), self.folder / "images" / f"{name}{tail}{suffix}")
        return preview

    def _save_png(self, image: Image.Image, stem: str, label: str, tail: str) -> Picture:
        path = self.folder / "images" / (stem + tail)
        if "/" in stem:
            path.parent.mkdir(parents=True, exist_ok=True)
        return Picture(label, tail, *save_png(image, path, self.aspect_ratio))

    def _open_gallery(self, has_metrics: bool = False) -> PagedGallery:
        if self.gallery is None:
            columns = [Column(name, self.better[name]) for name in self.metric_functions] if has_metrics else []
            self.gallery = PagedGallery(self.folder, self.title, self._heading("in progress"), columns, self.width)
        return self.gallery

    def _heading(self, state: str) -> str:
        return format_html(
            '<h1 dir="auto">{0}</h1><p class="quiet">{1}</p>', self.run_name, f"{self.phase_epoch}; {state}"
        )

    def _compare(self, name: str, images: dict[str, Tensor], i: int) -> list[float]:
        label = next((key for key in images if key.startswith("fake_B")), "")  # fake_B_rgb with colorization
        truth = label.replace("fake", "real", 1)
        if not self.metric_functions or not label or truth not in images:
            return []
        fake, real = (images[key][i].float().cpu() for key in (label, truth))
        self.image_metrics[name] = {metric: measure(fake, real) for metric, measure in self.metric_functions.items()}
        return list(self.image_metrics[name].values())

    def close(self) -> None:
        """Write the pages and, if images were compared, metrics.json; print the means."""
        self.writer.finish()
        gallery = self._open_gallery()
        means = (
            {m: _finite_mean([f[m] for f in self.image_metrics.values()]) for m in self.metric_functions}
            if self.image_metrics
            else {}
        )
        gallery.heading = self._heading(f"{self.count} images")
        gallery.intro = means_html("mean over the images", means) if means else ""
        gallery.close()
        if not self.image_metrics:
            return
        tables = {
            "mean": finite_or_none(means),
            "images": {name: finite_or_none(f) for name, f in self.image_metrics.items()},
        }
        replace_text(self.folder / "metrics.json", json.dumps(tables, indent=1) + "\n")
        print(printable("mean over the images: " + ", ".join(f"{name} {v:.4f}" for name, v in means.items())))


def _load_metrics() -> dict[str, Any]:
    """Return every metric by name; print a note and skip a plug-in's metric that fails to load."""
    functions = {}
    for entry in entries("metric"):
        try:
            functions[entry.name] = entry.load()
        except OptionError as problem:
            print(printable(f"note: metric {entry.name} is skipped ({problem})"))
    return functions


def _finite_mean(values: list[float]) -> float:
    finite_values = [v for v in values if math.isfinite(v)]
    return sum(finite_values) / len(finite_values) if finite_values else math.inf
