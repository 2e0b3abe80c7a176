"""Write galleries: rows of images on numbered pages, and rows.js with which their script searches and sorts."""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dominate import tags
from dominate.util import raw

from pages import rows
from pages.document import make_document, to_embedded_json
from pages.rows import Column, Picture, format_html
from util.atomic_write import replace_text

ROWS_PER_PAGE = 100
TILES_PER_PAGE = 250  # images on a page without rows
MAX_PAGE_BYTES = 400_000  # bytes of rows; a longer page is split
FIRST_ROWS_JS_ROWS = 100  # rows.js is first written after so many rows, then each time the number doubles
ROWS_JS_PREFIX, ROWS_JS_SUFFIX = "window.ganvasRows = ", ";\n"
SCRIPTS = ("dom.js", "slider.js", "viewer.js", "gallery.js")
Value = TypeVar("Value", bound=Hashable)
PageFrame = tuple[str, str]


class Row(NamedTuple):
    """A row in a compact form: 10,000 rows take a few MB. kind, size: indices into the gallery's tables."""

    name: str
    stem: str
    kind: int
    size: int
    metrics: tuple[float, ...]
    extra: dict[str, Any] | None  # keyword arguments of row_html


class ValueIndex(dict[Value, int]):
    """Number distinct values in the order in which they first occur."""

    def index(self, value: Value) -> int:
        """Return the number of a value; a new value gets the next number."""
        return self.setdefault(value, len(self))


def page_frame(title: str, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = (), data: Any = None) -> PageFrame:
    """Return the HTML before and after a page's own part; it is made once for all pages of a gallery."""
    page = make_document(rows.display_text(title), ("gallery.css", *styles), (*SCRIPTS, *scripts), data)
    mark = "<!-- the page's own part -->"  # no name contains it, because names are escaped
    with page:
        tags.span(raw(mark))
    before, _, after = page.render(pretty=False).partition(f"<span>{mark}</span>")
    return before, after


def page_file_name(stem: str, number: int) -> str:
    """Return the file name of a numbered page."""
    return f"{stem}.html" if number == 1 else f"{stem}_{number}.html"


