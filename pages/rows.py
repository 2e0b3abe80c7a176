"""Return the HTML of a gallery's parts: rows of images, metrics, the toolbar and links between pages.

assets/dom.js makes the same elements. Names of files, labels, classes and runs go through `format_html`, which escapes
them, and through `relative_url`.
"""

import math
import os
import re
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote


class Column(NamedTuple):
    """A metric of the rows. better: "lower", "higher" or "" (unknown); run: its run, if several are compared."""

    metric: str
    better: str = ""
    run: str = ""


class Picture(NamedTuple):
    """One image of a row: its file is named (stem of the row) + tail, in the folder with the URL `base`."""

    label: str
    tail: str
    width: int
    height: int
    base: str = "images/"


_ROW_TEMPLATE = '<section class="row{0}"><div class="head"><h3 dir="auto">{1}</h3>'
_COMPARE_BUTTON = '<button type="button" class="compare js">Compare</button>'
_PICTURE_TEMPLATE = (
    '<td><a class="picture" href="{0}"><img src="{0}" width="{1}" height="{2}" loading="lazy" decoding="async"'
    ' alt="{3}"></a><span class="label" dir="auto">{3}</span></td>'
)
_TILE_TEMPLATE = (
    '<figure class="row tile"><a class="picture" href="{0}"><img src="{0}" width="{1}" height="{2}" loading="lazy"'
    ' decoding="async" alt="{3}"></a><figcaption class="label">{3}</figcaption></figure>'
)


def display_text(text: object) -> str:
    """Return a text that can be displayed: bytes of a file name that are not UTF-8 become U+FFFD."""
    return re.sub("[\ud800-\udfff]", "\ufffd", str(text))


def format_html(template: str, *values: object) -> str:
    """Return a template with {0}, {1}, ... replaced by the values, escaped for text and for attributes."""
    return template.format(*(escape(display_text(value)) for value in values))


def relative_url(base: str, file: str) -> str:
    """Return the relative URL of a file, whose name need not be UTF-8. base: its folder's URL, percent-encoded."""
    return base + quote(os.fsencode(file))


def row_html(
    name: str,
    stem: str,
    pictures: Sequence[Picture],
    columns: Sequence[Column],
    metrics: Sequence[float] = (),
    wide: bool = False,
    side: Sequence[str] = (),
    page: str = "",
    said: str = "",
    stems: Sequence[str] = (),
) -> str:
    """Return one row: heading, metrics, and images with their labels.

    wide: show images in their full size; side: names beside a sheet's rows; page, said: a link to more and its text;
    stems: of each image, if they differ.
    """
    parts = [format_html(_ROW_TEMPLATE, " wide" if wide else "", name)]
    if page:
        parts.append(format_html('<a class="more" href="{0}">{1}</a>', relative_url("", page), said))
    if metrics:
        parts.append(metrics_html(columns, metrics))
    parts += [_COMPARE_BUTTON if len(pictures) > 1 else "", '</div><table role="presentation"><tbody><tr>']
    if side:
        names = "".join(format_html('<span dir="auto">{0}</span>', text) for text in side)
        parts.append(f'<td class="side"><div>{names}</div></td>')
    parts += [
        format_html(_PICTURE_TEMPLATE, relative_url(p.base, own_stem + p.tail), p.width, p.height, p.label)
        for p, own_stem in zip(pictures, stems or [stem] * len(pictures))
    ]
    return "".join([*parts, "</tr></tbody></table></section>"])


def tile_html(stem: str, picture: Picture) -> str:
    """Return one image with its label, outside a row."""
    return format_html(
        _TILE_TEMPLATE, relative_url(picture.base, stem + picture.tail), picture.width, picture.height, picture.label
    )


