"""A process that exits quickly stops its threads, runs its exit handlers and keeps its exit code."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.runs import ROOT

SCRIPT = """
import atexit, os, sys, threading
sys.path.insert(0, {root!r})
from cli.startup import skip_interpreter_shutdown
ended = skip_interpreter_shutdown()
def say(text):  # in one piece: two threads do
    os.write(1, text.encode() + b"\\n")
class Last:
    def __del__(self): say("taken apart")
last, begun = Last(), threading.Event()
atexit.register(say, "called")
def work():
    begun.wait()
    say("thread")
threading.Thread(target=work).start()
{what}
begun.set()
say("end")
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("ended.append(3)", ["called", "end", "thread"]),
        ("", ["called", "end", "taken apart", "thread"]),
    ],
)
def test_threads_and_calls_come_before_the_end(what, said):
    done = subprocess.run(
        [sys.executable, "-u", "-c", SCRIPT.format(root=str(ROOT), what=what)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3 and done.stderr == ""
    assert sorted(done.stdout.splitlines()) == said


def test_all_that_test_py_says_arrives(interpreter):
    """Through a pipe, which holds lines back."""
    done = interpreter("test", "--help")
    assert done.code == 0 and done.out == (ROOT / "docs" / "test_help.txt").read_text()
    done = interpreter("test", "--name", "nothing")
    assert done.code == 4 and done.err.count("\n") == 1 and done.err.startswith("error: ")


def test_a_forked_process_looks_where_an_interpreter_does(process, interpreter, tmp_path, monkeypatch):
    """First in the script's folder, then in the folders of the PYTHONPATH that it is given, relative ones as well."""
    (tmp_path / "where.py").write_text("import json, sys\n\nprint(json.dumps(sys.path[:3]))\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), "near"]))
    for run in (interpreter, process):
        said = run("train", "--plugin", "where.py", "--list").out
        assert json.loads(said.splitlines()[0]) == [str(ROOT), str(tmp_path / "site"), str(tmp_path / "near")], said