class PagedGallery:
    """Write index.html, index_2.html, ... and rows.js; they are readable while rows are still added.

    A page is written when it starts, each time its rows double, and when it is full. All pages are written once more at
    the end, because their links need the number of pages. So the cost of a row does not depend on the number of rows.
    heading: HTML above the rows; intro: HTML above the rows of the first page only; first_frame: the first page's frame
    if it differs; on_file: called with the name of each file before it is written.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        heading: str,
        columns: Sequence[Column] = (),
        width: int = 256,
        pair: tuple[str, str] = ("", ""),
        first_frame: PageFrame | None = None,
        on_file: Callable[[str], object] | None = None,
    ):
        self.folder, self.heading, self.columns, self.width, self.pair = folder, heading, list(columns), width, pair
        self.later_frame = page_frame(title)
        self.first_frame = first_frame or self.later_frame
        self.intro = ""
        self.on_file = on_file
        self.rows: list[Row] = []
        self.row_bytes: list[int] = []  # of each row as HTML
        # label, tail and base of each image of a row
        self.kinds: ValueIndex[tuple[tuple[str, str, str], ...]] = ValueIndex()
        self.sizes: ValueIndex[tuple[int, ...]] = ValueIndex()  # width, height, width, height, ...
        self.page_starts = [0]  # the first row of each page
        self.page_rows: list[str] = []  # the newest page's rows as HTML
        self.page_bytes, self.next_page_write, self.next_rows_write = 0, 1, FIRST_ROWS_JS_ROWS
        self.pages_written = 0
        self.toolbar = rows.toolbar_html(self.columns, width)

    def add(
        self,
        name: str,
        pictures: Iterable[Picture],
        metrics: Sequence[float] = (),
        stem: str | None = None,
        **extra: Any,
    ) -> None:
        """Add a row. metrics: one per column; stem: of its files, if it is not `name`; extra: see row_html."""
        picture_list = list(pictures)
        kind = self.kinds.index(tuple((p.label, p.tail, p.base) for p in picture_list))
        size = self.sizes.index(tuple(side for p in picture_list for side in (p.width, p.height)))
        rounded = tuple(float(f"{value:.7g}") for value in metrics)  # the precision of rows.js
        self.rows.append(Row(name, name if stem is None else stem, kind, size, rounded, extra or None))
        full = self._append_html(rows.row_html(name, self.rows[-1].stem, picture_list, self.columns, rounded, **extra))
        if len(self.page_rows) >= self.next_page_write:
            self._write_page(len(self.page_starts), self.page_rows)
            self.next_page_write *= 2
        if full:  # write the finished page with a link to the next one
            self._write_page(len(self.page_starts) - 1, full)
        if len(self.rows) >= self.next_rows_write:
            self._write_rows_js()
            self.next_rows_write *= 2

    def _append_html(self, html: str) -> list[str]:
        """Append a row to the newest page, or start a new one if that is full; return the rows of the full page."""
        length, full = len(html.encode(errors="replace")), []
        self.row_bytes.append(length)
        if _is_full(len(self.page_rows), self.page_bytes, length):
            full, self.page_rows, self.page_bytes, self.next_page_write = self.page_rows, [], 0, 1
            self.page_starts.append(len(self.rows) - 1)
        self.page_rows.append(html)
        self.page_bytes += length
        return full

    def sort(self, key: Callable[[Row], Any]) -> None:
        """Sort all rows and divide them into pages again; the files change with `close`."""
        order = sorted(range(len(self.rows)), key=lambda i: key(self.rows[i]))
        self.rows, self.row_bytes = [self.rows[i] for i in order], [self.row_bytes[i] for i in order]
        self.page_starts, page_bytes = [0], 0
        for i, length in enumerate(self.row_bytes):
            if _is_full(i - self.page_starts[-1], page_bytes, length):
                self.page_starts.append(i)
                page_bytes = 0
            page_bytes += length

    def close(self) -> None:
        """Write all pages, the first one last; remove extra pages, without on_file also an earlier gallery's."""
        self._write_rows_js()
        kinds, sizes = list(self.kinds), list(self.sizes)
        ends = [*self.page_starts[1:], len(self.rows)]
        for number in range(len(self.page_starts), 0, -1):
            page_rows = self.rows[self.page_starts[number - 1] : ends[number - 1]]
            self._write_page(number, [self._row_html(row, kinds[row.kind], sizes[row.size]) for row in page_rows])
        for old in self.folder.glob("index_*.html"):
            found = re.fullmatch(r"index_([0-9]{1,9})\.html", old.name)
            if found and len(self.page_starts) < int(found[1]) <= (self.pages_written if self.on_file else math.inf):
                old.unlink()

    def _row_html(self, row: Row, kind: tuple[tuple[str, str, str], ...], size: tuple[int, ...]) -> str:
        sides = zip(size[::2], size[1::2])
        pictures = [Picture(label, tail, *side, base) for (label, tail, base), side in zip(kind, sides)]
        return rows.row_html(row.name, row.stem, pictures, self.columns, row.metrics, **row.extra or {})

    def _write_page(self, number: int, page_rows: list[str]) -> None:
        name, self.pages_written = page_file_name("index", number), max(self.pages_written, number)
        if self.on_file:
            self.on_file(name)
        pager = rows.pager_html([page_file_name("index", n + 1) for n in range(len(self.page_starts))], number)
        main_tag = format_html('<main class="gallery" data-rows="rows.js" data-left="{0}" data-right="{1}"', *self.pair)
        body = (
            f'{main_tag} style="--width:{self.width}px">{self.heading}{self.intro if number == 1 else ""}{self.toolbar}'
            f'{pager}<div class="rows">{"".join(page_rows)}</div>{pager}</main>'
        )
        _write_framed(self.folder / name, self.first_frame if number == 1 else self.later_frame, body)

    def _write_rows_js(self) -> None:
        """Write the rows for the script as a .js file, because a page opened from disk can load no other kind."""
        table = {
            "columns": [column._asdict() for column in self.columns],
            "kinds": list(self.kinds),
            "sizes": list(self.sizes),
            "rows": [_row_json(row) for row in self.rows],
        }
        if self.on_file:
            self.on_file("rows.js")
        replace_text(self.folder / "rows.js", ROWS_JS_PREFIX + to_embedded_json(table) + ROWS_JS_SUFFIX)


def _is_full(rows_on_page: int, page_bytes: int, next_row_bytes: int) -> bool:
    """Whether the next row starts a new page."""
    return rows_on_page > 0 and (rows_on_page == ROWS_PER_PAGE or page_bytes + next_row_bytes > MAX_PAGE_BYTES)


def _row_json(row: Row) -> list[Any]:
    metrics = [value if math.isfinite(value) else str(value) for value in row.metrics]
    extra = dict(row.extra or {}) | ({"stem": row.stem} if row.stem != row.name else {})
    return [row.name, row.kind, row.size, metrics, *([extra] if extra else [])]


def write_tiles(
    folder: Path, stem: str, title: str, heading: str, pictures: list[tuple[str, Picture]], width: int
) -> None:
    """Write STEM.html, STEM_2.html, ...: images without rows. pictures: (stem of the file, picture) each."""
    frame = page_frame(title)
    count = tile_page_count(len(pictures))
    files = [page_file_name(stem, n) for n in range(1, count + 1)]
    for number in range(count, 0, -1):
        tiles = "".join(
            rows.tile_html(*tile) for tile in pictures[(number - 1) * TILES_PER_PAGE : number * TILES_PER_PAGE]
        )
        pager = rows.pager_html(files, number)
        body = (
            f'<main class="gallery" style="--width:{width}px">{heading}{rows.toolbar_html((), width, sizes_only=True)}'
            f'{pager}<div class="rows tiles">{tiles}</div>{pager}</main>'
        )
        _write_framed(folder / files[number - 1], frame, body)


def tile_page_count(count: int) -> int:
    """Return the number of pages for `count` images, at least 1."""
    return max(1, -(-count // TILES_PER_PAGE))


def _write_framed(path: Path, frame: PageFrame, body: str) -> None:
    replace_text(path, frame[0] + body + frame[1], errors="replace")
