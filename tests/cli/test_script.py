"""Scripts answer flags that they do not have with those that they have."""

import importlib
import re

import pytest

from cli.main import Report
from cli.script import Command
from tests.support.runs import ROOT
from util.errors import OptionError

SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if "Command(" in path.read_text())
OF_TRAIN = ("check_data", "make_shards")  # whose other flags are those of train.py
NOT_OURS = ("argument --", "expected", "invalid", "usage", "the following", "required")  # words of argparse


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
    with pytest.raises(OptionError, match=r"command 'x\.py': needs --output OUTPUT; add it; see --help"):
        command().parse_argv(["--input", "a"])


def test_a_path_with_a_space_and_a_stray_word_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    with pytest.raises(OptionError, match="path 'my photos': contains a space; put it in quotes: 'my photos'"):
        command().parse_argv(["--input", "my", "photos", "--output", "b"])
    with pytest.raises(OptionError, match="argument 'stray': does not belong to a flag"):
        command().parse_argv(["--input", "a", "--output", "b", "stray"])


class _Known(Exception):
    """Ends a script once its flags are known."""


def flags_of(name, monkeypatch):
    """Return the flags of a script as argparse knows them."""

    def tell(self, argv, namespace=None):
        raise _Known(self)

    with monkeypatch.context() as patch:
        patch.setattr(Command, "parse_known_args", tell)
        with pytest.raises(_Known) as caught:
            importlib.import_module(f"scripts.{name}").main([], Report())
    return [action for action in caught.value.args[0]._actions if action.option_strings and action.dest != "help"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_wrong_and_missing_values_get_one_line_of_ours(script, name, monkeypatch):
    for action in flags_of(name, monkeypatch):
        flag, wrong = action.option_strings[0], action.choices or getattr(action.type, "__name__", "") != "str"
        tried = [[f"{flag}=x"]] if action.nargs == 0 else [[flag]] if action.nargs != "?" else []
        tried += [[flag, "nan:x"]] if action.type and wrong else []
        tried += [[flag, f"{next(iter(action.choices))}x"]] if action.choices else []
        for argv in tried:
            ended = script(name, *argv)
            assert ended.code == 2 and ended.out == "", (argv, ended)
            assert re.fullmatch(rf"error: option '{flag}': .+; .+\n", ended.err), (argv, ended.err)
            assert not any(word in ended.err for word in NOT_OURS), ended.err
            assert "did you mean" in ended.err or not (action.choices and argv[-1] != flag and argv[-1] != "nan:x")
    if name not in OF_TRAIN:
        longest = max((flag for action in flags_of(name, monkeypatch) for flag in action.option_strings), key=len)
        assert f"did you mean {longest}?" in script(name, longest[:-2] + longest[-1]).err


@pytest.mark.parametrize(("argv", "said"), [
    (["draw", "--port", "x"], "option '--port': 'x' is not a whole number; give a whole number"),
    (["edges", "--sigma", "inf"], "option '--sigma': 'inf' is not a finite number; give a number"),
    (["resize", "--input", "a", "--output", "b"], "needs --size WxH or --short_side N or --long_side N; add what is"),
    (["resize", "--size", "0", "--input", "a", "--output", "b"], "'0' is not a size; give pixels: 256, or 512x256"),
    (["resize", "--size", "9", "--long_side", "3"], "option '--long_side': excludes --size; omit one of them"),
    (["resize", "--long_side", "0"], "'0' is not a whole number above 0; give 1 or more"),
    (["export", "--name", "a", "--format", "onx"], "did you mean onnx? choose one of onnx, "),
    (["compare"], "command 'compare.py': needs RUN; add it"),
])  # fmt: skip
def test_what_a_value_should_be_is_said(script, argv, said):
    ended = script(*argv)
    assert ended.code == 2 and said in ended.err and ended.err.count("\n") == 1, ended.err


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in OF_TRAIN])
def test_every_script_answers_in_this_way(script, name):
    ended = script(name, "--frobnicate")
    assert ended.code == 2
    assert re.fullmatch(r"error: .+ '--frobnicate'.*: is not a flag; see --help\n", ended.err), ended.err
