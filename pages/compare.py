"""Write a page that compares the results of several runs: one row per input, with metrics and losses."""

import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pages.names import natural_key
from pages.paged_gallery import ROWS_JS_PREFIX, ROWS_JS_SUFFIX, PagedGallery, page_frame
from pages.results_folder import METRICS_FILE
from pages.rows import Column, Picture, best_index, format_html, format_number, relative_url
from util.atomic_write import replace_text
from util.errors import DataError, count_text, printable

MAX_LISTED_INPUTS = 300  # names on the page of inputs that a run lacks; unmatched.txt lists all of them
LOSSES_HTML = '<details id="losses" class="js"><summary>losses</summary><div id="curves"></div></details>'
SHARED_LABEL_PREFIX = "real"  # such labels are inputs and targets: equal in all runs, shown once
SCRIPTS = ("curves.js", "scroll.js", "compare.js")
_IMAGE_NAME = re.compile(r"(.+)_((?:real|fake|rec|idt)(?:_[AB](?:_rgb)?)?)\.png")


class InputResult(NamedTuple):
    """A run's results for one input: its images, whose tails are whole file names below images/, and its metrics."""

    pictures: list[Picture]
    metrics: dict[str, float]
    extra: dict[str, Any]


class RunResults(NamedTuple):
    """One run's results: its name on the page, its folder, its inputs in order, and each metric's better direction."""

    name: str
    folder: Path
    inputs: dict[str, InputResult]
    better: dict[str, str]


def read_results(name: str, folder: Path) -> RunResults:
    """Read a results folder by its rows.js; without one (another program's results), by its image names.

    Raises DataError for a folder without images.
    """
    try:
        rows = folder / "rows.js"
        text = rows.read_text(encoding="utf-8") if rows.exists() else ""
        table = json.loads(text.removeprefix(ROWS_JS_PREFIX).removesuffix(ROWS_JS_SUFFIX)) if text else {}
        items, better = _results_from_table(table) if table else _results_from_file_names(folder)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise DataError("file", folder / "rows.js", "is damaged, or not from GANvas", "run test.py again") from problem
    if not items and any((folder / "images").iterdir()) and (folder / METRICS_FILE).is_file():
        why = "has no page, because test.py --results_only wrote it"
        raise DataError("folder", folder, why, "run test.py without --results_only")
    if not items:
        raise DataError("folder", folder, "contains no results", "run test.py, or name its PHASE_EPOCH folder")
    return RunResults(name, folder, items, better)


def _results_from_table(table: dict[str, Any]) -> tuple[dict[str, InputResult], dict[str, str]]:
    """Return the inputs and the better directions of the metrics that rows.js holds."""
    metric_names = [str(column["metric"]) for column in table["columns"]]
    items = {}
    for name, kind, size, metrics, *more in table["rows"]:
        extra = dict(more[0]) if more else {}
        stem = str(extra.pop("stem", name))
        side_lengths, kinds = [int(length) for length in table["sizes"][size]], table["kinds"][kind]
        stems = list(map(str, extra.get("stems", ()))) or [stem] * len(kinds)
        pictures = [
            Picture(str(label), own_stem + str(tail), width, height)
            for (label, tail, _), own_stem, width, height in zip(kinds, stems, side_lengths[::2], side_lengths[1::2])
        ]
        extra_kept = {key: extra[key] for key in ("wide", "side") if key in extra}
        items[str(name)] = InputResult(pictures, dict(zip(metric_names, map(float, metrics))), extra_kept)
    return items, {str(column["metric"]): str(column["better"]) for column in table["columns"]}


def _results_from_file_names(folder: Path) -> tuple[dict[str, InputResult], dict[str, str]]:
    """Return the inputs by their image names, STEM_LABEL.png with the reference's labels; metrics are unknown."""
    items: dict[str, InputResult] = {}
    for path in sorted((folder / "images").glob("*.png"), key=lambda path: natural_key(path.name)):
        if found := _IMAGE_NAME.fullmatch(path.name):
            item = items.setdefault(found[1], InputResult([], {}, {}))
            item.pictures.append(Picture(found[2], path.name, *_png_size(path)))
    return items, {}


