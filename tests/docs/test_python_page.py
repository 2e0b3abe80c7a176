"""The Python code of docs/python.md runs, and README's section is part of it."""

import re

from tests.support.images import picture
from tests.support.runs import ROOT


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_pages_code_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    picture(1, 100, 80).save("photo.jpg")
    names: dict[str, object] = {}
    for block in blocks("docs/python.md"):
        exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "checkpoints/first [1, 2, 4, 8]" in said and "\n2 10 " in said
    assert names["picture"].size == (32, 32) and names["large"].size == (100, 80)
    assert len(names["images"]) == 4 and len(names["steps"]) == 5
    assert 0 <= names["unit"].min() <= names["unit"].max() <= 1


def test_readmes_code_is_the_pages():
    """README trains on a folder of the reader's; its other lines are those of the page."""
    (code,) = blocks("README.md")
    page = "\n".join(blocks("docs/python.md"))
    lines = [line for line in code.splitlines() if line and "h2z" not in line]
    assert lines and all(line in page for line in lines)
