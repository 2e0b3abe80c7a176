"""Write examples/draw again after a change of its scripts: python -m tests.support.browser.example_page."""

import json
import re
from pathlib import Path

from pages.generator_page import write_generator_page
from tests.support.runs import ROOT

PLACE = ROOT / "examples" / "draw"
TITLE = "Colour a line drawing"
CREDIT = "Trained on icons of OpenMoji (openmoji.org), CC BY-SA 4.0, as are this generator and its pictures."


def write(folder: Path) -> None:
    """Write index.html and worker.js, with the facts of the page in examples/draw, into a folder."""
    data = re.search(r'id="data"[^>]*>(.*?)</script>', (PLACE / "index.html").read_text(encoding="utf-8"), re.DOTALL)
    assert data
    write_generator_page(folder, TITLE, json.loads(data[1]), [], CREDIT)


if __name__ == "__main__":
    write(PLACE)
    (PLACE / "runtime").rmdir()  # scripts/draw.py has its files from the user's cache
