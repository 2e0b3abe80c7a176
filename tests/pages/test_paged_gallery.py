"""Galleries search, sort, zoom and compare in a real browser, at any width, at low cost."""

import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from pages import paged_gallery, rows
from pages.paged_gallery import ROWS_JS_PREFIX, ROWS_JS_SUFFIX, PagedGallery, write_tiles
from pages.rows import Picture
from tests.support.galleries import LABELS, METRICS, Parsed, check_gallery, make_book, opened, search, until
from tests.support.runs import ROOT

COLOURS = {"real_A": (200, 30, 30), "fake_B": (30, 160, 60), "real_B": (30, 60, 200)}
ROWS = 230


def save(path, i, label):
    Image.new("RGB", (24, 16), COLOURS[label]).save(path)
    return 24, 16


def figures(i):
    """L1 and PSNR in an order of their own; row 5 has none, row 6 is perfect."""
    if i in (5, 6):
        return [math.nan, math.nan] if i == 5 else [0.0, math.inf]
    return [(i * 37 % ROWS + 1) / 1000, 40 - (i * 37 % ROWS) / 10]


NAMES = [f"town {i}" if i % 2 else f"Field {i}" for i in range(ROWS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A gallery of 230 rows on three pages."""
    where = tmp_path_factory.mktemp("gallery")
    make_book(where, NAMES, save, figures=figures)
    return where


@pytest.fixture
def page(browser, folder):
    """The first page, open, 1280 pixels wide."""
    with opened(browser, folder / "index.html", viewport={"width": 1280, "height": 800}) as page:
        yield page


def headings(page):
    return page.eval_on_selector_all(".rows:not([hidden]) h3", "found => found.map(one => one.textContent)")


def focus_comes_to(page, what):
    """Wait for it: a dialog tells that it was closed after it has gone."""
    script = "document.activeElement.getAttribute('href') ?? document.activeElement.className"
    until(page, f"({script}) === {json.dumps(what)}")


def place(page):
    """What the viewer shows: name, and label, size and place."""
    return page.locator(".viewer .what").inner_text().replace("\n", " ")


# --- pages


def test_pages_hold_a_hundred_rows_and_link_without_scripts(browser, folder):
    pages = check_gallery(folder)
    assert list(pages) == ["index.html", "index_2.html", "index_3.html"]
    assert [name for page in pages.values() for name in page.headings] == NAMES
    assert [len(page.headings) for page in pages.values()] == [100, 100, 30]
    with opened(browser, folder / "index.html", java_script_enabled=False) as page:
        assert page.locator(".toolbar").is_hidden()  # it would do nothing
        for number in (2, 3):
            page.locator("nav.pager >> text=Next").first.click()
            page.wait_for_url(f"**/index_{number}.html")
        page.locator("nav.pager >> text=Previous").last.click()
        page.wait_for_url("**/index_2.html")


def test_pictures_in_view_are_shown_and_others_wait(page):
    """Lazily, with their true sizes, --display_winsize wide."""
    until(page, "document.querySelector('img').naturalWidth === 24")
    images = page.locator(".rows img")
    assert images.first.bounding_box()["width"] == 64
    assert images.first.bounding_box()["height"] == pytest.approx(64 * 16 / 24, abs=0.1)
    assert images.last.evaluate("image => image.naturalWidth") == 0
    images.last.scroll_into_view_if_needed()
    until(page, "[...document.querySelectorAll('.rows img')].at(-1).naturalWidth === 24")


def test_the_size_of_pictures_can_be_chosen(page):
    page.locator(".size").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.locator(".rows img").first.bounding_box()["width"] == 96


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("labels", [LABELS, ("real_A", "fake_B", "rec_A", "real_B", "fake_A", "rec_B")], ids=len)
def test_no_width_scrolls_sideways(browser, tmp_path, width, labels):
    def any_colour(path, i, label):
        return save(path, i, "real_A")

    make_book(tmp_path, ["a" * 200, "b"], any_colour, labels=labels, width=256)
    with opened(browser, tmp_path / "index.html", viewport={"width": width, "height": 800}) as page:
        for act in (
            lambda: None,
            lambda: search(page, "a"),
            lambda: page.locator(".found .compare").last.click(),
            lambda: page.keyboard.press("c"),
        ):
            act()
            assert page.evaluate("document.documentElement.scrollWidth") == width
            edges = page.eval_on_selector_all(
                ".viewer button",
                """all => all.filter(one => one.checkVisibility())
                .map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])""",
            )
            assert bool(edges) == page.locator(".viewer").is_visible()
            assert all(left >= 0 and right <= width for left, right in edges)


def test_light_and_dark_differ(browser, folder):
    found = {}
    for scheme in ("light", "dark"):
        with opened(browser, folder / "index.html", color_scheme=scheme) as page:
            page.locator("button.compare").first.click()
            found[scheme] = [
                page.evaluate(f"getComputedStyle(document.querySelector('{which}')).{what}")
                for which in ("body", ".viewer", ".stage")
                for what in ("backgroundColor", "color")
            ]
    assert all(light != dark for light, dark in zip(found["light"], found["dark"]))


# --- search and order


def test_rows_by_script_are_the_pages_own(browser, folder):
    """What dom.js makes of rows.js equals, element for element, what rows.py wrote."""
    inside = "found => found.map(one => one.outerHTML)"
    written = []
    for name in ("index.html", "index_2.html", "index_3.html"):
        with opened(browser, folder / name) as page:
            written += page.eval_on_selector_all(".row", inside)
    with opened(browser, folder / "index.html") as page:
        page.select_option(".order", "0")
        made = []
        for number in range(3):
            until(page, f"document.querySelector('.said').textContent.includes('{number}01 to') || {number} == 0")
            page.wait_for_selector(".found .row")
            made += page.eval_on_selector_all(".found .row", inside)
            if number < 2:
                page.locator(".found-pager >> text=Next").first.click()
    assert sorted(made) == sorted(written)


def test_images_of_a_row_may_have_names_of_their_own(browser, tmp_path):
    """Unpaired inputs: an image of B bears B's name, in rows by script too."""
    (tmp_path / "images").mkdir()
    for name in ("horse_real_A.png", "zebra_real_B.png"):
        save(tmp_path / "images" / name, 0, name[6:12])
    book = PagedGallery(tmp_path, "t", "")
    pictures = [Picture(label, f"_{label}.png", 24, 16) for label in ("real_A", "real_B")]
    book.add("horse", pictures, stems=["horse", "zebra"])
    book.close()
    check_gallery(tmp_path)
    with opened(browser, tmp_path / "index.html") as page:
        inside = "found => found.map(one => one.outerHTML)"
        written = page.eval_on_selector_all(".row", inside)
        search(page, "horse")
        assert page.eval_on_selector_all(".found .row", inside) == written and "zebra_real_B.png" in written[0]


