"""Results of test.py: a file for every picture, one page that shows them, figures where the truth is known."""

import hashlib
import json
import math
import os
import re
from itertools import chain, count
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch import Tensor

from pages.document import Row, write_page
from util.errors import EnvironmentFault, OptionError
from util.files import replace_text
from util.metrics import finite
from util.pixels import grid, save_image, to_pixels
from util.registry import entries

LONGEST = 200  # bytes of a name before its label
FIRST_PAGE = 100  # pictures after which the page is first written; then whenever their number has doubled


class Results:
    """results_dir/name/PHASE_EPOCH/: images/STEM_LABEL.png, index.html, and metrics.json where pictures are compared.

    compare: whether real_B is the true translation that fake_B can be held against. Files stay flat; inputs of one
    stem get their folder or their extension into the name, so that none replaces another.
    """

    def __init__(self, o: Any, which: str, compare: bool):
        epoch = o.epoch + (f"_iter{o.load_iter}" if o.load_iter else "")
        self.folder = Path(o.results_dir) / o.name / f"{o.phase}_{epoch}"
        self.title = f"Experiment = {o.name}, Phase = {o.phase}, Epoch = {epoch}"
        self.width, self.aspect_ratio, self.compare = o.display_winsize, o.aspect_ratio, compare
        self.rows: list[Row] = []
        self.count = 0  # inputs, or pictures generated without
        self.taken: set[str] = set()
        self.next_page = FIRST_PAGE
        self.figures: dict[str, dict[str, float]] = {}
        self.metrics = _metrics() if compare else {}
        try:
            (self.folder / "images").mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise EnvironmentFault("folder", self.folder, problem.strerror or "cannot be made",
                                   "choose another --results_dir") from problem  # fmt: skip

    @property
    def page(self) -> Path:
        """The page's path."""
        return self.folder / "index.html"

    def add(self, images: dict[str, Tensor], paths: list[str]) -> None:
        """Add a batch: {label: (N, C, H, W) in [-1, 1]} and the N inputs they come from."""
        for i, path in enumerate(paths):
            name = self._free_name(PurePath(path))
            files = []
            for label, batch in images.items():
                file = f"{name}_{label}.png"
                save_image(to_pixels(batch[i]), self._made(file), self.aspect_ratio)
                files.append((label, file))
            self.rows.append(Row(name, files, self._compared(name, images, i)))
            self.count += 1
            if len(self.rows) >= self.next_page:
                self._write()
                self.next_page *= 2

    def add_sheets(self, kind: str, sheets: dict[str, list[np.ndarray]], per_row: int, note: str = "") -> None:
        """Add generated pictures: each sheet as one file, but of kind "per_class" each picture as a file."""
        for name, pictures in sheets.items():
            safe = _file_name(name)
            stem = safe if name == kind else f"{safe}_{kind}"
            stem = self._untaken([stem], stem)
            files = [(name, f"{stem}.png")]
            if kind == "per_class":
                own = stem.removesuffix("_per_class")
                files = [(f"{name} {i}", f"{own}_{i:04d}_fake.png") for i in range(len(pictures))]
                for (_, file), picture in zip(files, pictures):
                    save_image(picture, self._made(file), self.aspect_ratio)
            else:
                save_image(grid(pictures, per_row), self._made(files[0][1]), self.aspect_ratio)
            self.count += len(files)
            heading = name if name == kind else f"{name}, {kind.replace('_', ' ')}"
            self.rows.append(Row(heading, files, [note] if note else [], own_width=kind != "per_class"))

    def _compared(self, name: str, images: dict[str, Tensor], i: int) -> list[str]:
        label = next((shown for shown in images if shown.startswith("fake_B")), "")  # colorization's is fake_B_rgb
        true = label.replace("fake", "real", 1)
        if not self.metrics or not label or true not in images:
            return []
        fake, real = (images[shown][i].float().cpu() for shown in (label, true))
        self.figures[name] = {metric: measure(fake, real) for metric, measure in self.metrics.items()}
        return [", ".join(f"{metric} {value:.4g}" for metric, value in self.figures[name].items())]

    def _free_name(self, path: PurePath) -> str:
        folder = [part for part in path.parts[:-1] if part not in ("/", "..", ".")]
        candidates = [path.stem, path.name] + ["/".join([*folder[-n:], path.name]) for n in range(1, len(folder) + 1)]
        if len(folder) > 0:
            candidates.insert(1, f"{folder[-1]}/{path.stem}")
        return self._untaken(candidates, path.name)

    def _untaken(self, candidates: list[str], numbered: str) -> str:
        """Return, and take, the first free one of some names, else `numbered` with the first free number from 2 on."""
        every = chain(candidates, (f"{numbered}_{n}" for n in count(2)))
        name = next(c for c in map(_short, every) if c.casefold() not in self.taken)
        self.taken.add(name.casefold())  # some file systems know no case
        return name

    def _made(self, file: str) -> Path:
        path = self.folder / "images" / file
        if "/" in file:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write(self) -> None:
        write_page(self.page, self.title, self.rows, self.width)

    def close(self) -> None:
        """Write the page and, where pictures were compared, metrics.json; print the means."""
        self._write()
        if not self.figures:
            return
        means = {m: _mean([f[m] for f in self.figures.values()]) for m in self.metrics}
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


def _short(name: str) -> str:
    """Return a name that leaves room for a label in a file system's 255 bytes; a cut one ends in its own hash."""
    *folders, last = name.split("/")
    if len(os.fsencode(last)) > LONGEST:
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:8]
        last = os.fsdecode(os.fsencode(last)[: LONGEST - 9]).encode(errors="ignore").decode() + "_" + digest
    return "/".join([*folders, last])


def _file_name(text: str) -> str:
    """Return a text as one file name: no separators, no leading dot, not too long."""
    return _short(re.sub(r"[/\\\x00-\x1f]|^\.", "_", text) or "_")


def _mean(values: list[float]) -> float:
    measured = [v for v in values if math.isfinite(v)]
    return sum(measured) / len(measured) if measured else math.inf
