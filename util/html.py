"""Pages of pictures in the reference's layout: a heading and a table row for each group."""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import dominate
from dominate import tags

from util.files import replace_text


class Row(NamedTuple):
    """One group of pictures: [(label, file in images/)] under a heading, with notes under them."""

    heading: str
    pictures: list[tuple[str, str]]
    notes: list[str]
    own_width: bool = False  # sheets of many pictures are shown as wide as they are


def write_page(path: Path, title: str, rows: list[Row], width: int, refresh: int = 0) -> None:
    """Write a page of rows of pictures, replacing the old one in one step.

    Pictures are files in `images/` beside the page, `width` pixels wide; refresh: reload every N seconds, 0 never.
    Names are percent-encoded in links and escaped in text.
    """
    page = dominate.document(title=title)
    with page.head:
        tags.meta(charset="utf-8")
        if refresh:
            tags.meta(http_equiv="refresh", content=str(refresh))
    with page:
        tags.h1(title)
        for row in rows:
            tags.h3(row.heading)
            _table(row.pictures, "max-width:100%" if row.own_width else f"width:{width}px")
            for note in row.notes:
                tags.p(note)
    replace_text(path, page.render(), errors="replace")  # names may be no UTF-8


def _table(pictures: list[tuple[str, str]], style: str) -> None:
    with tags.table(border="1", style="table-layout: fixed;"), tags.tr():
        for label, file in pictures:
            link = "images/" + quote(os.fsencode(file))
            with tags.td(style="word-wrap: break-word;", halign="center", valign="top"), tags.p():
                with tags.a(href=link):
                    tags.img(src=link, style=style, loading="lazy", alt=label)
                tags.br()
                tags.p(label)