def test_sorted_rows_are_divided_into_pages_anew(tmp_path, monkeypatch):
    """Long rows, which filled pages of their own, come last; no page of the former order stays."""
    monkeypatch.setattr(paged_gallery, "MAX_PAGE_BYTES", 2000)
    made = []
    book = PagedGallery(tmp_path, "t", "", on_file=made.append)
    (tmp_path / "index_99.html").write_text("mine")
    for i in range(40):
        book.add(f"{i % 7} {'x' * (1200 * (i % 2))}{i}", fake(i))
    before = len(list(tmp_path.glob("index*.html")))
    book.sort(lambda row: (len(row.name), row.name))
    book.close()
    pages = {path.name: Parsed(path) for path in tmp_path.glob("index*.html") if path.name != "index_99.html"}
    assert len(pages) == len(book.page_starts) < before
    order = sorted(pages, key=lambda name: (len(name), name))
    assert [name for page in order for name in pages[page].headings] == [row.name for row in book.rows]
    assert [len(row.name) for row in book.rows] == sorted(len(row.name) for row in book.rows)
    assert set(pages) <= set(made) and (tmp_path / "index_99.html").read_text() == "mine"


def test_search_finds_names_on_all_pages(page):
    page.keyboard.press("/")
    page.keyboard.type("FIELD 22")
    page.wait_for_selector(".found .row")
    assert headings(page) == ["Field 22", "Field 220", "Field 222", "Field 224", "Field 226", "Field 228"]
    assert page.locator(".said").inner_text() == "6 of 230 rows"
    until(page, "document.querySelector('.found img').naturalWidth === 24")
    page.fill(".search", "nowhere")
    assert headings(page) == [] and page.locator(".said").inner_text() == "no row has this name"
    page.fill(".search", "")
    assert headings(page) == NAMES[:100] and page.locator("nav.pager").first.is_visible()


