"""Write the results of test.py: image files, pages that show them, and metrics where the target is known."""

import math
import zlib
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch import Tensor

from cli.main import Report
from data.listing.layouts import LAYOUTS
from options import store
from pages.async_writer import AsyncWriter
from pages.names import UniqueNames, natural_key, safe_file_name
from pages.paged_gallery import PagedGallery, page_file_name, tile_page_count, write_tiles
from pages.result_images import ResultImages
from pages.result_metrics import ResultMetrics, results_text
from pages.results_folder import ResultsFolder, data_and_epoch, results_path
from pages.rows import Column, Picture, format_html, means_html
from util import ranks
from util.errors import count_text, print_line
from util.image_io import make_grid

MAX_PENDING_BYTES = 64e6  # of images that wait to be written; the caller's thread writes larger ones itself
CLASS_PREVIEW_IMAGES = 8  # images of a class on the first page; the class's own page shows all


class Results:
    """The folder results_dir/name/PHASE_EPOCH/ with images/STEM_LABEL.png, index.html and metrics.json.

    compare: whether real_B is the target of fake_B; generated: whether images have no inputs. images/ is flat: inputs
    with the same stem get their folder or extension into the name, so that none replaces another. With --results_only
    there is no page. Threads write the files: add images in `with self.writer`. Call `release` at the end, also after
    an error. Raises OptionError and EnvironmentFault as ResultsFolder does.
    """

    def __init__(self, o: Any, which: str, compare: bool, generated: bool = False):
        given = getattr(o, "input", "") or ""  # a folder or file given by position
        part, epoch = data_and_epoch(o, given)
        data = given or (o.dataroot if o.pairs in ("auto", *LAYOUTS) else str(Path(o.dataroot, o.pairs)))
        self.files = ResultsFolder(
            results_path(o, given), Path(o.checkpoints_dir, o.name), "" if generated else str(data)
        )
        self.folder = self.files.path
        self.title = f"Experiment = {o.name}, Phase = {part}, Epoch = {epoch}"
        self.run_name, self.phase_epoch = o.name, f"{part}, {epoch}"
        self.width, self.has_page = o.display_winsize, generated or not o.results_only
        self.compare, self.generated = compare, generated
        self.count = self.sheets = 0  # inputs, or images generated without inputs; grids and interpolations
        self.images = ResultImages(o, self.files)
        self.row_names, self.image_names, self.class_page_names = UniqueNames(), UniqueNames(), UniqueNames()
        self.stems: dict[tuple[str, str, int] | None, str] = {}  # of unpaired inputs: side, path and checksum -> stem
        self.pictures: dict[tuple[str, str, str], Picture | None] = {}  # of unpaired inputs: by label, stem and suffix
        self.samples: dict[str, tuple[str, list[Picture]]] = {}  # of each class: the stem of its files, its images
        self.writer = AsyncWriter(MAX_PENDING_BYTES)
        self.metrics = ResultMetrics(o, compare, generated)
        # created with the first images, because only they show whether there are metrics
        self.gallery: PagedGallery | None = None

    @property
    def page(self) -> Path:
        """The first page's path; the folder of images if there is no page."""
        return self.folder / (page_file_name("index", 1) if self.has_page else "images")

    def add(self, images: dict[str, Tensor], paths: list[str], partners: list[str] | None = None) -> None:
        """Add a batch: {label: (N, C, H, W) in [-1, 1]} and the paths of its N inputs; `images` is emptied.

        partners: the paths of the N images of B. Where B is not the target, they name what is made from B.
        """
        self.images.begin(images)
        self.files.open()
        unpaired = not self.compare and partners is not None and partners != paths
        for label, image in images.items():
            images[label] = image.cpu()
        for i, path in enumerate(paths):
            name = self.row_names.claim_input_name(PurePath(path))
            sources = {"A": path, "B": partners[i] if partners and unpaired else path}
            metrics = self.metrics.add(name, images, i, sources)
            last = i + 1 == len(paths)
            input_images = {label: (images.pop(label) if last else images[label])[i] for label in list(images)}
            named = self._names(sources, input_images, unpaired)
            new = {label: input_images[label] for label in named if (label, *named[label]) not in self.pictures}
            input_images.clear()
            if unpaired:
                self.pictures |= {(label, *named[label]): None for label in new}  # known once it is written
            weight = sum(image.nbytes for image in new.values())
            save_job = partial(self._save_images, new, named)
            self.writer.submit(weight, save_job, partial(self._add_row, name, metrics, named))
            self.count += 1

    def _names(self, sources: dict[str, str], images: dict[str, Tensor], unpaired: bool) -> dict[str, tuple[str, str]]:
        """Return each written label's stem, and the suffix of the input from which its image is made.

        sources: {side: path}. An unpaired input that returns, because the other side has more, keeps its stem.
        """
        named: dict[str, tuple[str, str]] = {}
        for side, source in sources.items():
            path, labels = PurePath(source), [x for x in images if self.images.side(x, unpaired) == side]
            tails = self.images.name_tails(path, side, unpaired)
            if not tails or not labels:
                continue
            self.images.note_other_format(path)
            # the checksum, because a random crop is another input
            key = (side, source, zlib.crc32(images[labels[0]].float().numpy().tobytes())) if unpaired else None
            stem = self.stems.get(key) or self.image_names.claim_input_name(path, tails)
            if key:
                self.stems[key] = stem
            named |= dict.fromkeys(labels, (stem, path.suffix))
        return {label: named[label] for label in self.images.labels if label in named}

    def _save_images(self, images: dict[str, Tensor], named: dict[str, tuple[str, str]]) -> dict[str, Picture | None]:
        """Save an input's images; `images` is emptied, so that the memory of each is freed once it is saved."""
        return {label: self.images.save(images.pop(label), label, *named[label]) for label in list(images)}

    def _add_row(
        self,
        name: str,
        metrics: dict[str, float],
        named: dict[str, tuple[str, str]],
        saved: dict[str, Picture | None],
    ) -> None:
        self.pictures |= {key: saved[key[0]] for label in saved if (key := (label, *named[label])) in self.pictures}
        if not self.has_page:
            return
        every = {label: saved.get(label) or self.pictures.get((label, *key)) for label, key in named.items()}
        shown = {label: picture for label, picture in every.items() if picture}
        stems = [named[label][0] for label in shown]
        differ = {"stems": stems} if len(set(stems)) > 1 else {}
        gallery = self._open_gallery(metrics)
        values = [metrics.get(column.metric, math.nan) for column in gallery.columns] if metrics else []
        gallery.add(name, shown.values(), values, stem=(stems or [name])[0], **differ)

    def add_sheets(
        self, kind: str, sheets: dict[str, list[np.ndarray]], per_row: int, classes: tuple[str, ...] = ()
    ) -> None:
        """Add sheets of generated images, each as one file.

        classes: the names beside the rows of a sheet that has one row for each class.
        """
        self.files.open()
        for name in sorted(sheets, key=natural_key):
            pictures, safe_name = sheets[name], safe_file_name(name)
            stem = safe_name if name == kind else f"{safe_name}_{kind}"
            stem = self.image_names.claim_first_free([stem], stem)
            sheet = self.images.save_sheet(make_grid(pictures, per_row), stem, name)
            heading = name if name == kind else f"{name}, {kind.replace('_', ' ')}"
            extra: dict[str, Any] = {"wide": True}
            if classes and len(pictures) == per_row * len(classes):
                extra["side"] = classes
            self._open_gallery().add(heading, [sheet], stem=stem, **extra)
            self.sheets += 1

    def add_samples(self, samples: dict[str, list[np.ndarray]]) -> None:
        """Add generated images of each class, each as one file; further calls continue the classes.

        The images are not kept: `close` writes the pages of the classes.
        """
        self.files.open()
        for name in sorted(samples, key=natural_key):
            if name not in self.samples:
                key = f"{safe_file_name(name)}_per_class"
                self.samples[name] = self.image_names.claim_first_free([key], key).removesuffix("_per_class"), []
            stem, saved = self.samples[name]
            for pixels in samples[name]:
                number = len(saved)
                saved.append(self.images.save_sheet(pixels, stem, str(number), f"_{number:04d}_fake"))
            self.count += len(samples[name])

    def _add_class(self, name: str, stem: str, saved_pictures: list[Picture]) -> None:
        """Write a class's pages, and show its first few images on the first page."""
        page_tails = [page_file_name("", n + 1) for n in range(tile_page_count(len(saved_pictures)))]
        page = self.class_page_names.claim_first_free([f"class_{stem}"], f"class_{stem}", page_tails)
        heading = format_html(
            '<p><a href="index.html">{0}</a></p><h1 dir="auto">{1}</h1><p class="quiet">{2}</p>',
            f"{self.run_name} ({self.phase_epoch})",
            name,
            count_text(len(saved_pictures), "image"),
        )
        for tail in page_tails:
            self.files.claim(page + tail)
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

    def _open_gallery(self, metrics: Iterable[str] = ()) -> PagedGallery:
        if self.gallery is None:
            columns = [Column(name, self.metrics.better.get(name, "")) for name in metrics]
            heading = self._heading("in progress")
            self.gallery = PagedGallery(self.folder, self.title, heading, columns, self.width, on_file=self.files.claim)
        return self.gallery

    def _heading(self, state: str) -> str:
        return format_html(
            '<h1 dir="auto">{0}</h1><p class="quiet">{1}</p>', self.run_name, f"{self.phase_epoch}; {state}"
        )

    def close(self) -> None:
        """Write the pages in natural order and metrics.json, remove an earlier test's files, and print the means."""
        self.writer.finish()
        self.files.open()
        for name, (stem, saved) in self.samples.items():
            self._add_class(name, stem, saved)
        if not self.has_page:  # an input that returned was written once
            self.count = len(self.files.written)
        means, sets, several = self.metrics.means(), self.metrics.set_results(), self.metrics.meaning()
        if self.has_page:
            gallery = self._open_gallery()
            if not self.generated:
                gallery.sort(lambda row: natural_key(row.name))
            gallery.heading = self._heading(self.counted)
            gallery.intro = means_html("mean over the images" + (several and f". {several}"), means) if means else ""
            gallery.intro += format_html("<p>{0}</p>", set_text) if (set_text := results_text(sets)) else ""
            gallery.close()
        stems = {stem: name for name, (stem, _) in self.samples.items()}  # a class may be no file name
        self.files.finish(self.metrics.tables(means, sets) | ({"classes": stems} if stems else {}))
        if means:
            print_line("mean over the images: " + ", ".join(f"{name} {v:.4f}" for name, v in means.items()))
        if sets:
            print_line(results_text(sets))

    @property
    def counted(self) -> str:
        """How many images there are, and sheets of them, in words."""
        return count_text(self.count, "image") + (f" and {count_text(self.sheets, 'sheet')}" if self.sheets else "")

    def log_errors(self, report: Report) -> None:
        """Let the report write errors to the folder, but not beside the results of an earlier test; release it then."""
        report.cleanup = self.release
        self.files.log_errors(report.log_errors)

    def release(self) -> None:
        """Let other processes write to the folder."""
        self.files.release()


def open_results(o: Any, folder: Path, which: str, compare: bool, generated: bool) -> Any:
    """Store test.py's options in the run's folder, and return its Results; of several processes only in the first."""
    if ranks.rank():
        return _NoResults()
    store.save(o, folder, "test")
    return Results(o, which, compare, generated)


class _NoResults:
    """The results of a process that writes none."""

    writer, page, count, counted = nullcontext(), "", 0, ""

    def add(self, *images: Any) -> None:
        """Write nothing."""

    add_sheets = add_samples = log_errors = close = add
