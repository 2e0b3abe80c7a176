"""The notebooks of docs/ run from their first cell to their last, and hold no outputs."""

import json

import pytest

from tests.support.packages import unpacked_wheel
from tests.support.runs import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
TINY = {"parameters": "size, images, epochs, features = 32, 2, 1, 4"}  # the tag of a cell: what replaces its code


@pytest.fixture
def outputs_of(request, monkeypatch, tmp_path):
    """outputs_of(name, package): run a notebook with tiny settings, with the package in a folder; return its outputs.

    With --installed it runs in that Python's environment, which has ipykernel (make release-check).
    """
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    python, kernel = request.config.getoption("--installed"), "python3"
    if python:
        (tmp_path / "kernels/installed").mkdir(parents=True)
        words = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
        (tmp_path / "kernels/installed/kernel.json").write_text(json.dumps(words | {"display_name": "installed"}))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
        kernel = "installed"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(name, package):
        monkeypatch.setenv("PYTHONPATH", "" if python else str(package))
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            for tag in cell.metadata.get("tags", ()):
                cell.source = TINY[tag]
        place = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=300, kernel_name=kernel, resources=place).execute()
        return [output for cell in notebook.cells for output in cell.get("outputs", ())]

    return run


@pytest.mark.public
def test_the_quick_start_runs_from_the_wheel(outputs_of, tmp_path_factory):
    wheel = unpacked_wheel(tmp_path_factory.mktemp("source"))
    shown = [output.data for output in outputs_of("quick_start", wheel) if "data" in output]
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert len(pages) == 2, "the run, and the list of images"
    assert sum("image/png" in data for data in shown) == 2, "an image of each direction"
    assert "<polyline" in pages[0] and "fake_B" in pages[0]


@pytest.mark.public
def test_the_notebook_of_an_own_gan_compares_two_runs(outputs_of):
    outputs = outputs_of("own_gan", ROOT)
    runs = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", ())]
    assert ["G_L1" in run for run in runs] == [True, True] and ["G_gradient" in run for run in runs] == [False, True]
    compared = [line for output in outputs for line in output.get("text", "").splitlines() if "'ssim'" in line]
    assert len(compared) == 2 and "first" in compared[0] and "second" in compared[1]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 1


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