def all_found(page):
    """Every row found, over the pages of what was found."""
    page.wait_for_selector(".found .row")
    names = headings(page)
    while page.locator(".found-pager button:enabled >> text=Next").count():
        page.locator(".found-pager >> text=Next").first.click()
        names += headings(page)
    return names


def test_order_by_name_and_by_every_metric_is_over_all_rows(page):
    known = [i for i in range(ROWS) if i != 5]
    l1 = sorted(known, key=lambda i: figures(i)[0])
    psnr = sorted(known, key=lambda i: -figures(i)[1])
    by_name = sorted(range(ROWS), key=lambda i: (NAMES[i].split()[0].lower(), i))
    expected = {"0": [*l1, 5], "-0": [*l1[::-1], 5], "-1": [*psnr, 5], "1": [*psnr[::-1], 5], "name": by_name,
                "-name": by_name[::-1]}  # fmt: skip
    for order, places in expected.items():
        page.select_option(".order", order)
        assert all_found(page) == [NAMES[i] for i in places], order
    titles = page.eval_on_selector_all(".order option", "found => found.map(one => one.textContent)")
    assert titles == [
        "as listed",
        "name, A to Z",
        "name, Z to A",
        "L1, best first",
        "L1, worst first",
        "PSNR, best first",
        "PSNR, worst first",
    ]
    page.fill(".search", "town 1")
    page.select_option(".order", "0")
    assert all_found(page) == [NAMES[i] for i in l1 if NAMES[i].startswith("town 1")]


def test_without_rows_js_the_page_says_so(browser, folder, tmp_path):
    (tmp_path / "index.html").write_bytes((folder / "index.html").read_bytes())
    (tmp_path / "images").symlink_to(folder / "images")
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.fill(".search", "town")
    until(page, "document.querySelector('.said').textContent.startsWith('rows.js is missing')")
    assert headings(page) == NAMES[:100]
    context.close()


def test_figures_read_alike_in_both_languages(page):
    values = [0.0, 1.0, -2.5, 0.1, 22.4, 0.07964321, 1234.6, 12345.6, 9999.6, 1e-5, 0.00012345, 123456789.0, 1e100,
              math.inf, -math.inf, math.nan]  # fmt: skip
    for value in values:
        told = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN" if math.isnan(value) else repr(value))
        assert page.evaluate(f"formatNumber({told})") == rows.format_number(value)


# --- the viewer


def test_the_keyboard_walks_pictures_and_returns_the_focus(page):
    first = page.locator("a.picture").first
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog.viewer").is_visible()
    seen = [place(page)]
    for key in (
        "ArrowRight",
        "ArrowRight",
        "ArrowRight",
        "ArrowLeft",
        "ArrowDown",
        "ArrowUp",
        "ArrowUp",
        "End",
        "ArrowDown",
    ):
        page.keyboard.press(key)
        seen.append(place(page))
    assert [text.replace(" · 24 × 16 · ", " ") for text in seen] == [
        "Field 0 real_A 1 of 100",
        "Field 0 fake_B 1 of 100",
        "Field 0 real_B 1 of 100",
        "town 1 real_A 2 of 100",
        "Field 0 real_B 1 of 100",
        "town 1 real_B 2 of 100",
        "Field 0 real_B 1 of 100",
        "Field 0 real_B 1 of 100",
        "town 99 real_A 100 of 100",
        "town 99 real_A 100 of 100",
    ]
    page.keyboard.press("Escape")
    assert page.locator("dialog.viewer").is_hidden()
    focus_comes_to(page, "images/town%2099_real_A.png")  # where one has walked to


