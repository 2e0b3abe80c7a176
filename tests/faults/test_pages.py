"""Hostile names stay text on pages, and a page is whole while it is written."""

import os
import random
import threading

import numpy as np
import pytest
import torch

from pages.paged_gallery import PagedGallery
from pages.rows import Picture, display_text
from tests.support.galleries import check_gallery, opened, search, until
from tests.support.tested_runs import make_results

# --- F92: hostile names in HTML

FRAGMENTS = [
    "<script>pwned()</script>", "</script><script>pwned()</script>", "<img src=x onerror=pwned()>",
    "<svg onload=pwned()>", '" onmouseover="pwned()', "' onerror='pwned()", "javascript:pwned()",
    "data:text/html,<b>", "//evil.example/x", "\\\\x", "</title>", "</style>", "</h3>", "<!--", "-->", "]]>",
    "<base href=//x>", "&lt;", "&#x3c;script&#x3e;", "&quot;", "%3c", "%00", "%2e%2e%2f", "%", "100%", "#",
    "?a=b&c", "..", ".", "...", "~", "a:b", "C:", "`id`", "$HOME", "${x}", "{{x}}", "{0}", "\n", "\r", "\t",
    "\x1b[2J", "\x7f", "\u202e", "\u2066", "\u200f", "\u05d0\u05d1", "\u2028", "\u0300", "\ufeff", "\ufffe",
    "\U0001f34e", "\U0001f469\u200d\U0001f4bb", "\u540d\u524d", "\u00e9", "e\u0301", "\u0130",
    os.fsdecode(b"\xff\xfe"), os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xf0\x9f"), " ", "  ", "-", "--name", "name",
    "a"*60, "\u00e9"*50, "CON", "*", "|", "images/", "window.ganvasRows", "__proto__", "constructor", "NaN",
]  # fmt: skip


def fuzzed(rng: random.Random, slashes: bool = False) -> str:
    """A name of one to six fragments; as a file's name without separators."""
    text = "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 6)))
    text = text if slashes else text.replace("/", "\u2215")
    return os.fsdecode(os.fsencode(text)[:200]).strip(".") or "x"


OURS = """(() => {
  const all = [...document.querySelectorAll('*')];
  const forbidden = ['SVG', 'IFRAME', 'OBJECT', 'EMBED', 'BASE', 'FORM'];
  return {
    strange: all.filter((one) => forbidden.includes(one.tagName.toUpperCase())).length,
    scripts: document.scripts.length,
    handlers: all.filter((one) => one.getAttributeNames().some((name) => name.startsWith('on'))).length,
    addresses: all.filter((one) => /^(javascript|data|https?):/.test(one.href || one.src || '')).length,
    pwned: typeof pwned, rows: document.querySelectorAll('.rows:not([hidden]) .row').length,
  };
})()"""
HARMLESS = {"strange": 0, "scripts": 4, "handlers": 0, "addresses": 0, "pwned": "undefined"}  # the scripts are ours


def used(page, names: list[str], rng: random.Random) -> dict:
    """Search, order, zoom, walk and compare; return how many of what there is at the end."""
    page.fill(".search", "pwned")
    page.wait_for_selector(".found")
    page.select_option(".order", "name")
    search(page, "")
    headings = page.eval_on_selector_all(".found h3", "found => found.map(one => one.textContent)")
    assert sorted(headings) == sorted(map(display_text, names))
    page.evaluate("document.querySelectorAll('.found img').forEach((image) => { image.loading = 'eager'; })")
    until(page, "[...document.querySelectorAll('.found img')].every((image) => image.complete)")
    assert page.evaluate("[...document.querySelectorAll('.found img')].filter((one) => !one.naturalWidth).length") == 0
    page.locator(".found a.picture").nth(rng.randrange(len(names))).click()
    for key in ("ArrowRight", "ArrowDown", "c", "ArrowLeft", "+", "ArrowUp", "c", "ArrowLeft"):
        page.keyboard.press(key)
    found = page.evaluate(OURS)
    page.keyboard.press("Escape")
    return found


