"""A failing W&B does not affect the run, and hostile names are escaped on terminals."""

import ast
import json
import os
import re
import select
import sys
import threading
import time

import pytest

import displays.wandb
from displays.group import Display
from registry.loaded import our_folders
from tests.support.packages import needs
from tests.support.runs import ROOT, SMALL
from tests.support.terminals import Screen, console
from tests.support.training_runs import DEMO, rows
from tests.support.wandb_runs import history, offline_runs

# --- F91: Weights & Biases

# a package `wandb` that does to the process what FAKE says; offline it always works, and writes down what it gets
PACKAGE = """
import json, os, sys, threading

class Settings:
    def __init__(self, **words):
        pass

class Image:
    def __init__(self, image, caption):
        pass

def init(settings, resume, **run):
    offline = os.environ.get("WANDB_MODE") == "offline"
    fault = os.environ["FAKE"] if not offline else os.environ.get("FAKE_OFFLINE", "")
    if fault == "prompt":
        with open("/dev/tty"):  # as getpass does
            return None
    if fault == "ask":
        return input("Enter your choice: ")
    if fault == "hang":
        threading.Event().wait()
    if fault:
        raise RuntimeError(fault)
    return Run(os.path.join(run["dir"], "wandb"), stalls=not offline)

class Run:
    url, step = "", 0

    def __init__(self, folder, stalls):
        self.file, self.stalls = open(os.path.join(folder, "rows"), "w"), stalls
        print(os.getpid(), file=open(os.path.join(folder, "pid"), "w"), flush=True)

    def log(self, row, step):
        if self.stalls:
            threading.Event().wait()
        print(json.dumps([step, {k: v for k, v in row.items() if "/" not in k}]), file=self.file, flush=True)

    def finish(self):
        print("finished", file=self.file, flush=True)
"""
FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 2, "--n_epochs_decay", 0,
       "--max_dataset_size", 3, "--print_freq", 1, "--display_freq", 1, "--name", "run", "--use_wandb"]  # fmt: skip