def test_closing_gives_the_focus_back_to_what_opened_it(page):
    page.locator("a.picture").nth(4).click()
    page.locator(".viewer button[aria-label^=Close]").click()
    focus_comes_to(page, "images/town%201_fake_B.png")
    page.locator("button.compare").nth(2).click()
    page.keyboard.press("Escape")
    focus_comes_to(page, "compare js")
    page.locator("a.picture").nth(4).click(modifiers=["ControlOrMeta"])  # a tab of its own, as with any link
    assert page.locator("dialog.viewer").is_hidden()


def width_of(page):
    return page.locator(".pane").bounding_box()["width"]


def test_zoom_by_keys_buttons_wheel_and_dragging(page):
    page.locator("a.picture").first.click()
    fits = width_of(page)
    assert page.locator(".viewer .under").evaluate("image => image.decode().then(() => image.naturalWidth)") == 24
    for _ in range(9):
        page.keyboard.press("+")
    assert width_of(page) == pytest.approx(8 * fits, rel=0.01)  # the most there is
    page.keyboard.press("0")
    assert width_of(page) == pytest.approx(fits)
    page.set_viewport_size({"width": 500, "height": 500})
    page.wait_for_function("document.querySelector('.pane').getBoundingClientRect().width <= 500")  # it has resized
    fits = width_of(page)
    page.locator(".viewer button[aria-label^='Zoom in']").click()
    assert width_of(page) == pytest.approx(1.5 * fits, rel=0.01)
    page.keyboard.press("-")
    assert width_of(page) == pytest.approx(fits)
    box = page.locator(".stage").bounding_box()
    spot = box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5
    page.mouse.move(*spot)
    page.mouse.wheel(0, -300)
    until(page, f"document.querySelector('.pane').getBoundingClientRect().width > {fits * 1.2}")
    left = page.locator(".pane").bounding_box()["x"]
    share = (spot[0] - left) / width_of(page)
    # what is under the mouse stays there
    assert share == pytest.approx((spot[0] - (box["x"] + (box["width"] - fits) / 2)) / fits, abs=0.01)
    page.mouse.down()
    page.mouse.move(spot[0] + 20, spot[1])
    page.mouse.up()
    assert page.locator(".pane").bounding_box()["x"] == pytest.approx(left + 20, abs=0.5)
    page.mouse.wheel(0, 3000)
    until(page, f"document.querySelector('.pane').getBoundingClientRect().width < {fits * 1.01}")


def test_two_fingers_zoom(browser, folder):
    with opened(browser, folder / "index.html", has_touch=True, viewport={"width": 390, "height": 700}) as page:
        page.locator("a.picture").first.tap()
        fits, box = width_of(page), page.locator(".stage").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch = page.context.new_cdp_session(page)

        def fingers(kind, apart):
            points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", 40)
        for apart in range(45, 85, 5):
            fingers("touchMove", apart)
        until(page, f"document.querySelector('.pane').getBoundingClientRect().width > {fits * 1.7}")
        fingers("touchEnd", 0)


def colours(page):
    """The colours at the left and at the right of the stage's picture."""
    box = page.locator(".pane").bounding_box()
    shot = page.screenshot(clip={"x": box["x"], "y": box["y"] + box["height"] / 2, "width": box["width"], "height": 2})
    row = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))[0]
    names = {colour: label for label, colour in COLOURS.items()}
    return [names.get(tuple(int(v) for v in row[int(len(row) * at)]), "?") for at in (0.1, 0.4, 0.6, 0.9)]


