"""The documents name flags, files and messages that exist, and docs/*_help.txt is the current help."""

import ast
import re

import pytest

from registry.loaded import our_folders
from tests.support.runs import ROOT


@pytest.mark.parametrize("script", ["train", "test"])
def test_captured_help_is_current(command, script):
    """docs/SCRIPT_help.txt is what --help prints; write it with: python SCRIPT.py --help > docs/SCRIPT_help.txt."""
    assert command(script, "--help").out == (ROOT / "docs" / f"{script}_help.txt").read_text()


def test_every_flag_named_in_the_documents_exists():
    from options.fields import flags_of
    from options.names.other_names import FLAGS
    from options.names.pix2pixhd import OF_PIX2PIXHD
    from options.names.spade import OF_SPADE
    from options.names.stargan import OF_STARGAN
    from options.parse import FLAG_CLASSES, flags_for
    from util.spelling import normalise_name

    holders = {holder for pair in FLAG_CLASSES.values() for holder in pair}
    flags = [f for holder in holders for f in flags_of(holder, "")]
    models = ("cycle_gan", "pix2pix", "cgan", "cut", "pix2pixhd", "spade", "stargan")
    flags += [flag for model in models for flag in flags_for(model)]
    known = {f.name for f in flags} | {f.opposite for f in flags} | {"help", "list"}
    elsewhere = {"nproc_per_node", "index", "n_ep", "n_e"}  # of torchrun and pip, and the table's example
    elsewhere |= {"loadSize", "batchSize", *OF_PIX2PIXHD, *OF_SPADE, *OF_STARGAN}  # before 2019, and others'
    for page in ("README.md", "docs/migration.md"):
        named = set(re.findall(r"--([A-Za-z_0-9]+)", (ROOT / page).read_text()))
        named = {name for name in named if normalise_name(name) not in FLAGS}  # those of other programs
        assert named - known - elsewhere == set(), page


@pytest.mark.parametrize("page", ["README.md", "docs/design.md", "docs/plugins.md", "docs/data.md", "CONTRIBUTING.md"])
def test_files_named_in_the_documents_exist(page):
    text = (ROOT / page).read_text()
    folders = "|".join([*our_folders(), "tests", "docs", "examples"])
    named = set(re.findall(rf"(?<![\w/])((?:{folders})/[\w/]+\.\w+)", text))
    assert named, "the page names some file of the repository"
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_messages_quoted_in_the_table_of_errors_are_printed():
    """Each is a whole string of registry/, where a placeholder such as {name} stands for any text."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    table = page[page.index("| message | cause and remedy |") :]
    quoted = [
        text for row in re.findall(r"^\| (\".*?) \|", table, re.MULTILINE) for text in re.findall(r'"([^"]+)"', row)
    ]
    patterns = [p for file in (ROOT / "registry").glob("*.py") for p in _message_patterns(file.read_text())]
    assert len(quoted) >= 5
    assert [text for text in quoted if not any(re.fullmatch(p, text) for p in patterns)] == []


def _message_patterns(source):
    """Return a regular expression for each string of at least 20 letters outside its placeholders."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr | ast.Constant):
            pieces = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [str(p.value) if isinstance(p, ast.Constant) else None for p in pieces]
            if sum(len(text or "") for text in texts) >= 20:
                found.append("".join(".+" if text is None else re.escape(text) for text in texts))
    return found
