"""The notebooks of docs/ run from their first cell to their last, and hold no outputs."""

import json

import pytest

from tests.support.runs import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
TINY = {"parameters": "size, images, epochs, features = 32, 2, 1, 4"}  # the tag of a cell: what replaces its code


def outputs_of(name, monkeypatch, folder):
    """Run a notebook with tiny settings in a folder; return its outputs that have data."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", ()):
            cell.source = TINY[tag]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_the_quick_start_runs_and_shows_its_results(monkeypatch, tmp_path):
    shown = [output.data for output in outputs_of("quick_start", monkeypatch, tmp_path) if "data" in output]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert len(pages) == 2, "the run, and the list of images"
    assert sum("image/png" in data for data in shown) == 2, "an image of each direction"
    assert "<polyline" in pages[0] and "fake_B" in pages[0]


def test_the_notebook_of_an_own_gan_compares_two_runs(monkeypatch, tmp_path):
    outputs = outputs_of("own_gan", monkeypatch, tmp_path)
    runs = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", ())]
    assert ["G_L1" in run for run in runs] == [True, True] and ["G_gradient" in run for run in runs] == [False, True]
    compared = [line for output in outputs for line in output.get("text", "").splitlines() if "'ssim'" in line]
    assert len(compared) == 2 and "first" in compared[0] and "second" in compared[1]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 1


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