def test_the_slider_shows_two_pictures_with_an_edge_between(page):
    page.locator("button.compare").nth(3).click()
    until(page, "[...document.querySelectorAll('.pane img')].every(image => image.naturalWidth === 24)")
    assert colours(page) == ["real_A", "real_A", "fake_B", "fake_B"]
    slider = page.locator(".slider input")
    slider.focus()
    page.keyboard.press("Home")
    assert colours(page) == ["fake_B"] * 4
    for _ in range(60):
        page.keyboard.press("ArrowRight")
    assert colours(page) == ["real_A", "fake_B", "fake_B", "fake_B"]
    assert slider.get_attribute("aria-valuetext") == "30 % real_A, the rest fake_B"
    box = page.locator(".pane").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert colours(page) == ["real_A", "real_A", "real_A", "fake_B"]
    page.locator(".slider select").first.select_option(label="real_B")
    until(page, "document.querySelector('.under').src.includes('real_B')")
    page.locator(".pane .under").evaluate("image => image.decode()")
    assert colours(page) == ["real_B", "real_B", "real_B", "fake_B"]
    page.locator(".slider button").click()
    page.locator(".pane .under").evaluate("image => image.decode()")
    page.locator(".pane .over").evaluate("image => image.decode()")
    assert colours(page) == ["fake_B", "fake_B", "fake_B", "real_B"]
    page.keyboard.press("ArrowDown")
    assert place(page).startswith("Field 4") and page.locator(".comparing").count() == 1
    page.keyboard.press("c")
    assert page.locator(".slider").is_hidden()


def test_every_control_has_a_name(page):
    page.locator("button.compare").first.click()
    silent = page.evaluate("""[...document.querySelectorAll('button, input, select, a, img')].filter(one =>
        one.getClientRects().length && !(one.getAttribute('aria-label') || one.labels?.[0]?.textContent
        || one.textContent.trim() || one.querySelector?.('img[alt]') || one.alt))""")
    assert silent == []
    assert page.evaluate("document.querySelectorAll('button:not([type=button])').length") == 0


