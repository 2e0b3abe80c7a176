"""The documents say what the code does."""

import re

import pytest

from registry.loaded import our_folders
from tests.support.runs import ROOT


@pytest.mark.parametrize("script", ["train", "test"])
def test_captured_help_is_current(command, script):
    """docs/SCRIPT_help.txt is what --help prints; mend with: python SCRIPT.py --help > docs/SCRIPT_help.txt."""
    assert command(script, "--help").out == (ROOT / "docs" / f"{script}_help.txt").read_text()


def test_every_flag_named_in_the_documents_exists():
    from options.fields import flags_of
    from options.parse import FLAG_CLASSES, flags_for

    holders = {holder for pair in FLAG_CLASSES.values() for holder in pair}
    flags = [f for holder in holders for f in flags_of(holder, "")]
    flags += [f for model in ("cycle_gan", "pix2pix", "cgan") for f in flags_for(model)]
    known = {f.name for f in flags} | {f.opposite for f in flags} | {"help", "list"}
    elsewhere = {"nproc_per_node", "n_ep", "n_e"}  # torchrun's, and the table's example of an abbreviation
    for page in ("README.md", "docs/migration.md"):
        named = set(re.findall(r"--([A-Za-z_0-9]+)", (ROOT / page).read_text()))
        assert named - known - elsewhere == set(), page


@pytest.mark.parametrize("page", ["README.md", "docs/design.md", "docs/plugins.md", "docs/data.md", "CONTRIBUTING.md"])
def test_files_named_in_the_documents_exist(page):
    text = (ROOT / page).read_text()
    folders = "|".join([*our_folders(), "tests", "docs", "examples"])
    named = set(re.findall(rf"(?<![\w/])((?:{folders})/[\w/]+\.\w+)", text))
    assert named, "the page names some file of the repository"
    assert {name for name in named if not (ROOT / name).is_file()} == set()
