"""Write galleries, and check their pages as text or in a browser."""

import base64
import contextlib
import hashlib
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pages.paged_gallery import PagedGallery
from pages.rows import Column, Picture


class Parsed(HTMLParser):
    """All elements of a page, the texts of its scripts and the headings of its rows."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.headings: list[str] = []
        self._in = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script" and dict(attrs).get("type") != "application/json":
            self.scripts.append("")
        if tag == "h3":
            self.headings.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script" and self.scripts:
            self.scripts[-1] += data
        if self._in == "h3":
            self.headings[-1] += data

    def values(self, tag: str, attribute: str) -> list[str]:
        """Return an attribute of all elements of a tag that have it."""
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]


def file_of(page: Path, address: str) -> Path:
    """Return the file that a relative URL on a page leads to; names need not be UTF-8."""
    parts = urlsplit(address)
    assert not parts.scheme and not parts.netloc and not parts.query and not parts.fragment, address
    return page.parent / os.fsdecode(unquote_to_bytes(parts.path))


def check_gallery(folder: Path) -> dict[str, Parsed]:
    """Check every page of a folder as text: its policy allows its scripts only, and every URL leads to a file."""
    found = {path.name: Parsed(path) for path in sorted(folder.glob("*.html"))}
    for name, parsed in found.items():
        (policy,) = (a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
        for script in parsed.scripts:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy, script[:100]
        assert "unsafe-inline" not in policy.partition("script-src")[2]
        assert not {tag for tag, _ in parsed.tags} & {"iframe", "object", "embed", "svg", "base", "form"}
        assert not [a for _, attrs in parsed.tags for a in attrs if a.startswith("on") or a == "srcdoc"]
        for address in parsed.values("a", "href") + parsed.values("img", "src"):
            assert not re.search(r"[#?\"'<>& \\]", address)
            assert file_of(folder / name, address).is_file(), (name, address)
        assert (folder / name).stat().st_size < 1_000_000
        for _, attrs in (one for one in parsed.tags if one[0] == "img"):
            assert (attrs["loading"], attrs["width"].isdigit(), attrs["height"].isdigit()) == ("lazy", True, True)
    return found


@contextlib.contextmanager
def opened(browser, path: Path, **settings):
    """Open a page; at the end, check that its console is empty and that it requested only files."""
    context = browser.new_context(**settings)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda box: (said.append(box.message), box.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    page.goto(path.resolve().as_uri())
    yield page
    context.close()
    assert [text for text in said if "net::ERR_ABORTED" not in text] == []
    assert [url for url in asked if not url.startswith("file:")] == []


def until(page, condition: str) -> None:
    """Wait until a JavaScript condition holds, 20 seconds at most.

    This replaces page.wait_for_function, which calls eval in the page; the page's policy forbids that.
    """
    waiting = f"""new Promise((done) => {{
        const end = performance.now() + 20000;
        const look = () => (({condition}) ? done(true) : performance.now() > end ? done(false)
            : requestAnimationFrame(look));
        look();
    }})"""
    assert page.evaluate(waiting), f"timeout: {condition}"


def search(page, text: str) -> None:
    """Type into the search field and wait for the rows found."""
    page.fill(".search", text)
    page.wait_for_selector(".found .row")


METRICS = [Column("L1", "lower"), Column("PSNR", "higher")]
LABELS = ("real_A", "fake_B", "real_B")


def make_book(folder: Path, names, save, labels=LABELS, figures=lambda i: [0.1 + i, 30 - i], columns=METRICS, width=64):
    """Write a gallery with one image per label in a row; save(path, row, label) writes an image, returns its size."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    book = PagedGallery(folder, "A title", "<h1>A title</h1>", columns, width)
    for i, name in enumerate(names):
        made = [
            Picture(label, f"_{label}.png", *save(folder / "images" / f"{name}_{label}.png", i, label))
            for label in labels
        ]
        book.add(name, made, figures(i) if columns else [])
    book.close()
    return book