@pytest.mark.parametrize("name", [*paged_gallery.SCRIPTS, "gallery.css"])
def test_scripts_and_styles_keep_the_rules_of_the_house(name):
    """Short, opened by one sentence, no address of elsewhere, and no data ever read as HTML or as a program."""
    text = (ROOT / "pages" / "assets" / name).read_text(encoding="utf-8")
    first = text.partition("\n")[0].removeprefix("// ").removeprefix("/* ").removesuffix(" */")
    assert len(text.splitlines()) < 400 and first.endswith(".") and ". " not in first
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|fetch\(|https?:", text)


# --- cost


def test_pages_can_be_read_while_rows_are_added(tmp_path):
    """With links that all lead somewhere; a page lags behind by at most half of its rows."""
    (tmp_path / "images").mkdir()
    book = PagedGallery(tmp_path, "t", "<h1>t</h1>", METRICS)
    for i in range(250):
        shown = [
            Picture(label, f"_{label}.png", *save(tmp_path / "images" / f"{i}_{label}.png", i, label))
            for label in LABELS
        ]
        book.add(str(i), shown, figures(i))
        if i in (0, 1, 5, 99, 100, 101, 200, 249):
            pages = check_gallery(tmp_path)
            listed = [int(name) for page in pages.values() for name in page.headings]
            assert listed == list(range(len(listed))) and (i + 1) / 2 < len(listed) <= i + 1
    text = (tmp_path / "rows.js").read_text()
    table = json.loads(text.removeprefix(ROWS_JS_PREFIX).removesuffix(ROWS_JS_SUFFIX))
    assert len(table["rows"]) == 200


def fake(i):
    return [Picture(label, f"_{label}.png", 256, 256) for label in LABELS]


def test_the_cost_of_a_row_does_not_grow(tmp_path, monkeypatch):
    """However many there are, each page is written a few times at most, and rows.js about twice over."""
    written = []
    monkeypatch.setattr(
        paged_gallery, "replace_text", lambda path, text, errors="": written.append((path.name, len(text)))
    )
    for count in (1000, 4000):
        written.clear()
        book = PagedGallery(tmp_path, "t", "")
        for i in range(count):
            book.add(f"{i:05d}", fake(i))
        book.close()
        last = dict(written)
        for kind, times in ((".html", 6), (".js", 3)):
            total = sum(size for name, size in written if name.endswith(kind))
            assert total < times * sum(size for name, size in last.items() if name.endswith(kind))


def test_pages_stay_small_whatever_their_names(tmp_path):
    for names, labels in (("é" * 100, LABELS), ("<&>" * 60, [f"{'&' * 35}{i}" for i in range(30)])):
        book = PagedGallery(tmp_path, "t", "")
        for i in range(120):
            book.add(f"{names}{i}", [Picture(label, f"_{label}.png", 9, 9) for label in labels])
        book.close()
        assert max(path.stat().st_size for path in tmp_path.glob("*.html")) < 1_000_000
        assert len(book.rows) == 120


def test_pages_of_an_earlier_longer_book_are_removed(tmp_path):
    for count, pages in ((250, 3), (20, 1)):
        (tmp_path / "index_notes.html").write_text("mine")
        book = PagedGallery(tmp_path, "t", "")
        for i in range(count):
            book.add(str(i), fake(i))
        book.close()
        found = {path.name for path in tmp_path.glob("*.html")}
        assert found == {"index.html", "index_notes.html", *(f"index_{n}.html" for n in range(2, pages + 1))}


def test_ten_thousand_rows_can_be_searched_and_ordered(browser, tmp_path, record_property):
    """Every page below 1 MB; the first opens with its pictures, and all rows can be searched and ordered."""
    (tmp_path / "images").mkdir()
    book = PagedGallery(tmp_path, "t", "<h1>t</h1>", METRICS)
    first = tmp_path / "images" / "one.png"
    save(first, 0, "fake_B")
    for i in range(10_000):
        if i < 100 or i % 1000 == 77:
            for label in LABELS:
                (tmp_path / "images" / f"{i:05d}_{label}.png").hardlink_to(first)
        book.add(f"{i:05d}", fake(i), [i / 7, 50 - i / 300])
    book.close()
    sizes = [path.stat().st_size for path in tmp_path.glob("*.html")]
    record_property("largest page of 10,000 rows", f"{max(sizes) // 1000} kB")
    assert len(sizes) == 100 and max(sizes) < 1_000_000
    with opened(browser, tmp_path / "index.html") as page:
        until(page, "document.querySelector('img').naturalWidth === 24")
        page.fill(".search", "5077")
        until(page, "document.querySelector('.said').textContent.startsWith('1 of')")
        assert headings(page) == ["05077"]


def test_pages_of_single_pictures_are_small_and_can_be_walked(browser, tmp_path):
    """1,000 pictures of a class: four pages, each small; the viewer walks them."""
    (tmp_path / "images").mkdir()
    save(tmp_path / "images" / "cat_0_fake.png", 0, "fake_B")
    tiles = [("cat", Picture(str(i), f"_{i}_fake.png", 24, 16)) for i in range(1000)]
    for i in range(1, 1000):
        (tmp_path / "images" / f"cat_{i}_fake.png").hardlink_to(tmp_path / "images" / "cat_0_fake.png")
    write_tiles(tmp_path, "class_cat", "t", "<h1>cat</h1>", tiles, 64)
    assert list(check_gallery(tmp_path)) == ["class_cat.html", *(f"class_cat_{n}.html" for n in (2, 3, 4))]
    with opened(browser, tmp_path / "class_cat_2.html") as page:
        page.locator("a.picture").first.click()
        page.keyboard.press("ArrowRight")
        assert place(page) == "cat 251 · 24 × 16 · 2 of 250"
        assert page.locator(".viewer button[aria-label^=Compare]").is_hidden()


def test_only_the_better_figure_is_marked_best():
    cases = [([1, 2], "lower", 0), ([1, 2], "higher", 1), ([1, 2], "", -1), ([2, 2], "lower", -1), ([1], "lower", -1),
             ([math.nan, 2], "lower", -1), ([math.nan, 2, 3], "higher", 2), ([math.inf, 3], "higher", 0)]  # fmt: skip
    assert [rows.best_index(values, better) for values, better, _ in cases] == [place for *_, place in cases]
