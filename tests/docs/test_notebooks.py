"""The notebooks of docs/ run from their first cell to their last, and hold no outputs."""

import json

import pytest

from tests.support.runs import ROOT

QUICK_START = ROOT / "docs" / "notebooks" / "quick_start.ipynb"
TINY = {"parameters": "size, images, epochs, features = 32, 2, 1, 4"}  # the tag of a cell: what replaces its code


def test_the_quick_start_runs_and_shows_its_results(monkeypatch, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(QUICK_START, as_version=4)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", ()):
            cell.source = TINY[tag]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [set(output.get("data", ())) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("text/html" in kinds for kinds in shown) == 2, "the run, and the list of images"
    assert sum("image/png" in kinds for kinds in shown) == 2, "an image of each direction"
    run = next(o.data["text/html"] for c in notebook.cells for o in c.get("outputs", ()) if "data" in o)
    assert "<polyline" in run and "fake_B" in run


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
