"""Test the scripts of the pages: those that one page loads share one global scope."""

import re
from collections import Counter

import pytest

from pages import compare, paged_gallery, training
from tests.support.runs import ROOT

ASSETS = ROOT / "pages" / "assets"
PAGES = {
    "results": paged_gallery.SCRIPTS,
    "compare": (*paged_gallery.SCRIPTS, *compare.SCRIPTS),
    "training": training.SCRIPT_FILES,
}


def top_level_names(source):
    """Return the functions, classes and variables that a script declares outside of all blocks."""
    names = re.findall(r"^(?:async )?(?:function\*?|class) (\w+)", source, re.MULTILINE)
    for line in re.findall(r"^(?:const|let|var)( .*)", source, re.MULTILINE):
        names += re.findall(r"(?:^|,) (\w+)(?=\s*[=,;])", line)
    return names


def test_top_level_names_are_found():
    source = "async function a() {\n  let b = 1;\n}\nclass C {}\nlet d, e = 0, f = null;\nconst g = { h: 1, i: 2 };\n"
    assert top_level_names(source) == ["a", "C", "d", "e", "f", "g"]


@pytest.mark.parametrize("page", PAGES)
def test_scripts_of_a_page_declare_each_name_once(page):
    counts = Counter(name for file in PAGES[page] for name in top_level_names((ASSETS / file).read_text("utf-8")))
    assert "make" in counts and [name for name, count in counts.items() if count > 1] == []


def test_every_script_is_on_a_page():
    assert {file for files in PAGES.values() for file in files} == {path.name for path in ASSETS.glob("*.js")}
