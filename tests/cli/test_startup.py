"""A process that exits quickly stops its threads, runs its exit handlers and keeps its exit code."""

import json
import os
import subprocess
import sys

import pytest

from options.parse import parse
from tests.support.runs import ROOT, SMALL

SCRIPT = """
import atexit, os, sys, threading
def say(text):  # in one piece: two threads do
    os.write(1, text.encode() + b"\\n")
class Last:
    def __del__(self): say("taken apart")
last, begun = Last(), threading.Event()
def work():
    begun.wait()
    say("thread")
def main(argv, report):
    atexit.register(say, "called")
    threading.Thread(target=work).start()
    begun.set()
    sys.stdout.write("end\\n")
    if argv:
        sys.exit(3)  # as --help of a model does
"""


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [([], 0, ["called", "end", "thread"]), (["--help"], 3, ["called", "end", "taken apart", "thread"])],
)
def test_threads_and_calls_come_before_the_end(argv, code, said, tmp_path):
    """Then the interpreter is not taken apart, which takes long; what was printed through a pipe arrives."""
    (tmp_path / "commanded.py").write_text(SCRIPT)
    start = "import sys; from cli.main import run_script; sys.exit(run_script('commanded', sys.argv[1:], lambda *_: 0))"
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", start, *argv], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
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


def test_train_without_arguments_prints_examples_that_parse(interpreter):
    """It starts nothing; each example is a command that the parser accepts."""
    done = interpreter("train")
    assert (done.code, done.err) == (2, "")
    assert done.out.startswith("usage: python train.py ")
    examples = [line.split("   ")[0].split() for line in done.out.splitlines() if line.startswith("  python train.py")]
    assert [words[:3] for words in examples] == [["python", "train.py", "--model"]] * 3
    for words in examples:
        o = parse(words[2:], "train")
        assert (o.model, o.name) == (words[3], words[-1])


def test_translating_does_not_import_the_compiler_of_torch(process, interpreter, tmp_path):
    """That would take most of a second, which few images may take."""
    (tmp_path / "spy.py").write_text(
        "import atexit, os, sys\n"
        "def tell():\n"
        "    found = {'torch._inductor', 'torch._dynamo'} & set(sys.modules)\n"
        "    os.write(1, f'compiler: {sorted(found)}\\n'.encode())\n"
        "atexit.register(tell)\n"
    )
    flags = [*SMALL, "--model", "pix2pix", "--netG", "unet_32", "--dataroot", "demo", "--max_dataset_size", "1"]
    assert process("train", *flags, "--n_epochs", "1", "--n_epochs_decay", "0", "--displays", "console").code == 0
    done = interpreter("test", "--plugin", "spy.py")
    assert done.code == 0, done.err
    assert done.out.endswith("compiler: []\n")
