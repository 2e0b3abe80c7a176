"""A process that trains and lives on has its signals, settings and streams back; threads train without signals."""

import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch

import test as test_script
import train
from cli import signals
from cli.main import Report, run_command
from cli.signals import StopRequest
from options.parse import parse
from registry import discovery
from tests.support.runs import ROOT, SMALL
from tests.support.training_runs import weights
from util.errors import Stopped, UserError

FLAGS = [*SMALL, "--model", "pix2pix", "--netG", "unet_32", "--dataroot", "demo", "--max_dataset_size", "3",
         "--n_epochs", "1", "--n_epochs_decay", "0", "--displays", "console", "--deterministic", "--name", "run",
         "--overwrite"]  # fmt: skip
STOP = ("SIGINT", "SIGTERM", "SIGHUP")
USERS_CODE, CTRL_C_CODE = 17, 18  # exit codes of a process that lives on


def whole(argv):
    train.main(argv)


def with_report(argv):
    train.main(argv, Report())


def as_command(argv):
    assert run_command(train.main, argv) == 0


def to_the_end(argv):
    assert [progress.step for progress in train.training(parse(argv, "train"))] == [1, 2, 3]


def left(argv):
    for _ in train.training(parse(argv, "train")):
        break


def closed(argv):
    trained = train.training(parse(argv, "train"))
    next(trained)
    trained.close()


def stumbling(argv):
    try:
        for _ in train.training(parse(argv, "train")):
            raise ZeroDivisionError
    except ZeroDivisionError:
        return
    raise AssertionError


def refused(argv):
    try:
        train.main([*argv, "--crop_size", "20", "--load_size", "20"])
    except UserError:
        return
    raise AssertionError


def failing_command(argv):
    assert run_command(train.main, [*argv, "--lr", "1e30", "--n_epochs", "3"]) == 6


def stopped(argv):
    try:
        for progress in train.training(parse(argv, "train")):
            if progress.step == 1:
                signal.raise_signal(signal.SIGTERM)
    except Stopped:
        return
    raise AssertionError


def interrupted_twice(argv):
    try:
        for progress in train.training(parse(argv, "train")):
            if progress.step == 1:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return
    raise AssertionError


def train_and_test(argv):
    train.main(argv)
    test_script.main(["--name", "run", "--gpu_ids", "-1", "--num_test", "1", "--deterministic"], Report())


WAYS = [whole, with_report, as_command, to_the_end, left, closed, stumbling, refused, failing_command, stopped,
        interrupted_twice, train_and_test]  # fmt: skip


def is_ending(thread):
    """Return whether a thread has ended, after waiting for one that ends by itself: a closed queue's to a worker."""
    if thread.name == "QueueFeederThread":
        thread.join()
    return not thread.is_alive()


def state():
    """What a run may change in its process."""
    streams = sys.stdout, sys.stderr
    return {
        "handlers": {name: signal.getsignal(getattr(signal, name)) for name in (*STOP, "SIGALRM")},
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "streams": [(id(stream), getattr(stream, "errors", None)) for stream in streams],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "path": list(sys.path),
        "folder": os.getcwd(),
        "hooks": (sys.excepthook, threading.excepthook),
        "living": {thread.name for thread in threading.enumerate() if not is_ending(thread)},
    }


def equal_weights(*names):
    """Whether the exported weights of two runs are the same, bit for bit."""
    one, other = (weights(Path("checkpoints", name)) for name in names)
    return one.keys() == other.keys() == {"G", "D"} and all(
        torch.equal(value, other[net][key]) for net, values in one.items() for key, value in values.items()
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory):
    """One run before all others: what importing modules changes is not a run's doing."""
    home = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("first"))
    train_and_test(FLAGS)
    os.chdir(home)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_a_run_leaves_its_process_as_it_was(folder, way, deterministic):
    torch.use_deterministic_algorithms(deterministic)
    try:
        before = state()
        way(FLAGS)
        assert state() == before
    finally:
        torch.use_deterministic_algorithms(False)


def live_on(way, theirs):
    """Train in one way; then three copies of this process live on, each until another signal ends it."""
    if theirs:
        for name in STOP:
            signal.signal(getattr(signal, name), lambda number, frame: os._exit(USERS_CODE))
    way(FLAGS)
    for _ in STOP:
        if not os.fork():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)  # where a signal is not heard, the test fails of this one
            try:
                os.write(1, f"\nit lives on {os.getpid()}\n".encode())
                while True:
                    signal.pause()
            except KeyboardInterrupt:
                os._exit(CTRL_C_CODE)
    for _ in STOP:
        pid, status = os.wait()
        os.write(1, f"\n{pid} ended {os.waitstatus_to_exitcode(status)}\n".encode())


@pytest.mark.parametrize(
    ("way", "theirs"),
    [(whole, False), (as_command, False), (left, False), (stopped, False), (to_the_end, True), (failing_command, True)],
)
def test_a_signal_after_a_run_ends_what_follows(start, way, theirs):
    trained = start("train", before=partial(live_on, way, theirs))
    alive = (line.split()[-1] for line in trained.stdout if line.startswith("it lives on "))
    for name, pid in zip(STOP, list(islice(alive, len(STOP))), strict=True):
        number = getattr(signal, name)
        os.kill(int(pid), number)
        told = next(line.split()[-1] for line in trained.stdout if line.startswith(f"{pid} ended "))
        assert int(told) == (USERS_CODE if theirs else CTRL_C_CODE if name == "SIGINT" else -number), name


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("way", [whole, as_command, left, train_and_test], ids=lambda f: f.__name__)
def test_a_thread_trains_as_the_main_thread_does(folder, capfd, way, workers):
    """Silently, with the same weights, and with the signals of the process as they are."""
    flags = [*FLAGS, "--num_threads", workers]
    name = ["--name", "main"] if way is not train_and_test else []
    way([*flags, *name])
    capfd.readouterr()
    before, failed, seen = state(), [], []

    def go():
        try:
            way([*flags, "--name", "thread"] if way is not train_and_test else flags)
        except BaseException as problem:
            failed.append(problem)
        seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert not failed and state() == before and seen == [before["handlers"]["SIGINT"]]
    assert capfd.readouterr().err.count("Traceback") == 0
    if way is not train_and_test:
        assert equal_weights("main", "thread")


