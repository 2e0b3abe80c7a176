"""Galleries: rows of pictures on numbered pages, and a file by which their script searches and sorts all rows."""

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dominate import tags
from dominate.util import raw

from pages import rows
from pages.document import document, embedded
from pages.rows import Column, Picture, filled
from util.atomic_write import replace_text

PER_PAGE = 100  # rows
TILES = 250  # pictures on a page without rows
PAGE_BYTES = 400_000  # of rows, after which the next page begins
FIRST_ROWS = 100  # after which rows.js is first written; then whenever their number has doubled
ROWS_HEAD, ROWS_END = "window.ganvasRows = ", ";\n"
SCRIPTS = ("dom.js", "slider.js", "viewer.js", "gallery.js")
Key = TypeVar("Key", bound=Hashable)
Frame = tuple[str, str]


class Row(NamedTuple):
    """A row as it is kept, small: 10,000 take a few megabytes. kind, size: places in the book's tables."""

    name: str
    stem: str
    kind: int
    size: int
    figures: tuple[float, ...]
    extra: dict[str, Any] | None  # as row_html takes it


class Table(dict[Key, int]):
    """Values, each once, numbered in the order in which they came."""

    def place(self, value: Key) -> int:
        """Return the number of a value, a new one where it is new."""
        return self.setdefault(value, len(self))


def frame(title: str, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = (), data: Any = None) -> Frame:
    """Return what stands before and behind a page's own part: made once, for all pages of a book."""
    page = document(rows.shown(title), ("gallery.css", *styles), (*SCRIPTS, *scripts), data)
    mark = "<!-- the page's own part -->"  # in no name: those are escaped
    with page:
        tags.span(raw(mark))
    before, _, after = page.render(pretty=False).partition(f"<span>{mark}</span>")
    return before, after


def page_name(stem: str, number: int) -> str:
    """Return a numbered page's file."""
    return f"{stem}.html" if number == 1 else f"{stem}_{number}.html"


