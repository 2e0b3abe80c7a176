"""Results of several runs on one page: an input's row holds what each run made of it, with figures and losses."""

import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pages.gallery import ROWS_END, ROWS_HEAD, Book, frame
from pages.rows import Column, Picture, address, best_of, brief, filled
from util.atomic_write import replace_text
from util.errors import DataError, printable

NAMED = 300  # inputs that not all runs have, by name on the page; all are in unmatched.txt
LOSSES = '<details id="losses" class="js"><summary>losses</summary><div id="curves"></div></details>'
SHARED = "real"  # labels that begin so are inputs and truths: the same for all runs, shown once
_LABELS = re.compile(r"(.+)_((?:real|fake|rec|idt)(?:_[AB](?:_rgb)?)?)\.png")


class Item(NamedTuple):
    """What a run has for one input: (label, file below its images/, width, height) of each picture, and figures."""

    pictures: list[tuple[str, str, int, int]]
    figures: dict[str, float]
    extra: dict[str, Any]


class Side(NamedTuple):
    """One run's results: its name here, its folder, its inputs in order, which values of a metric are better."""

    name: str
    folder: Path
    items: dict[str, Item]
    better: dict[str, str]


def read_results(name: str, folder: Path) -> Side:
    """Read a folder that test.py wrote, by its rows.js; one of another program by its pictures' names.

    Raises DataError for a folder without pictures.
    """
    items: dict[str, Item] = {}
    better: dict[str, str] = {}
    try:
        text = _text(folder / "rows.js")
        table = json.loads(text.removeprefix(ROWS_HEAD).removesuffix(ROWS_END)) if text else {}
        items, better = _items(table) if table else _listed(folder)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as problem:
        raise DataError("file", folder / "rows.js", "is damaged, or no file of ours", "run test.py again") from problem
    if not items:
        raise DataError("folder", folder, "holds no results", "run test.py, or name its PHASE_EPOCH folder")
    return Side(name, folder, items, better)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:  # results of another program
        return ""


def _items(table: dict[str, Any]) -> tuple[dict[str, Item], dict[str, str]]:
    """Return what rows.js tells."""
    metrics = [str(column["metric"]) for column in table["columns"]]
    items = {}
    for name, kind, size, figures, *more in table["rows"]:
        extra = dict(more[0]) if more else {}
        stem = str(extra.pop("stem", name))
        sides = [int(side) for side in table["sizes"][size]]
        pictures = [(str(label), stem + str(tail), width, height) for (label, tail, _), width, height
                    in zip(table["kinds"][kind], sides[::2], sides[1::2])]  # fmt: skip
        kept = {key: extra[key] for key in ("wide", "side") if key in extra}
        items[str(name)] = Item(pictures, dict(zip(metrics, map(float, figures))), kept)
    return items, {str(column["metric"]): str(column["better"]) for column in table["columns"]}


def _listed(folder: Path) -> tuple[dict[str, Item], dict[str, str]]:
    """Return what the names of pictures tell: STEM_LABEL.png with the reference's labels."""
    items: dict[str, Item] = {}
    for path in sorted((folder / "images").glob("*.png")):
        if found := _LABELS.fullmatch(path.name):
            items.setdefault(found[1], Item([], {}, {})).pictures.append((found[2], path.name, *_png_size(path)))
    return items, {}


def _png_size(path: Path) -> tuple[int, int]:
    with open(path, "rb") as file:
        head = file.read(24)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        raise DataError("file", path, "is no PNG picture", "remove it or run test.py again")
    return struct.unpack(">II", head[16:24])


def _mean(values: Any) -> float | None:
    known = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return float(f"{sum(known) / len(known):.6g}") if known else None


def write_comparison(folder: Path, sides: Sequence[Side], curves: Sequence[dict[str, Any]], width: int) -> list[str]:
    """Write the pages of a comparison; return, as lines of text, the inputs that not all runs have.

    curves: {"x", "lines"} of each run's losses (displays.curves). Raises DataError where the runs have
    no input in common.
    """
    common = [name for name in sides[0].items if all(name in side.items for side in sides[1:])]
    if not common:
        names = ", ".join(side.name for side in sides)
        some = " and ".join(repr(next(iter(side.items))) for side in sides)
        raise DataError("runs", names, f"have no input in common ({some})", "test them on the same pictures")
    folder.mkdir(parents=True, exist_ok=True)
    title = " and ".join(side.name for side in sides)
    columns, missing = _columns(sides), _missing(sides, set(common))
    bases = [address("", os.path.relpath(side.folder, folder)) + "/" for side in sides]
    runs = [{"name": side.name, **curve} for side, curve in zip(sides, curves) if curve["x"]]
    book = Book(folder, title, _heading(sides, bases, len(common)), columns, width, _pair(sides, common[0]),
                frame(title, ("curves.css",), ("curves.js", "compare.js"), {"runs": runs}))  # fmt: skip
    figures = {name: _figures(name, sides, columns) for name in common}
    book.intro = _means(columns, list(figures.values())) + (LOSSES if runs else "") + _listing(missing)
    for name in common:
        pictures = _pictures(name, sides, bases)
        named = all(file.startswith(name) for _, file, *_ in pictures)
        cut = len(name) if named else 0  # so that most rows share what follows their names
        shown = [Picture(label, file[cut:], width, height, base) for label, file, width, height, base in pictures]
        book.add(name, shown, figures[name], stem=name if named else "", **sides[0].items[name].extra)
    book.close()
    if missing:
        replace_text(folder / "unmatched.txt", "\n".join(missing) + "\n", errors="replace")
    else:
        (folder / "unmatched.txt").unlink(missing_ok=True)
    return missing


