"""Make self-contained HTML documents with a strict Content-Security-Policy."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dominate
from dominate import tags
from dominate.util import raw

from util.atomic_write import replace_text

ASSETS = Path(__file__).parent / "assets"


def make_document(
    title: str, styles: tuple[str, ...] = (), scripts: tuple[str, ...] = (), data: Any = None,
    allowed: Mapping[str, str] | None = None,
) -> Any:  # fmt: skip
    """Return an empty page with style.css and these `styles` and `scripts`, files in assets/, embedded.

    The Content-Security-Policy lets only these scripts and files beside the page run or load, and what `allowed` adds
    to its directives. Scripts read `data` with JSON.parse(document.getElementById("data").textContent).
    """
    sources = [(ASSETS / name).read_text(encoding="utf-8") for name in scripts]
    script_hashes = " ".join(f"'sha256-{_sha256_base64(source)}'" for source in sources)
    sources_of = {"default-src": "'none'", "img-src": "'self' data:", "style-src": "'unsafe-inline'",
                  "script-src": f"'self' {script_hashes}"}  # fmt: skip
    for directive, more in (allowed or {}).items():
        sources_of[directive] = f"{sources_of.get(directive, '')} {more}".strip()
    policy = "; ".join(f"{directive} {allowed_from}" for directive, allowed_from in sources_of.items())
    page = dominate.document(title=title)
    page["lang"] = "en"
    with page.head:
        tags.meta(charset="utf-8")
        tags.meta(http_equiv="Content-Security-Policy", content=f"{policy}; base-uri 'none'; form-action 'none'")
        tags.meta(name="viewport", content="width=device-width, initial-scale=1")
        tags.meta(name="color-scheme", content="light dark")
        for name in ("style.css", *styles):
            tags.style(raw((ASSETS / name).read_text(encoding="utf-8")))
        if data is not None:
            tags.script(raw(to_embedded_json(data)), type="application/json", id="data")
        for source in sources:
            tags.script(raw(source))  # before the body, so a script that needs it waits for DOMContentLoaded
    return page


def to_embedded_json(data: Any) -> str:
    """Return JSON that is safe in a script element and in a .js file for any texts in `data`."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def write_page(path: Path, page: Any) -> None:
    """Write a page; the old one is replaced atomically."""
    replace_text(path, page.render(pretty=False), errors="replace")  # file names may be invalid UTF-8


def _sha256_base64(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