class Book:
    """index.html, index_2.html, ... and rows.js in a folder, readable while rows are still added.

    A page is written when it begins, when its rows have doubled, and when it is full; all once more at the end, when
    their number is known. So what a row costs does not depend on how many there are. heading: HTML over the rows;
    intro: HTML that only the first page has, above them; first: the first page's frame, where it is another.
    """

    def __init__(self, folder: Path, title: str, heading: str, columns: Sequence[Column] = (), width: int = 256,
                 pair: tuple[str, str] = ("", ""), first: Frame | None = None):  # fmt: skip
        self.folder, self.heading, self.columns, self.width, self.pair = folder, heading, list(columns), width, pair
        self.later = frame(title)
        self.first = first or self.later
        self.intro = ""
        self.rows: list[Row] = []
        self.kinds: Table[tuple[tuple[str, str, str], ...]] = Table()  # of rows: label, tail and base of each picture
        self.sizes: Table[tuple[int, ...]] = Table()  # width, height, width, height, ...
        self.starts = [0]  # the first row of each page
        self.page: list[str] = []  # the newest page's rows as HTML
        self.bytes, self.due, self.rows_due = 0, 1, FIRST_ROWS
        self.tools = rows.toolbar_html(self.columns, width)

    def add(self, name: str, pictures: Iterable[Picture], figures: Sequence[float] = (), stem: str | None = None,
            **extra: Any) -> None:  # fmt: skip
        """Add a row; figures: one for each column; stem: of its files, if that is not its name; extra: see row_html."""
        listed = list(pictures)
        kind = self.kinds.place(tuple((p.label, p.tail, p.base) for p in listed))
        size = self.sizes.place(tuple(side for p in listed for side in (p.width, p.height)))
        rounded = tuple(float(f"{value:.7g}") for value in figures)  # as rows.js has them
        self.rows.append(Row(name, name if stem is None else stem, kind, size, rounded, extra or None))
        full = self._put(rows.row_html(name, self.rows[-1].stem, listed, self.columns, rounded, **extra))
        if len(self.page) >= self.due:
            self._write(len(self.starts), self.page)
            self.due *= 2
        if full:  # now with a link to the next one
            self._write(len(self.starts) - 1, full)
        if len(self.rows) >= self.rows_due:
            self._write_rows()
            self.rows_due *= 2

    def _put(self, html: str) -> list[str]:
        """Put a row on the newest page, or on a new one if that is full; return the rows of a page that was full."""
        length, full = len(html.encode(errors="replace")), []
        if self.page and (len(self.page) == PER_PAGE or self.bytes + length > PAGE_BYTES):
            full, self.page, self.bytes, self.due = self.page, [], 0, 1
            self.starts.append(len(self.rows) - 1)
        self.page.append(html)
        self.bytes += length
        return full

    def close(self) -> None:
        """Write all pages, the first last, now that their number is known; remove those of an earlier, longer book."""
        self._write_rows()
        kinds, sizes = list(self.kinds), list(self.sizes)
        ends = [*self.starts[1:], len(self.rows)]
        for number in range(len(self.starts), 0, -1):
            shown = self.rows[self.starts[number - 1] : ends[number - 1]]
            self._write(number, [self._html(row, kinds[row.kind], sizes[row.size]) for row in shown])
        for old in self.folder.glob("index_*.html"):
            if (found := re.fullmatch(r"index_([0-9]{1,9})\.html", old.name)) and int(found[1]) > len(self.starts):
                old.unlink()

    def _html(self, row: Row, kind: tuple[tuple[str, str, str], ...], size: tuple[int, ...]) -> str:
        sides = zip(size[::2], size[1::2])
        pictures = [Picture(label, tail, *side, base) for (label, tail, base), side in zip(kind, sides)]
        return rows.row_html(row.name, row.stem, pictures, self.columns, row.figures, **row.extra or {})

    def _write(self, number: int, shown: list[str]) -> None:
        pages = rows.pager_html([page_name("index", n + 1) for n in range(len(self.starts))], number)
        opened = filled('<main class="gallery" data-rows="rows.js" data-left="{0}" data-right="{1}"', *self.pair)
        body = (
            f'{opened} style="--width:{self.width}px">{self.heading}{self.intro if number == 1 else ""}{self.tools}'
            f'{pages}<div class="rows">{"".join(shown)}</div>{pages}</main>'
        )
        _replace(self.folder / page_name("index", number), self.first if number == 1 else self.later, body)

    def _write_rows(self) -> None:
        """Write what the script searches: a .js file, for a page opened from a disk may load no other kind."""
        table = {
            "columns": [column._asdict() for column in self.columns],
            "kinds": list(self.kinds),
            "sizes": list(self.sizes),
            "rows": [_packed(row) for row in self.rows],
        }
        replace_text(self.folder / "rows.js", ROWS_HEAD + embedded(table) + ROWS_END)


def _packed(row: Row) -> list[Any]:
    figures = [value if math.isfinite(value) else str(value) for value in row.figures]
    more = dict(row.extra or {}) | ({"stem": row.stem} if row.stem != row.name else {})
    return [row.name, row.kind, row.size, figures, *([more] if more else [])]


def write_tiles(folder: Path, stem: str, title: str, heading: str, pictures: list[tuple[str, Picture]],
                width: int) -> None:  # fmt: skip
    """Write pages of pictures without rows, (stem of its file, picture) each: STEM.html, STEM_2.html, ..."""
    around = frame(title)
    count = tile_pages(len(pictures))
    files = [page_name(stem, n) for n in range(1, count + 1)]
    for number in range(count, 0, -1):
        tiles = "".join(rows.tile_html(*tile) for tile in pictures[(number - 1) * TILES : number * TILES])
        pages = rows.pager_html(files, number)
        body = (
            f'<main class="gallery" style="--width:{width}px">{heading}{rows.toolbar_html((), width, sizes_only=True)}'
            f'{pages}<div class="rows tiles">{tiles}</div>{pages}</main>'
        )
        _replace(folder / files[number - 1], around, body)


def tile_pages(count: int) -> int:
    """Return how many pages so many pictures take."""
    return max(1, -(-count // TILES))


def _replace(path: Path, around: Frame, body: str) -> None:
    replace_text(path, around[0] + body + around[1], errors="replace")