def _columns(sides: Sequence[Side]) -> list[Column]:
    metrics = dict.fromkeys(metric for side in sides for metric in side.better)
    better = {m: next((side.better[m] for side in sides if side.better.get(m)), "") for m in metrics}
    return [Column(metric, better[metric], side.name) for metric in metrics for side in sides]


def _figures(name: str, sides: Sequence[Side], columns: Sequence[Column]) -> list[float]:
    of = {side.name: side.items[name].figures for side in sides}
    return [of[column.run].get(column.metric, math.nan) for column in columns]


def _pictures(name: str, sides: Sequence[Side], bases: Sequence[str]) -> list[tuple[str, str, int, int, str]]:
    """Return (label, file, width, height, base) of a row: what is the same for all once, then each run's beside it."""
    found: dict[str, list[tuple[Side, tuple[str, int, int, str], int]]] = {}
    for side, base in zip(sides, bases):
        for label, file, width, height in side.items[name].pictures:
            size = _bytes(f"{side.folder}/images/{file}")
            if size is not None:
                found.setdefault(label, []).append((side, (file, width, height, base + "images/"), size))
    shared = {label for label, mine in found.items() if label.startswith(SHARED) and _equal(mine)}
    once = [(label, *found[label][0][1]) for label in found if label in shared]
    each = [(own_label(label, side.name), *shown) for label in found if label not in shared
            for side, shown, _ in found[label]]  # fmt: skip
    return once + each


def _equal(mine: Sequence[tuple[Side, tuple[str, int, int, str], int]]) -> bool:
    return len({(size, width, height) for _, (_, width, height, _), size in mine}) == 1


def own_label(label: str, run: str) -> str:
    """Return the label of a run's own picture."""
    return f"{label} · {run}"


def _bytes(path: str) -> int | None:
    """Return a file's size, by which pictures are held equal: reading all of them would take minutes."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # removed since, or a name that no file can have: not shown
        return None


def _pair(sides: Sequence[Side], name: str) -> tuple[str, str]:
    """Return the labels that the slider shows at first: the same output of the first two runs."""
    labels = [[label for label, *_ in side.items[name].pictures] for side in sides[:2]]
    both = [label for label in labels[0] if label in labels[1] and not label.startswith(SHARED)]
    best = min(both, key=lambda label: (not label.startswith("fake_B"), not label.startswith("fake")), default="")
    return (own_label(best, sides[0].name), own_label(best, sides[1].name)) if best else ("", "")


def _heading(sides: Sequence[Side], bases: Sequence[str], count: int) -> str:
    named = [filled('<a href="{0}">{1}</a>', base + "index.html", side.name)
             if (side.folder / "index.html").is_file() else filled("{0}", side.name)
             for side, base in zip(sides, bases)]  # fmt: skip
    head = filled('<h1 dir="auto">{0}</h1>', " and ".join(side.name for side in sides))
    return head + f'<p class="quiet">{count} inputs of {", ".join(named)}</p>'


def _means(columns: Sequence[Column], figures: Sequence[Sequence[float]]) -> str:
    """Return a table: each metric's mean over the rows by run, the best marked, and in how many rows a run is best."""
    runs = list(dict.fromkeys(column.run for column in columns))
    if not runs:
        return ""
    head = "".join(filled('<th scope="col" dir="auto">{0}</th>', run) for run in runs)
    lines = []
    for start in range(0, len(columns), len(runs)):
        metric, better, _ = columns[start]
        mine = [row[start : start + len(runs)] for row in figures]
        means = [_mean(row[i] for row in mine) for i in range(len(runs))]
        best = best_of([math.nan if mean is None else mean for mean in means], better)
        wins = Counter(best_of(row, better) for row in mine)
        cells = ""
        for i, mean in enumerate(means):
            text = "-" if mean is None else brief(mean)
            won = f"best in {wins[i]} of {len(mine)}" if better else ""
            cells += filled('<td class="{0}">{1} <span class="quiet">{2}</span></td>', "best" if i == best else "",
                            text, won)  # fmt: skip
        lines.append(filled('<tr><th scope="row">{0}</th>', f"mean {metric}") + cells + "</tr>")
    return f'<div class="scroll"><table class="means-of"><tr><td></td>{head}</tr>{"".join(lines)}</table></div>'


def _missing(sides: Sequence[Side], common: set[str]) -> list[str]:
    names = dict.fromkeys(name for side in sides for name in side.items if name not in common)
    having = {name: ", ".join(side.name for side in sides if name in side.items) for name in names}
    return [printable(f"{name}: only in {runs}") for name, runs in having.items()]


def _listing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    items = "".join(filled('<li dir="auto">{0}</li>', line) for line in missing[:NAMED])
    what = "1 input is" if len(missing) == 1 else f"{len(missing)} inputs are"
    rest = '<p><a href="unmatched.txt">all of them</a></p>' if len(missing) > NAMED else ""
    return f"<details><summary>{what} not in all runs, and not shown</summary><ul>{items}</ul>{rest}</details>"
