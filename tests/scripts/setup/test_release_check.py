"""A release states one version, and holds the files that git knows."""

import shutil

import pytest

from scripts.setup import release_check
from tests.support.runs import ROOT


@pytest.fixture
def root(tmp_path):
    """A folder with the files that state the version."""
    for name in (*release_check.PLACES, "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_versions_of_this_tree_agree():
    assert release_check.version(ROOT).count(".") == 2


@pytest.mark.parametrize(("name", "before"), [("ganvas/__init__.py", '__version__ = "'), ("CHANGELOG.md", "\n## "),
                                              ("CITATION.cff", "\nversion: ")])  # fmt: skip
def test_another_version_anywhere_is_an_error(root, name, before):
    current = release_check.version(root)
    replace(root / name, before + current, before + "9.9.9")
    with pytest.raises(release_check.ReleaseError, match=rf"versions differ: .*{name} has 9\.9\.9"):
        release_check.version(root)


def test_a_version_of_its_own_in_pyproject_is_an_error(root):
    replace(root / "pyproject.toml", release_check.DYNAMIC, 'version = "0.1.0"')
    with pytest.raises(release_check.ReleaseError, match="does not take its version"):
        release_check.version(root)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_files_that_git_does_not_know_are_left_out(tmp_path):
    release_check.copy_tracked(tmp_path)
    assert (tmp_path / "train.py").is_file() and (tmp_path / "ganvas" / "py.typed").is_file()
    assert not (tmp_path / ".git").exists() and not list(tmp_path.rglob("__pycache__"))