class Wandb:
    """What the tests know of Weights & Biases: the processes that logged to it, and what was said of it."""

    def __init__(self):
        self.children, self.said, self.heard = [], [], threading.Event()

    def note(self, text):
        self.said.append(text)
        self.heard.set()


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """A stand-in for the package, the run waiting at its first epoch's end for the note that has to come."""
    known, popen = Wandb(), displays.wandb.subprocess.Popen
    (tmp_path / "site" / "wandb").mkdir(parents=True)
    (tmp_path / "site" / "wandb" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    say = displays.wandb._print_line

    def noted(*args, **kwargs):
        known.children.append(popen(*args, **kwargs))
        return known.children[-1]

    monkeypatch.setattr(displays.wandb.subprocess, "Popen", noted)
    monkeypatch.setattr(displays.wandb, "_print_line", lambda text: (say(text), known.note(text)))
    monkeypatch.setattr(displays.wandb, "INIT_TIMEOUT_S", 0.5)
    yield known
    for child in known.children:
        if not child.stdin.closed:
            child.kill()
        child.wait(60)


def patient(monkeypatch, known):
    """Let the run's first epoch end only when something was said of Weights & Biases."""
    epoch = displays.wandb.Wandb.epoch
    monkeypatch.setattr(displays.wandb.Wandb, "epoch", lambda self, *args: (known.heard.wait(60), epoch(self, *args)))


@pytest.mark.fault(91)
def test_a_missing_wandb_package_is_one_note(command, tmp_path, monkeypatch):
    """The package wandb is not installed: one note with the command that installs it; the run is not affected."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    ended = command("train", *FEW)
    assert ended.code == 0, ended.err
    notes = [line for line in (ended.out + ended.err).splitlines() if "wandb" in line]
    assert len(notes) == 1 and "'wandb': is not installed; pip install -r requirements-extras.txt" in notes[0]
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6


REASONS = {
    "not logged in": "not logged in", "no network": "no network", "hang": "no answer within 0.75 s",
    "prompt": r"\[Errno \d+\] No such device or address: '/dev/tty'", "ask": "EOF when reading a line",
}  # fmt: skip


@pytest.mark.fault(91)
@pytest.mark.parametrize("fault", REASONS)
def test_an_unusable_wandb_server_makes_the_run_log_to_files(command, wandb, tmp_path, monkeypatch, fault):
    """There is no login or no network, the start hangs, or wandb prompts: the run continues, and a new process logs to
    files.
    """
    monkeypatch.setenv("FAKE", fault)
    monkeypatch.setattr(sys.stdin, "fileno", lambda: 1 / 0, raising=False)  # nothing of ours may read it
    patient(monkeypatch, wandb)
    ended = command("train", *FEW)
    assert ended.code == 0, ended.err
    (child,) = wandb.children
    assert child.wait(60) == 0
    folder = tmp_path / "checkpoints" / "run"
    found = (folder / "wandb" / "rows").read_text().splitlines()
    assert [json.loads(line)[0] for line in found[:-1] if "G_L1" in line] == [1, 2, 3, 4, 5, 6]
    assert found[-1] == "finished"
    assert len(wandb.said) == 1
    assert re.fullmatch(
        rf"note: Weights & Biases is logged to files \({REASONS[fault]}\); send it later with: "
        r"wandb sync .*run/wandb/offline-run-\*",
        wandb.said[0],
    )
    assert len([line for line in ended.out.splitlines() if "Weights & Biases" in line]) == 1
    assert "Enter your choice" not in ended.out + ended.err


@pytest.mark.fault(91)
def test_without_server_and_files_the_run_goes_on(command, wandb, tmp_path, monkeypatch):
    """Neither W&B's server nor its files work: two notes, and the run continues without W&B."""
    monkeypatch.setenv("FAKE", "no network")
    monkeypatch.setenv("FAKE_OFFLINE", "no space")
    off = threading.Event()
    note = wandb.note
    wandb.note = lambda text: (note(text), off.set() if "is off" in text else None)
    wandb.heard = off
    patient(monkeypatch, wandb)
    monkeypatch.setattr(Wandb, "note", wandb.note)
    ended = command("train", *FEW)
    assert ended.code == 0, ended.err
    assert [text.partition(" (")[0] for text in wandb.said] == [
        "note: Weights & Biases is logged to files",
        "note: Weights & Biases is off",
    ]
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 6


@pytest.mark.fault(91)
def test_a_server_that_stalls_in_mid_run_delays_no_step(command, wandb, tmp_path, monkeypatch, record_property):
    """W&B starts and then accepts nothing more: every step is done and logged, and at most four messages wait."""
    monkeypatch.setenv("FAKE", "")
    sinks, init = [], displays.wandb.Wandb.__init__
    monkeypatch.setattr(displays.wandb.Wandb, "__init__", lambda self, *a: (sinks.append(self), init(self, *a))[1])
    close = displays.wandb.Wandb.close
    spent = []

    def timed(self):
        begun = time.monotonic()
        close(self)
        spent.append(time.monotonic() - begun)

    monkeypatch.setattr(displays.wandb.Wandb, "close", timed)
    ended = command("train", *FEW, "--n_epochs", 20)
    assert ended.code == 0, ended.err
    assert len(rows(tmp_path / "checkpoints" / "run")[0]) == 60
    (child,) = wandb.children
    assert child.poll() is None  # left alone, stalled as it is
    assert len(sinks[0].waiting) <= 4
    record_property("W&B stalled in mid-run: seconds its end added", f"{spent[0]:.1f}")
    assert displays.wandb.CLOSE_TIMEOUT_S < 2
    child.kill()


@pytest.mark.fault(91)
def test_the_logging_process_ends_when_training_is_killed(start, tmp_path, monkeypatch):
    """The training process is killed with -9: the W&B process completes what is on disk and ends by itself."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system cannot wait for a process that is not its child")
    (tmp_path / "site" / "wandb").mkdir(parents=True)
    (tmp_path / "site" / "wandb" / "__init__.py").write_text(PACKAGE)
    begun = start("train", *FEW, "--n_epochs", 1000, PYTHONPATH=str(tmp_path / "site"), FAKE="x", WANDB_MODE="offline")
    folder = tmp_path / "checkpoints" / "run" / "wandb"
    for line in begun.stdout:
        if line.startswith("End of epoch") and (folder / "pid").exists() and (folder / "pid").read_text():
            break
    handle = os.pidfd_open(int((folder / "pid").read_text()))
    begun.kill()
    assert select.select([handle], [], [], 60)[0]
    os.close(handle)
    assert (folder / "rows").read_text().endswith("finished\n")


@pytest.mark.fault(91)
@needs("wandb")
@pytest.mark.parametrize("server", ["none", "refused", "tarpit"])
def test_the_real_package_keeps_all_losses_in_files(command, tmp_path, monkeypatch, server, request):
    """The real wandb has no key, or a server that refuses or never answers: all losses are in files."""
    import socket

    known, popen, say = Wandb(), displays.wandb.subprocess.Popen, displays.wandb._print_line
    monkeypatch.setattr(
        displays.wandb.subprocess,
        "Popen",
        lambda *a, **k: (known.children.append(popen(*a, **k)), known.children[-1])[1],
    )
    monkeypatch.setattr(displays.wandb, "_print_line", lambda text: (say(text), known.note(text)))
    monkeypatch.setattr(displays.wandb, "INIT_TIMEOUT_S", 2.0)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    listener = socket.create_server(("127.0.0.1", 0))
    request.addfinalizer(listener.close)
    if server != "none":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        port = listener.getsockname()[1] if server == "tarpit" else 9
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    patient(monkeypatch, known)
    ended = command("train", *FEW)
    assert ended.code == 0, ended.err
    assert known.children[0].wait(60) == 0
    folder = tmp_path / "checkpoints" / "run"
    (run,) = offline_runs(folder)
    assert [(row["_step"], row["G_L1"]) for row in history(run)] == [
        (row["samples"], row["losses"]["G_L1"]) for row in rows(folder)[0]
    ]
    assert len(known.said) == 1 and known.said[0].startswith("note: Weights & Biases is logged to files (")


# --- F93: control characters

CONTROL = re.compile(r"[^\x20-\x7e\n\t\u00a0-\ud7ff]")  # what may not reach a terminal, of what these tests print
NASTY = "a\x1b[2J\nerror: forged\rb\x07\x9b31m"
NAMES = '''
"""Losses and pictures with names that write to terminals."""
from models.pix2pix import Pix2Pix

NASTY = {name!r}


class Nasty(Pix2Pix):
    def loss_g(self, batch, out):
        terms = super().loss_g(batch, out)
        bad = float("nan") if batch["path_A"][0].endswith("2.png") else 1.0
        return terms | {{NASTY: terms["G_L1"] * 0.01 * bad}}

    def show(self, out):
        return super().show(out) | {{NASTY: out["fake_B"]}}
'''


def is_clean(text):
    """Whether a text of lines holds no control character and no line that a name has forged."""
    return not CONTROL.search(text) and not any(line.startswith("error: forged") for line in text.splitlines())


@pytest.fixture
def nasty(tmp_path, paired):
    """Flags of a run whose pictures, folders, losses and labels have such names."""
    for number, picture in enumerate(sorted((paired / "train").iterdir())):
        picture.rename(picture.with_name(f"{NASTY}{number}.png"))
    paired.rename(tmp_path / NASTY)
    (tmp_path / "nasty.py").write_text(NAMES.format(name=NASTY))
    return [*SMALL, "--plugin", "nasty.py", "--model", "nasty", "--netG", "resnet_4blocks", "--dataroot", NASTY,
            "--checkpoints_dir", "runs" + NASTY, "--n_epochs", 1, "--n_epochs_decay", 0, "--print_freq", 1, "--name",
            "x", "--displays", "console,health,visdom"]  # fmt: skip


@pytest.mark.fault(93)
def test_hostile_names_are_escaped_in_every_line_of_a_training(command, nasty, tmp_path):
    r"""Files, folders, losses and labels contain \x1b[2J and newlines: all are escaped in every line and in the log."""
    ended = command("train", *nasty, "--on_nan", "skip")
    assert ended.code == 0, ended.err
    said = ended.out + ended.err
    assert is_clean(said), CONTROL.findall(said)
    assert said.count("batch skipped") == 1 and "a\\x1b[2J\\nerror: forged\\rb" in said
    assert r"a\x1b[2J\nerror: forged\rb\x07\x9b31m: 0." in said  # the loss
    log = (tmp_path / ("runs" + NASTY) / "x" / "loss_log.txt").read_text()
    assert is_clean(log) and log.count("\n") == 1 + 5
    picture = next(iter((tmp_path / NASTY / "train").iterdir()))
    picture.rename(picture.with_name("other" + NASTY + ".png"))
    for more, code in (([], 3), (["--allow_data_change"], 0)):
        ended = command("train", *nasty, "--on_nan", "skip", "--continue_train", "--n_epochs", 2, *more)
        assert (ended.code, is_clean(ended.out + ended.err)) == (code, True), ended.err
        assert r"a\x1b[2J\nerror: forged" in ended.out + ended.err
    ended = command("train", *nasty, "--overwrite")  # NaN ends it, naming the picture
    assert (ended.code, is_clean(ended.out + ended.err)) == (6, True), ended.err


@pytest.mark.fault(93)
def test_hostile_names_are_escaped_in_every_line_of_a_test(command, nasty, tmp_path):
    """Such names occur in test.py, in an unreadable image, in a stopped run and in --list: they are escaped in every
    line.
    """
    assert command("train", *nasty, "--on_nan", "skip").code == 0
    run = ["--checkpoints_dir", "runs" + NASTY, "--name", "x", "--gpu_ids", "-1", "--num_threads", 0]
    ended = command("test", *run, "--results_dir", "results" + NASTY)
    assert (ended.code, is_clean(ended.out + ended.err)) == (0, True), ended.out + ended.err
    bad = next((tmp_path / NASTY / "train").iterdir())
    bad.write_bytes(b"no picture")
    ended = command("train", *nasty, "--name", "y")
    assert (ended.code, is_clean(ended.out + ended.err)) == (3, True), ended.err
    (tmp_path / "nasty.py").rename(tmp_path / (NASTY + ".py"))
    assert is_clean(command("train", "--plugin", NASTY + ".py", "--list").out)


@pytest.mark.fault(93)
def test_hostile_names_on_a_bar_are_escaped(monkeypatch, tmp_path, request):
    """A loss has such a name on a terminal: only the bar's own carriage returns are written."""
    screen = Screen(columns=140)
    sink = console(monkeypatch, screen, request)
    screen.train(sink, {NASTY: 0.5, "G": 1.0})
    Display([sink]).say(f"note: {NASTY}")
    text = screen.close()
    assert "\x1b" not in text and "\x07" not in text and "\x9b" not in text
    assert r"a\x1b[2J\nerror: forged\rb\x07\x9b31m=0.500" in text


ESCAPES = ("printable", "format_problems", "error_text")  # their results hold no control character
# by file: a part of each print whose names are safe although the print itself does not escape them, and why
SAFE = {
    "cli/main.py": {"map(printable, trace.splitlines())": "each line is escaped"},
    "options/texts.py": {
        "_LEGEND": "fixed", "_format_flag": "fields and their help, in code",
        "{kind}": "a name of PART_TABLES"},
    "util/errors.py": {"(text, file=stream)": "print_line has escaped it"},
}  # fmt: skip


def has_bare_name(node):
    """Whether an expression shows a value that no function of ESCAPES has escaped."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ESCAPES:
        return False
    if isinstance(node, ast.IfExp):  # what it tests is not shown
        return has_bare_name(node.body) or has_bare_name(node.orelse)
    return isinstance(node, ast.Name | ast.FormattedValue) or any(map(has_bare_name, ast.iter_child_nodes(node)))


def bare_prints(source):
    """Return the calls of print and tqdm.write in a source that show a name without escaping it."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    prints = [call for call in calls if ast.unparse(call.func) in ("print", "tqdm.write")]
    return [ast.unparse(call) for call in prints if any(map(has_bare_name, call.args))]


@pytest.mark.fault(93)
def test_no_print_shows_a_name_as_it_is():
    """Every print of a note in the sources passes through `printable`, or shows no name that a user or file gave."""
    folders = [ROOT / folder for folder in our_folders() if folder not in ("scripts", "benchmarks")]
    files = [ROOT / "train.py", ROOT / "test.py", *(path for folder in folders for path in folder.rglob("*.py"))]
    prints = {path.relative_to(ROOT).as_posix(): bare_prints(path.read_text(encoding="utf-8")) for path in files}
    bare = [
        (path, text)
        for path, texts in prints.items()
        for text in texts
        if not any(part in text for part in SAFE.get(path, ()))
    ]
    assert bare == []
    dead = [
        (path, part)
        for path, parts in SAFE.items()
        for part in parts
        if not any(part in text for text in prints.get(path, ()))
    ]
    assert dead == []


@pytest.mark.fault(93)
@pytest.mark.parametrize("line", ['print(f"note: {name}")', "print(note)", 'tqdm.write("a" + name)', "print(a.b)",
                                  'print(printable(head) + f": {name}", flush=True)', "print(*notes)"])  # fmt: skip
def test_a_print_of_a_bare_name_is_flagged(line):
    """A print in the sources shows a name without escaping it: the check of the sources flags it."""
    assert bare_prints(line) and not bare_prints('print("fixed")\nprint(printable(name))\nprint(f"fixed")')
