"""What all pages share: one self-contained document with a strict content policy, and rows of pictures."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import dominate
from dominate import tags
from dominate.util import raw

from util.files import replace_text

HERE = Path(__file__).parent


class Row(NamedTuple):
    """One group of pictures: [(label, file in images/)] under a heading, with notes under them."""

    heading: str
    pictures: list[tuple[str, str]]
    notes: list[str]
    own_width: bool = False  # sheets of many pictures are shown as wide as they are


def document(title: str, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = (), data: Any = None) -> Any:
    """Return an empty page that carries its own styles and scripts, files of this folder, after style.css.

    Only these scripts, and files beside the page, can run or load in it (Content-Security-Policy). `data` is what the
    scripts find as JSON.parse(document.getElementById("data").textContent).
    """
    sources = [(HERE / name).read_text(encoding="utf-8") for name in scripts]
    allowed = " ".join(f"'sha256-{_digest(source)}'" for source in sources)
    policy = f"default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'self' {allowed}"
    page = dominate.document(title=title)
    page["lang"] = "en"
    with page.head:
        tags.meta(charset="utf-8")
        tags.meta(http_equiv="Content-Security-Policy", content=f"{policy}; base-uri 'none'; form-action 'none'")
        tags.meta(name="viewport", content="width=device-width, initial-scale=1")
        tags.meta(name="color-scheme", content="light dark")
        for name in ("style.css", *styles):
            tags.style(raw((HERE / name).read_text(encoding="utf-8")))
        if data is not None:
            tags.script(raw(embedded(data)), type="application/json", id="data")
        for source in sources:
            tags.script(raw(source))  # before the body: it waits for DOMContentLoaded
    return page


def embedded(data: Any) -> str:
    """Return JSON that is safe inside a script element and in a .js file, whatever texts it holds."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def link(file: str) -> str:
    """Return the address of a file in images/ beside the page: percent-encoded; names need not be UTF-8."""
    return "images/" + quote(os.fsencode(file))


def write(path: Path, page: Any) -> None:
    """Write a page, replacing the old one in one step."""
    replace_text(path, page.render(pretty=False), errors="replace")  # names may be no UTF-8


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def write_page(path: Path, title: str, rows: list[Row], width: int, refresh: int = 0) -> None:
    """Write a page of rows of pictures, replacing the old one in one step.

    Pictures are files in `images/` beside the page, `width` pixels wide; refresh: reload every N seconds, 0 never.
    Names are percent-encoded in links and escaped in text.
    """
    page = document(title)
    with page.head:
        if refresh:
            tags.meta(http_equiv="refresh", content=str(refresh))
    with page:
        tags.h1(title)
        for row in rows:
            tags.h3(row.heading)
            _table(row.pictures, "max-width:100%" if row.own_width else f"width:{width}px")
            for note in row.notes:
                tags.p(note)
    write(path, page)


def _table(pictures: list[tuple[str, str]], style: str) -> None:
    with tags.table(border="1", style="table-layout: fixed;"), tags.tr():
        for label, file in pictures:
            with tags.td(style="word-wrap: break-word;", halign="center", valign="top"), tags.p():
                with tags.a(href=link(file)):
                    tags.img(src=link(file), style=style, loading="lazy", alt=label)
                tags.br()
                tags.p(label)