def _png_size(path: Path) -> tuple[int, int]:
    with open(path, "rb") as file:
        head = file.read(24)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        raise DataError("file", path, "is not a PNG image", "remove it or run test.py again")
    return struct.unpack(">II", head[16:24])


def _finite_mean(values: Any) -> float | None:
    finite_values = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return float(f"{sum(finite_values) / len(finite_values):.6g}") if finite_values else None


def write_comparison(folder: Path, runs: Sequence[RunResults], curves: list[dict[str, Any]], width: int) -> list[str]:
    """Write the pages of a comparison; return lines of text with the inputs that some runs lack.

    curves: {"x", "lines"} of each run's losses (displays.loss_log). Raises DataError if the runs have no input in
    common.
    """
    # Find the inputs that all runs have.
    common = [name for name in runs[0].inputs if all(name in run.inputs for run in runs[1:])]
    if not any("wide" in result.extra for result in runs[0].inputs.values()):  # sheets have an order of their own
        common.sort(key=natural_key)
    if not common:
        names = ", ".join(run.name for run in runs)
        some = " and ".join(repr(next(iter(run.inputs))) for run in runs)
        raise DataError("runs", names, f"have no input in common ({some})", "test them on the same images")

    # Prepare the gallery.
    folder.mkdir(parents=True, exist_ok=True)
    title = " and ".join(run.name for run in runs)
    columns, missing = _make_columns(runs), _unmatched_inputs(runs, set(common))
    bases = [relative_url("", os.path.relpath(run.folder, folder)) + "/" for run in runs]
    run_curves = [{"name": run.name, **curve} for run, curve in zip(runs, curves) if curve["x"]]
    first_frame = page_frame(title, ("curves.css",), SCRIPTS, {"runs": run_curves})
    heading, pair = _heading_html(runs, bases, len(common)), _slider_labels(runs, common[0])
    gallery = PagedGallery(folder, title, heading, columns, width, pair, first_frame)
    metrics = {name: _row_metrics(name, runs, columns) for name in common}
    losses_html = LOSSES_HTML if run_curves else ""
    gallery.intro = _means_html(columns, list(metrics.values())) + losses_html + _unmatched_html(missing)

    # Add a row for each input.
    for name in common:
        pictures = _row_pictures(name, runs, bases)
        starts_with_name = all(picture.tail.startswith(name) for picture in pictures)
        stem = name if starts_with_name else ""  # rows that share the rest of the file name take less space
        pictures = [picture._replace(tail=picture.tail.removeprefix(stem)) for picture in pictures]
        gallery.add(name, pictures, metrics[name], stem, **runs[0].inputs[name].extra)
    gallery.close()

    # List the other inputs.
    if missing:
        replace_text(folder / "unmatched.txt", "\n".join(missing) + "\n", errors="replace")
    else:
        (folder / "unmatched.txt").unlink(missing_ok=True)
    return missing


def _make_columns(runs: Sequence[RunResults]) -> list[Column]:
    metrics = dict.fromkeys(metric for run in runs for metric in run.better)
    better = {m: next((run.better[m] for run in runs if run.better.get(m)), "") for m in metrics}
    return [Column(metric, better[metric], run.name) for metric in metrics for run in runs]


def _row_metrics(name: str, runs: Sequence[RunResults], columns: Sequence[Column]) -> list[float]:
    metrics_by_run = {run.name: run.inputs[name].metrics for run in runs}
    return [metrics_by_run[column.run].get(column.metric, math.nan) for column in columns]


def _row_pictures(name: str, runs: Sequence[RunResults], bases: Sequence[str]) -> list[Picture]:
    """Return the images of an input: first those equal in all runs, once, then each run's own."""
    found: dict[str, list[tuple[str, Picture, int]]] = {}  # label: (run, image, bytes of its file)
    for run, base in zip(runs, bases):
        for picture in run.inputs[name].pictures:
            size = _file_size(f"{run.folder}/images/{picture.tail}")
            if size is not None:
                of_label = found.setdefault(picture.label, [])
                of_label.append((run.name, picture._replace(base=base + "images/"), size))
    shared, own = [], []
    for label, of_label in found.items():
        sizes = {(size, picture.width, picture.height) for _, picture, size in of_label}
        if label.startswith(SHARED_LABEL_PREFIX) and len(sizes) == 1:
            shared.append(of_label[0][1])
        else:
            own += [picture._replace(label=run_label(label, run)) for run, picture, _ in of_label]
    return shared + own


