"""The command `ganvas` without a command, and with a wrong one; tests/ganvas/test_package.py runs the others."""

import contextlib
import sys

import pytest

from ganvas import __main__ as command
from ganvas import __version__


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])


def test_without_a_command_the_usage_is_printed(capsys):
    assert command.main([]) == 0 == command.main(["--help"])
    printed = capsys.readouterr().out.splitlines()
    usage, *lines = printed[: len(printed) // 2]
    assert printed == 2 * [usage, *lines] and usage.startswith("usage: ganvas train|test|evaluate|")
    assert [line.split()[0] for line in lines] == [*command.SCRIPTS, *command.WORDS]
    assert all(len(line.split()) > 3 for line in lines)  # what it does


def test_the_version_is_the_packages(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ganvas {__version__}\n"


@pytest.mark.parametrize(("name", "flag"), [("train", []), ("test", ["--help"]), ("export", ["--help"])])
def test_usage_names_the_command_that_was_given(name, flag, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ganvas"])
    with contextlib.suppress(SystemExit):  # of argparse, after --help
        command.main([name, *flag])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: ganvas {name} ") and not any(".py" in line for line in lines[:5])


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert command.main(["checkdata"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: command 'checkdata': there is no such command; did you mean check-data?")
    assert said.count("\n") == 1
