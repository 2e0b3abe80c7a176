"""A run keeps the source of its plug-ins, and one note says what was changed since."""

import json
import shutil
import sys

import pytest

from tests.support.plugins import SMALLEST
from tests.support.runs import SMALL

pytestmark = pytest.mark.usefixtures("tables_as_they_were")
RUN = [*SMALL, "--model", "smallest", "--dataroot", "demo", "--max_dataset_size", 2, "--name", "s", "--n_epochs", 1,
       "--n_epochs_decay", 0]  # fmt: skip
AGAIN = ["--name", "s", "--continue_train", "--n_epochs", 2]
HELPER = "def same(x):\n    return x\n"
NESTED = "def inner(x):\n    return x\n"
SOURCE = SMALLEST.replace(
    "import nn\n", "import nn\nimport helper_of_smallest\nfrom parts_of_smallest import inner\n", 1
)


@pytest.fixture
def files(write, tmp_path):
    """A plug-in with a module and a package beside it; reload() forgets them, as a new process would."""
    write("mine/smallest.py", SOURCE)
    write("mine/helper_of_smallest.py", HELPER)
    write("mine/parts_of_smallest/__init__.py", "from parts_of_smallest.inner import inner\n")
    write("mine/parts_of_smallest/inner.py", NESTED)
    return tmp_path / "mine"


@pytest.fixture
def fresh(command, tmp_path):
    """Run a command after forgetting the plug-in's modules, as a new process would."""

    def run(*argv):
        for name in [n for n, m in sys.modules.items() if str(tmp_path) in str(getattr(m, "__file__", ""))]:
            del sys.modules[name]
        return command(*argv)

    return run


def notes(ended):
    assert ended.code == 0, ended.err
    return [line for line in ended.out.splitlines() if "plug-in files" in line]


def test_the_source_is_copied_with_its_modules(fresh, files, tmp_path):
    assert notes(fresh("train", "--plugin", files / "smallest.py", *RUN)) == []
    kept = tmp_path / "checkpoints" / "s" / "plugins"
    names = ["helper_of_smallest.py", "parts_of_smallest/__init__.py", "parts_of_smallest/inner.py", "smallest.py"]
    assert sorted(p.relative_to(kept).as_posix() for p in kept.rglob("*.py")) == names
    assert all((kept / name).read_bytes() == (files / name).read_bytes() for name in names)
    assert sorted(json.loads((kept / "sources.json").read_text())) == names
    for ended in (fresh("test", "--name", "s", "--num_test", 1), fresh("train", *AGAIN)):
        assert notes(ended) == []


CHANGES = {
    "a method": ("smallest.py", ".tanh()", ".sigmoid()", "smallest.py (Smallest.forward)"),
    "a default": ("smallest.py", "option(1.0", "option(2.0", "smallest.py (Smallest.Options)"),
    "a module beside it": ("helper_of_smallest.py", "return x", "return 2 * x", "helper_of_smallest.py (same)"),
    "a package's module": ("parts_of_smallest/inner.py", "x\n", "x  # x\n\nY = 1\n",
                           "parts_of_smallest/inner.py (top level)"),
    "a comment": ("smallest.py", "        super()", "        # first\n        super()", ""),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_one_note_says_what_has_changed(fresh, files, tmp_path, change):
    name, old, new, what = CHANGES[change]
    assert fresh("train", "--plugin", files / "smallest.py", *RUN).code == 0
    before = (files / name).read_text()
    assert old in before
    (files / name).write_text(before.replace(old, new))
    said = f"note: plug-in files changed since the run was trained: {what}; their former source is in "
    expected = [said + "checkpoints/s/plugins"] if what else []
    assert notes(fresh("test", "--name", "s", "--num_test", 1)) == expected
    assert notes(fresh("train", *AGAIN)) == expected
    kept = tmp_path / "checkpoints" / "s" / "plugins"
    assert (kept / name).read_text() == (files / name).read_text()
    assert (kept / f"{name}.1").read_text() == before
    assert notes(fresh("test", "--name", "s", "--num_test", 1)) == []  # it is the run's own from now on


def test_the_copy_runs_where_the_file_is_gone(fresh, files, tmp_path):
    assert fresh("train", "--plugin", files / "smallest.py", *RUN).code == 0
    shutil.rmtree(files)
    ended = fresh("test", "--name", "s")
    assert ended.code == 2
    remedy = ended.last.rpartition("(")[2].rstrip(")").split()
    assert remedy[0] == "--plugin"
    assert notes(fresh("test", "--name", "s", "--num_test", 1, *remedy)) == []


def test_overwriting_a_run_replaces_the_copies(fresh, files, tmp_path):
    assert fresh("train", "--plugin", files / "smallest.py", *RUN).code == 0
    (files / "smallest.py").write_text(SMALLEST)
    ended = fresh("train", "--plugin", files / "smallest.py", *RUN, "--overwrite")
    assert notes(ended) == []
    kept = tmp_path / "checkpoints" / "s" / "plugins"
    assert sorted(p.name for p in kept.iterdir()) == ["smallest.py", "sources.json"]


def test_damaged_tables_and_copies_stop_nothing(fresh, files, tmp_path):
    assert fresh("train", "--plugin", files / "smallest.py", *RUN).code == 0
    kept = tmp_path / "checkpoints" / "s" / "plugins"
    (files / "smallest.py").write_text(SOURCE.replace(".tanh()", ".sigmoid()"))
    (kept / "smallest.py").write_text("damaged(")
    (note,) = notes(fresh("test", "--name", "s", "--num_test", 1))
    assert "trained: smallest.py; " in note
    for text in ("[1]", "{", '{"smallest.py": 3}'):
        (kept / "sources.json").write_text(text)
        assert notes(fresh("test", "--name", "s", "--num_test", 1)) == []
    assert notes(fresh("train", *AGAIN)) == []