def run_label(label: str, run: str) -> str:
    """Return the label of an image that belongs to one run."""
    return f"{label} · {run}"


def _file_size(path: str) -> int | None:
    """Return a file's size in bytes; images of equal size count as equal, because reading all would take minutes."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # the file was removed, or the name is impossible: the image is not shown
        return None


def _slider_labels(runs: Sequence[RunResults], name: str) -> tuple[str, str]:
    """Return the two labels that the slider shows first: the same output of the first two runs."""
    labels = [[picture.label for picture in run.inputs[name].pictures] for run in runs[:2]]
    common_labels = [label for label in labels[0] if label in labels[1] and not label.startswith(SHARED_LABEL_PREFIX)]
    best_label = min(
        common_labels, key=lambda label: (not label.startswith("fake_B"), not label.startswith("fake")), default=""
    )
    return (run_label(best_label, runs[0].name), run_label(best_label, runs[1].name)) if best_label else ("", "")


def _heading_html(runs: Sequence[RunResults], bases: Sequence[str], count: int) -> str:
    links = []
    for run, base in zip(runs, bases):
        template = '<a href="{0}">{1}</a>' if (run.folder / "index.html").is_file() else "{1}"
        links.append(format_html(template, base + "index.html", run.name))
    head = format_html('<h1 dir="auto">{0}</h1>', " and ".join(run.name for run in runs))
    inputs = count_text(count, "input")
    return head + f'<p class="quiet">{inputs} of {", ".join(links)}</p>'


def _means_html(columns: Sequence[Column], metrics: Sequence[Sequence[float]]) -> str:
    """Return a table of each metric's mean by run, with the best marked and the number of rows where a run is best."""
    runs = list(dict.fromkeys(column.run for column in columns))
    if not runs:
        return ""
    head = "".join(format_html('<th scope="col" dir="auto">{0}</th>', run) for run in runs)
    lines = []
    for start in range(0, len(columns), len(runs)):
        metric, better, _ = columns[start]
        metric_rows = [row[start : start + len(runs)] for row in metrics]
        means = [_finite_mean(row[i] for row in metric_rows) for i in range(len(runs))]
        best_run = best_index([math.nan if mean is None else mean for mean in means], better)
        wins = Counter(best_index(row, better) for row in metric_rows)
        cells = ""
        for i, mean in enumerate(means):
            mark, text = "best" if i == best_run else "", "-" if mean is None else format_number(mean)
            compared = better and mean is not None and sum(other is not None for other in means) > 1
            wins_text = f"best in {wins[i]} of {len(metric_rows)}" if compared else ""
            cells += format_html('<td class="{0}">{1} <span class="quiet">{2}</span></td>', mark, text, wins_text)
        lines.append(format_html('<tr><th scope="row">{0}</th>', f"mean {metric}") + cells + "</tr>")
    return f'<div class="scroll"><table class="means-of"><tr><td></td>{head}</tr>{"".join(lines)}</table></div>'


def _unmatched_inputs(runs: Sequence[RunResults], common: set[str]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.inputs if name not in common)
    runs_by_input = {name: ", ".join(run.name for run in runs if name in run.inputs) for name in names}
    return [printable(f"{name}: only in {runs_by_input[name]}") for name in sorted(runs_by_input, key=natural_key)]


def _unmatched_html(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    items = "".join(format_html('<li dir="auto">{0}</li>', line) for line in missing[:MAX_LISTED_INPUTS])
    count_text = "1 input is" if len(missing) == 1 else f"{len(missing)} inputs are"
    link = '<p><a href="unmatched.txt">all of them</a></p>' if len(missing) > MAX_LISTED_INPUTS else ""
    return f"<details><summary>{count_text} not in all runs and not shown</summary><ul>{items}</ul>{link}</details>"