def test_ctrl_c_beside_a_training_thread_is_the_programs(start):
    """Ctrl-C interrupts the main thread at once, while another thread trains."""
    beside = start("train", before=train_beside)
    assert any(line == "it lives on\n" for line in beside.stdout)
    os.kill(beside.pid, signal.SIGINT)
    assert beside.wait() == CTRL_C_CODE


def train_beside():
    begun = threading.Event()

    def go():
        for _ in train.training(parse([*FLAGS, "--n_epochs", "100000"], "train")):
            begun.set()

    threading.Thread(target=go, daemon=True).start()
    begun.wait()
    try:
        os.write(1, b"\nit lives on\n")
        while True:
            signal.pause()
    except KeyboardInterrupt:
        os._exit(CTRL_C_CODE)


def test_the_timer_of_the_process_goes_on_after_a_run(folder):
    """A stopping run borrows the alarm for its wait, in which nothing else may end it."""
    rang = []
    former = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    signal.setitimer(signal.ITIMER_REAL, 1000, 7)
    try:
        with StopRequest() as stop:
            waiting = stop.until_requested(iter([1, 2]))
            next(waiting)
            stop.waiting = True
            signal.raise_signal(signal.SIGTERM)
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 5
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert left > 900 and interval == 7 and not rang
        signal.raise_signal(signal.SIGALRM)
        assert rang == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_no_alarm_is_left_after_a_run_that_was_stopped():
    with StopRequest() as stop:
        stop.waiting = True
        signal.raise_signal(signal.SIGTERM)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0 and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_lost_alarm_is_repeated_until_the_wait_ends(monkeypatch):
    """An alarm just before a blocking system call does not interrupt it; the next one does."""
    monkeypatch.setattr(signals, "BATCH_TIMEOUT_S", 0.01)
    monkeypatch.setattr(signals, "ALARM_REPEAT_S", 0.01)
    lost = []

    def blocked():
        signal.raise_signal(signal.SIGTERM)
        try:
            signal.pause()
        except BaseException as alarm:
            lost.append(alarm)
        signal.pause()
        yield "never"

    with StopRequest() as stop:
        assert list(stop.until_requested(blocked())) == [] and len(lost) == 1
        signal.raise_signal(signal.SIGALRM)  # nothing waits any more
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_ignored_hangup_stays_ignored(folder):
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trained = train.training(parse(FLAGS, "train"))
        assert [signal.raise_signal(signal.SIGHUP) or progress.step for progress in trained] == [1, 2, 3]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_run_does_not_keep_the_plug_ins_of_an_earlier_one(folder, write):
    """The next run of the process neither knows nor stores them."""
    from tests.support.plugins import EMPTY_MODEL

    mine = write("mine.py", EMPTY_MODEL.format("Mine"))
    assert parse(["--plugin", str(mine), "--model", "mine"], "train").plugin == (str(mine),)
    assert parse(["--model", "pix2pix"], "train").plugin == ()
    with pytest.raises(UserError, match="there is no model 'mine'"):
        parse(["--model", "mine"], "train")


def test_a_plug_in_edited_between_two_runs_is_read_again(folder, write):
    """As in a notebook: edit the file, run the cell again."""
    text = "from networks import GENERATORS\nGENERATORS['edited'] = lambda o, *nc: {}\n"
    values = []
    for value in ("'first'", "'the second'"):
        path = write("edited_net.py", text.format(value))
        parse(["--plugin", str(path), "--netG", "edited"], "train")
        values.append(sys.modules[discovery.module_name(path)].GENERATORS["edited"](None))
    del sys.modules[discovery.module_name(path)]
    assert values == ["first", "the second"]


def test_random_numbers_of_a_run_are_the_same_in_a_used_process(folder):
    """The second run of a process equals the first."""
    for name in ("first", "second"):
        random.seed(name)
        train.main([*FLAGS, "--name", name])
    assert equal_weights("first", "second")


DELETED = """
import os, signal, sys
from cli.main import run_command
class Deleted:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        for _ in range(1000): pass
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
def main(argv, report):
    Deleted()
    from cli.signals import StopRequest
    with StopRequest() as stop:
        print(stop.signal)
    class Failing:
        def __del__(self): raise ValueError("other errors are told")
    Failing()
sys.exit(run_command(main, []))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_an_object_is_deleted_leaves_no_trace(name):
    done = subprocess.run([sys.executable, "-c", DELETED, name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{int(getattr(signal, name))}\n")
    assert name not in done.stderr and "KeyboardInterrupt" not in done.stderr and "Stopped" not in done.stderr
    assert "other errors are told" in done.stderr


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.parametrize("saves", ["", "earlier saves are unchanged"])
def test_only_a_command_that_saves_speaks_of_saves(number, name, saves, capsys):
    def main(argv, report):
        report.safe_text = saves
        signal.raise_signal(number)

    assert run_command(main, []) == 128 + number
    assert capsys.readouterr().err == f"stopped by {name}{saves and '; ' + saves}\n"
