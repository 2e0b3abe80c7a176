"""Measure how long pages of 10,000 result rows and of 1,000 training epochs take to write and to open in a browser.

python benchmarks/page_speed.py [--rows 10000] [--epochs 1000]
All images of the results are hard links to one small file. Opening needs Chromium and Playwright; its times are medians
of 5.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from displays.html import Html
from pages.paged_gallery import PagedGallery
from pages.rows import Column, Picture
from util.image_io import save_image
from util.progress import Progress

LABELS = ("real_A", "fake_B", "real_B")


def write_results_page(folder: Path, number: int) -> float:
    """Write a results page with `number` rows; return the seconds for the pages, without the images."""
    (folder / "images").mkdir(parents=True)
    picture = folder / "images" / "one.png"
    save_image(np.zeros((64, 64, 3), np.uint8), picture)
    columns, seconds = [Column("L1", "lower"), Column("PSNR", "higher")], 0.0
    gallery = PagedGallery(folder, "results", "<h1>results</h1>", columns)
    for i in range(number):
        name = f"picture {i:05d}"
        for label in LABELS:
            (folder / "images" / f"{name}_{label}.png").hardlink_to(picture)
        start = time.perf_counter()
        gallery.add(name, [Picture(label, f"_{label}.png", 64, 64) for label in LABELS], [i / number, 30 - i / number])
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    gallery.close()
    return seconds + time.perf_counter() - start


def write_training_page(folder: Path, epochs: int) -> list[float]:
    """Write a training page after each of `epochs` epochs; return the seconds of each update."""
    flags = {"print_freq": 1, "update_html_freq": 1, "display_winsize": 64, "name": "run", "gan_mode": "lsgan"}
    o = SimpleNamespace(**flags, given=set(), flags={}, metrics=(), model="pix2pix", dataset_mode="aligned")
    sink, at, seconds = Html(o, folder), Progress(epoch_size=10, last_epoch=epochs), []
    pictures = {label: np.full((64, 64, 3), 99, np.uint8) for label in LABELS}
    for epoch in range(1, epochs + 1):
        at.epoch, at.seen = epoch, 0
        for _ in range(10):
            at.advance(1, 0.1, 0.1)
            sink.curves.add(at.at, {f"loss_{i}": 1 / at.step + i for i in range(8)})
        start = time.perf_counter()
        sink.images(at, pictures)
        seconds.append(time.perf_counter() - start)
    return seconds


def describe_opening(page_file: Path, selector: str) -> str:
    """Return a text with the time until Chromium has loaded a page and shows an element."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        return "not opened: Chromium is not installed"
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(5):
            page = browser.new_page()
            start = time.perf_counter()
            page.goto(page_file.resolve().as_uri(), wait_until="load")
            page.wait_for_selector(selector)
            seconds.append(time.perf_counter() - start)
            page.close()
        browser.close()
    return f"opens in {statistics.median(seconds):.2f} s"


def describe_page(folder: Path, selector: str) -> str:
    """Return a text with the sizes of a page's files and the time to open it."""
    largest = [max(p.stat().st_size for p in folder.glob(pattern)) / 1000 for pattern in ("*.html", "*.js")]
    sizes = f"largest page {largest[0]:.0f} kB, its data {largest[1]:.0f} kB"
    return f"{sizes}, {describe_opening(folder / 'index.html', selector)}"


def main() -> None:
    """Measure both kinds of pages and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=1_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = write_results_page(folder / "results", args.rows)
        description = describe_page(folder / "results", ".row")
        print(f"{args.rows} rows: written in {seconds:.2f} s without the images, {description}")
        updates = write_training_page(folder / "run", args.epochs)  # the seconds of each
        tenth = max(1, len(updates) // 10)
        early, late = (f"{statistics.median(part) * 1000:.0f} ms" for part in (updates[:tenth], updates[-tenth:]))
        description = describe_page(folder / "run" / "web", ".curve")
        print(f"{args.epochs} epochs: an update {early} at first, {late} at the end (with images), {description}")


if __name__ == "__main__":
    main()
