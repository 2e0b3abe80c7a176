"""Pages of pictures in the reference's layout: a heading and a table row for each group."""

import os
from pathlib import Path
from urllib.parse import quote

import dominate
from dominate import tags

from util.files import replace_text

Row = tuple[str, list[tuple[str, str]], list[str]]  # heading, [(label, file in images/)], notes under it


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
        for heading, pictures, notes in rows:
            tags.h3(heading)
            _table(pictures, width)
            for note in notes:
                tags.p(note)
    replace_text(path, page.render(), errors="replace")  # names may be no UTF-8


def _table(pictures: list[tuple[str, str]], width: int) -> None:
    with tags.table(border="1", style="table-layout: fixed;"), tags.tr():
        for label, file in pictures:
            link = "images/" + quote(os.fsencode(file))
            with tags.td(style="word-wrap: break-word;", halign="center", valign="top"), tags.p():
                with tags.a(href=link):
                    tags.img(src=link, style=f"width:{width}px", loading="lazy", alt=label)
                tags.br()
                tags.p(label)