@pytest.mark.fault(92)
def test_hostile_names_of_files_labels_and_runs_stay_text(browser, tmp_path, full, record_property):
    """1,000 file names, 60 labels and 20 run names contain HTML, quotes, %, #, newlines or invalid UTF-8: all are shown
    as text, none is run, and every link leads to its image, also after search, sort, zoom and compare.
    """
    rng = random.Random(92)
    tried = 0
    for _ in range(20 if full else 3):
        run = fuzzed(rng)
        made = make_results(tmp_path, run)
        names = {fuzzed(rng): None for _ in range(50)}
        labels = ["real_A", "fake_B", "real_B", *{fuzzed(rng, slashes=True) for _ in range(3)}]
        for i, name in enumerate(names):
            images = {label: torch.full((1, 3, 4, 6), (i + j) % 20 / 10 - 1) for j, label in enumerate(labels)}
            made.add(images, [os.fsdecode(b"/data/") + name])
        made.close()
        kept = [row.name for row in made.gallery.rows]
        assert len(list((made.folder / "images").rglob("*.png"))) == len(names) * len(labels)
        check_gallery(made.folder)
        with opened(browser, made.page) as page:
            page.evaluate("window.before = document.scripts.length")
            before = page.evaluate(OURS)
            assert page.evaluate("document.querySelector('h1').textContent") == display_text(run).replace("\r", "\n")
            after = used(page, kept, rng)
        assert before == {
            "strange": 0,
            "scripts": 4,
            "handlers": 0,
            "addresses": 0,
            "pwned": "undefined",
            "rows": len(names),
        }
        assert after == before | {"scripts": 5}  # and rows.js
        tried += len(names) + len(labels) - 3 + 1
    record_property("hostile names shown as text, with links that work", f"{tried} of {tried}")


@pytest.mark.fault(92)
def test_hostile_names_of_classes_have_pages_of_their_own(browser, tmp_path, full):
    """100 classes have such names: each has its own page and images, linked from the first page, and none replaces
    another.
    """
    rng = random.Random(93)
    classes = tuple(dict.fromkeys(fuzzed(rng, slashes=True) for _ in range(100 if full else 30)))
    classes += ("cat", "CAT", "cat_2", "..", ".", "a/b", "a\\b")
    picture = np.zeros((4, 4, 3), np.uint8)
    made = make_results(tmp_path, "zoo", compare=False, generated=True)
    made.add_sheets("grid", {"grid": [picture] * 2 * len(classes)}, 2, classes)
    made.add_sheets("interpolation", {name: [picture] * 2 for name in classes}, 2)
    made.add_samples({name: [picture] * (251 if name == "cat" else 2) for name in classes})
    made.close()
    pages = check_gallery(made.folder)
    files = [path.relative_to(tmp_path).as_posix().casefold() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(set(files)) == len(files)
    assert sum(name.startswith("class_") for name in pages) == len(classes) + 1
    assert sum(path.suffix == ".png" for path in tmp_path.rglob("*")) == made.count + made.sheets
    assert (made.count, made.sheets) == (2 * len(classes) + 249, 1 + len(classes))
    with opened(browser, made.page) as page:
        sides = page.eval_on_selector_all(".side span", "found => found.map(one => one.textContent)")
        assert sides == [display_text(name).replace("\r", "\n") for name in classes]
        assert page.evaluate(OURS) | {"rows": 0} == HARMLESS | {"rows": 0}


@pytest.mark.fault(92)
def test_a_page_is_whole_whenever_it_is_read(tmp_path):
    """A page is read again and again while 400 rows are written: it is whole every time."""
    (tmp_path / "images").mkdir()
    seen, broken, over = 0, [], threading.Event()

    def read():
        nonlocal seen
        while not over.is_set():
            for path in (tmp_path / "index.html", tmp_path / "rows.js"):
                if path.exists():
                    seen += 1
                    if not path.read_text().endswith(("</html>", "};\n")):
                        broken.append(path)

    reader = threading.Thread(target=read)
    reader.start()
    book = PagedGallery(tmp_path, "t", "")
    for i in range(400):
        book.add(str(i), [Picture("fake", "_fake.png", 4, 4)])
    while seen < 20 and reader.is_alive():
        book.add("more", [Picture("fake", "_fake.png", 4, 4)])
    book.close()
    over.set()
    reader.join()
    assert not broken and seen >= 20
