"""Scripts answer flags that they do not have with those that they have."""

import re

import pytest

from cli.script import Command
from util.errors import OptionError

SCRIPTS = ["combine_A_and_B", "compare", "download", "edges", "make_aligned", "openmoji", "plot_losses",
           "prepare_cityscapes", "resize", "split"]  # fmt: skip


def command() -> Command:
    made = Command("x.py", "A script.")
    made.add_argument("--input", required=True)
    made.add_argument("--output", required=True)
    made.add_batch_flags()
    return made


@pytest.mark.parametrize(("given", "meant"), [
    ("--in", "--input"), ("--src", "--input"), ("--out", "--output"), ("--dst", "--output"), ("--outputs", "--output"),
    ("--workers", "--num_threads"), ("--jobs", "--num_threads"), ("-j", "--num_threads"), ("--force", "--overwrite"),
    ("--dry-run", "--dry_run"), ("--ovewrite", "--overwrite"), ("--output-dir", "--output"),
])  # fmt: skip
def test_an_unknown_flag_is_answered_with_the_one_meant(given, meant):
    for argv in ([given, "x"], ["--input", "a", "--output", "b", given, "x"], [f"{given}=x"]):
        with pytest.raises(OptionError) as caught:
            command().parse_argv(argv)
        assert str(caught.value) == f"option '{given}': is not a flag; did you mean {meant}?"


@pytest.mark.parametrize("given", ["--frobnicate", "--verbose", "-q", "--xyz"])
def test_nothing_is_suggested_where_nothing_is_close(given):
    with pytest.raises(OptionError, match="is not a flag; see --help"):
        command().parse_argv(["--input", "a", "--output", "b", given])


def test_a_missing_argument_is_named():
    with pytest.raises(OptionError, match="are required: --output"):
        command().parse_argv(["--input", "a"])


def test_a_path_with_a_space_and_a_stray_word_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    with pytest.raises(OptionError, match="path 'my photos': contains a space; put it in quotes: 'my photos'"):
        command().parse_argv(["--input", "my", "photos", "--output", "b"])
    with pytest.raises(OptionError, match="argument 'stray': does not belong to a flag"):
        command().parse_argv(["--input", "a", "--output", "b", "stray"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_answers_in_this_way(script, name):
    ended = script(name, "--frobnicate")
    assert ended.code == 2
    assert re.fullmatch(r"error: .+ '--frobnicate'.*: is not a flag; see --help\n", ended.err), ended.err
