"""The files and commands of docs/plugins.md work, and print what the page promises."""

import re
import shlex
import tomllib

import pytest

from tests.support.runs import ROOT

PAGE = (ROOT / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILES = {file: text for _, file, text in BLOCKS if file}


def commands():
    """Return (commands, promised lines) of each sh block; a text block belongs to the sh block before it."""
    found = []
    for language, _, text in BLOCKS:
        if language == "sh":
            found.append((text.splitlines(), []))
        elif language == "text":
            found[-1][1].extend(text.splitlines())
    return found


@pytest.fixture
def files(tmp_path):
    """The page's files, in the folder where its commands run."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)


def run(line, process):
    """Run a line of the page; its scripts are found in the repository, its files in the folder."""
    python, script, *argv = shlex.split(line)
    assert (python, script in ("train.py", "test.py")) == ("python", True), line
    more = ["--displays", "console,html", "--gpu_ids", "-1"] if script == "train.py" else []
    ended = process(script.removesuffix(".py"), *argv, *more)
    assert ended.code == 0, f"{line}\n{ended.err[-2000:]}"
    return ended.out + ended.err


@pytest.mark.parametrize(("lines", "promised"), commands(), ids=[lines[0][:60] for lines, _ in commands()])
def test_the_pages_commands_do_what_it_says(files, process, lines, promised):
    out = "".join(run(line, process) for line in lines)
    assert [text for text in promised if text not in out] == []


def test_every_file_of_the_page_is_used_by_a_command():
    text = " ".join(line for lines, _ in commands() for line in lines)
    assert len(FILES) >= 5
    assert [name for name in FILES if f"--plugin {name}" not in text] == []


def test_the_entry_points_are_the_example_packages():
    (shown,) = (tomllib.loads(text) for language, _, text in BLOCKS if language == "toml")
    real = tomllib.loads((ROOT / "examples" / "ganvas_examples" / "pyproject.toml").read_text())
    theirs = real["project"]["entry-points"]["ganvas.plugins"]
    assert shown["project"]["entry-points"]["ganvas.plugins"].items() <= theirs.items()


def test_every_python_block_is_a_file_that_is_run():
    assert [text[:40] for language, file, text in BLOCKS if language == "python" and not file] == []
