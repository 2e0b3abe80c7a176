"""The command `ganvas` without a command, and with a wrong one; tests/ganvas/test_package.py runs the others."""

import sys

import pytest

from ganvas import __main__ as command


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])


def test_without_a_command_the_usage_is_printed(capsys):
    assert command.main([]) == 0 == command.main(["--help"])
    usage = capsys.readouterr().out.splitlines()
    assert usage[0] == usage[1] and usage[0].startswith("usage: ganvas train|test|evaluate|")


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert command.main(["checkdata"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: command 'checkdata': there is no such command; did you mean check-data?")
    assert said.count("\n") == 1