def metrics_html(columns: Sequence[Column], metrics: Sequence[float]) -> str:
    """Return metrics as text; if runs are compared, one line per metric with the best value marked."""
    if not any(column.run for column in columns):
        text = ", ".join(f"{column.metric} {format_number(value)}" for column, value in zip(columns, metrics))
        return format_html('<p class="figures">{0}</p>', text)
    lines = []
    for metric in dict.fromkeys(column.metric for column in columns):
        run_metrics = [(column, value) for column, value in zip(columns, metrics) if column.metric == metric]
        best = best_index([value for _, value in run_metrics], run_metrics[0][0].better)
        cells = "".join(
            format_html(
                '<span class="{0}"><span dir="auto">{1}</span> {2}</span>',
                "best" if i == best else "figure",
                column.run,
                format_number(value),
            )
            for i, (column, value) in enumerate(run_metrics)
        )
        lines.append(format_html('<p class="figures"><b>{0}</b>', metric) + cells + "</p>")
    return "".join(lines)


def best_index(values: Sequence[float], better: str) -> int:
    """Return the index of the only best value; -1 if `better` is unknown, or several values are best."""
    numbers = [value for value in values if not math.isnan(value)]
    if not better or not numbers:
        return -1
    best_value = min(numbers) if better == "lower" else max(numbers)
    return values.index(best_value) if list(values).count(best_value) == 1 and len(numbers) > 1 else -1


def format_number(value: float) -> str:
    """Return a value with four significant digits, "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def toolbar_html(columns: Sequence[Column], width: int, sizes_only: bool = False) -> str:
    """Return the toolbar for search, order and image size; it is hidden unless scripts run."""
    largest = max(768, width)
    size = f'<label>Size <input type="range" class="size" min="48" max="{largest}" step="8" value="{width}"></label>'
    if sizes_only:
        return f'<div class="toolbar js">{size}</div>'
    orders = [("", "as listed"), ("name", "name, A to Z"), ("-name", "name, Z to A")]
    for i, column in enumerate(columns):
        title = column.metric + (f" of {column.run}" if column.run else "")
        down, up = {"lower": ("best", "worst"), "higher": ("worst", "best")}.get(column.better, ("lowest", "highest"))
        both = [(str(i), f"{title}, {down} first"), (f"-{i}", f"{title}, {up} first")]
        orders += both[::-1] if column.better == "higher" else both
    runs = list(dict.fromkeys(column.run for column in columns))
    if len(runs) == 2:
        for i, column in enumerate(columns):
            for j, other in enumerate(columns):
                if column.metric == other.metric and column.run != other.run and column.better:
                    wins = f"{column.metric}: where {column.run} wins most"
                    orders.append((f"{i}:{j}" if column.better == "lower" else f"{j}:{i}", wins))
    options = "".join(format_html('<option value="{0}">{1}</option>', *order) for order in orders)
    return (
        '<div class="toolbar js" role="search"><label>Search <input type="search" class="search" placeholder="a name"'
        ' autocomplete="off" spellcheck="false"></label>'
        f'<label>Order <select class="order">{options}</select></label>'
        f"{size}"
        '<span class="said" role="status" aria-live="polite"></span></div>'
    )


def pager_html(files: Sequence[str], number: int) -> str:
    """Return links between numbered pages; they need no script. number: of the page that shows them, from 1."""
    last = len(files)
    if last == 1:
        return ""
    near = sorted({1, last, *range(max(1, number - 2), min(last, number + 2) + 1)})
    parts = ['<nav class="pager" aria-label="Pages">']
    parts.append(_pager_link("prev", "Previous", files[number - 2] if number > 1 else ""))
    for before, n in zip([0, *near], near):
        if n > before + 1:
            parts.append("<span>…</span>")
        current = ' aria-current="page"' if n == number else ""
        parts.append(format_html('<a href="{0}"', relative_url("", files[n - 1])) + f"{current}>{n}</a>")
    parts.append(_pager_link("next", "Next", files[number] if number < last else ""))
    return "".join([*parts, "</nav>"])


def _pager_link(rel: str, word: str, file: str) -> str:
    if not file:
        return f'<span class="off">{word}</span>'
    return format_html(f'<a rel="{rel}" href="{{0}}">{word}</a>', relative_url("", file))


def means_html(caption: str, means: dict[str, Any]) -> str:
    """Return means as one line of names and values."""
    cells = "".join(
        format_html("<div><dt>{0}</dt><dd>{1}</dd></div>", name, format_number(v)) for name, v in means.items()
    )
    return format_html('<p class="quiet">{0}</p>', caption) + f'<dl class="means">{cells}</dl>'
