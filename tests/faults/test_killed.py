"""A run that is killed or interrupted continues from a whole state, with equal bits."""

import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from serialization import checkpoint
from tests.support.fault_injection import SAVING, STARTED, announce, cut_power, fault_in_save, limit
from tests.support.resuming import differences, flags, newest, plugins, stopped, straight, unequal
from tests.support.runs import SMALL
from tests.support.stopped_runs import CONTINUE, again, calls_of_a_save, chosen, run_to_its_end, truth, whole
from tests.support.training_runs import DEMO, weights
from util.errors import Stopped

__all__ = ["again", "plugins", "stopped", "straight", "truth"]  # fixtures
FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
       "--max_dataset_size", 1]  # fmt: skip


@pytest.mark.fault(1, 11)
@pytest.mark.parametrize("power", [True, False], ids=["power cut", "kill -9"])
def test_a_kill_at_any_file_call_of_a_save_loses_no_state(
    process, again, straight, truth, tmp_path, full, record_property, power
):
    """kill -9, or a power cut that loses all unflushed data, at each file-system call of a save: the newest state is
    the previous or the new one, whole; the continued run ends like an uninterrupted one.
    """
    calls = calls_of_a_save(process, again, tmp_path)
    assert {"open", "write", "fsync", "replace", "close"} <= set(calls)
    points = chosen(calls, full)
    undone = 0
    for at in points:
        folder, journal = again(), tmp_path / f"journal_{at}.json"
        ended = process("train", *CONTINUE, before=partial(fault_in_save, 1, at, str(journal)))
        assert ended.code == -signal.SIGKILL
        if power:
            undone += len(cut_power(journal, tmp_path))
        assert whole(folder, truth) in (5, 6)
        run_to_its_end(process, folder, straight)
    assert undone or not power
    what = "power cuts" if power else "kill -9"
    record_property(f"{what} at each file-system call of a save", f"{len(points)} of {len(points)} states whole")


@pytest.mark.fault(1)
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed: it injects kills into system calls")
@pytest.mark.parametrize("call", ["openat", "write", "fsync", "rename", "close", "unlink"])
def test_a_kill_at_any_system_call_of_a_save_loses_no_state(
    start, process, again, truth, straight, full, record_property, call
):
    """kill -9 by the kernel at the k-th system call of each kind in a save, k = 1, 3, 5, ...: the newest state is the
    previous or the new one, whole.
    """
    killed = 0
    for at in range(1, 60, 2 if full else 12):  # a save has fewer of each; later ones hit the page
        folder = again()
        running = start("train", *CONTINUE, STOP_AFTER_STEP="6", STOP_BY="waiting")
        assert any(line.startswith("(epoch: 2, iters: 5,") for line in running.stdout), running.stderr.read()
        tracer = subprocess.Popen(
            [
                "strace",
                "-f",
                "-p",
                str(running.pid),
                "-e",
                f"trace={call}",
                "-e",
                f"inject={call}:signal=KILL:when={at}",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "attached" in tracer.stderr.readline()
        _, err = running.communicate()
        tracer.communicate()
        if running.returncode == 0:  # there are no more such calls
            break
        assert running.returncode == -signal.SIGKILL, err
        killed += 1
        assert whole(folder, truth) in (5, 6, 9)
        run_to_its_end(process, folder, straight)
    assert killed
    record_property(f"kill -9 at every other call of {call} in a save", f"{killed} of {killed} states whole")


@pytest.mark.fault(1)
def test_kills_at_random_moments_of_saves_lose_no_state(
    start, process, tmp_path, plugins, straight, truth, full, record_property
):
    """A run that saves at every step is killed again and again at random moments of saves: the newest state is always
    whole, and in the end the run equals an uninterrupted one.
    """
    draw, kills, folder = random.Random(1), 0, tmp_path / "checkpoints" / "run"
    wanted = 200 if full else 12
    while kills < wanted:
        begin = CONTINUE if (folder / "options.json").exists() else flags("pix2pix", plugins)
        running = start("train", *begin, "--save_latest_freq", 1, before=partial(announce, saves=True))
        saves = draw.randint(1, 3)
        for line in running.stdout:
            saves -= line == SAVING
            if not saves:
                break
        _pause(draw.random() * 0.03)  # somewhere within the save
        running.kill()
        code = running.wait()
        if code == -signal.SIGKILL:
            kills += 1
            stands = whole(folder, truth) if folder.exists() else 0
        if code == 0 or stands >= 8:  # nearly done: another run
            run_to_its_end(process, folder, straight, "--save_latest_freq", 1)
            shutil.rmtree(tmp_path / "checkpoints")
    record_property("kill -9 at random moments of saves", f"{kills} of {wanted} states whole")


def _pause(seconds):
    """Let a random time pass: the moment of the fault is what is drawn."""
    import threading

    threading.Event().wait(seconds)


@pytest.mark.fault(2)
def test_a_run_killed_at_random_ends_like_the_unbroken_one(
    start, process, tmp_path, plugins, straight, full, record_property
):
    """kill -9 at random moments of a pix2pix run, from its start-up on, then --continue_train: weights, optimisers,
    logs and images equal those of an uninterrupted run.
    """
    draw, wanted, restarts, longest = random.Random(2), 50 if full else 4, 0, 1.5
    folder = tmp_path / "checkpoints" / "run"
    for _ in range(wanted):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        for _ in range(3):  # killed up to three times before it is left alone
            begin = CONTINUE if (folder / "options.json").exists() else [*flags("pix2pix", plugins), "--overwrite"]
            running = start("train", *begin, "--save_latest_freq", 2, before=partial(announce, start=True))
            assert running.stdout.readline() == STARTED
            _pause(draw.random() * longest)
            running.kill()
            restarts += running.wait() == -signal.SIGKILL
        begin = CONTINUE if (folder / "options.json").exists() else [*flags("pix2pix", plugins), "--overwrite"]
        ended = process("train", *begin, "--save_latest_freq", 2)
        assert ended.code == 0, ended.err
        found = differences(straight("pix2pix"), folder)
        assert [d for d in found if "save_latest_freq" not in d and "overwrite" not in d] == []
    assert restarts
    record_property("pix2pix runs killed at random moments", f"{wanted} of {wanted} end bit-equal ({restarts} kills)")


ENDS = {"SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129}


@pytest.mark.fault(3, 5, 7)
def test_signals_at_random_moments_lose_no_step(start, process, tmp_path, plugins, straight, full, record_property):
    """SIGTERM, SIGINT or SIGHUP at random moments, also in start-up and saves: exit 143, 130 or 129 with one line; no
    step is lost, and the continued run ends like an uninterrupted one.
    """
    draw, wanted, done = random.Random(3), 200 if full else 9, 0
    folder = tmp_path / "checkpoints" / "run"
    for number in range(wanted):
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        name = list(ENDS)[number % 3]
        running = start(
            "train",
            *flags("pix2pix", plugins),
            "--num_threads",
            number % 2 * 2,
            before=partial(announce, start=True),
            STOP_AFTER_STEP="8",
            STOP_BY="waiting",
        )
        assert running.stdout.readline() == STARTED
        _pause(draw.random() * 1.2)
        os.killpg(running.pid, signal.Signals[name])  # it waits at its last step but one, if it came that far
        _, err = running.communicate(timeout=60)
        done += 1
        assert running.returncode == ENDS[name], err
        assert len(err.splitlines()) == 1 and err.startswith("stopped"), err
        if "stopped and saved" not in err:
            continue
        (state,) = {path.stem for path in folder.glob("state_*.pt")} & {newest(folder).stem}
        step = int(state.removeprefix("state_"))
        logged = [json.loads(line)["step"] for line in (folder / "losses.jsonl").read_text().splitlines()]
        assert step == max([*logged, 0])  # nothing that was done is lost
        ended = process("train", *CONTINUE)
        assert ended.code == 0, ended.err
        assert differences(straight("pix2pix"), folder) == []
    assert done
    record_property("signals at random moments of a run", f"{done} of {done} ended as asked, none lost a step")


DEAF = """
import os, signal
from models.pix2pix import Pix2Pix

class Deaf(Pix2Pix):
    def __init__(self, o, spec):
        super().__init__(o, spec)
        try:
            signal.raise_signal(signal.Signals[os.environ["DEAF_TO"]])
        except BaseException:
            pass
"""


@pytest.mark.fault(3)
@pytest.mark.parametrize("name", ENDS)
def test_a_signal_swallowed_at_the_start_still_stops_the_run(process, tmp_path, name):
    """A plug-in or a library catches the exception of a signal at start-up: the run stops after its first step."""
    (tmp_path / "deaf.py").write_text(DEAF)
    ended = process(
        "train",
        *FEW,
        "--max_dataset_size",
        3,
        "--plugin",
        tmp_path / "deaf.py",
        "--model",
        "deaf",
        "--name",
        "run",
        DEAF_TO=name,
    )
    assert ended.code == ENDS[name], ended.err
    assert ended.last.startswith("stopped and saved in epoch 1; continue with: python train.py --name run")
    assert newest(tmp_path / "checkpoints" / "run").stem == "state_000000001"


@pytest.mark.fault(4)
@pytest.mark.parametrize("name", ENDS)
def test_a_signal_during_a_save_lets_the_save_finish(start, process, again, straight, truth, name):
    """SIGTERM, SIGINT or SIGHUP while a state is written: the save is completed, then the run ends."""
    folder = again()
    running = start("train", *CONTINUE, "--save_latest_freq", 1, before=partial(announce, saves=True))
    assert any(line == SAVING for line in running.stdout)
    os.kill(running.pid, signal.Signals[name])
    _, err = running.communicate()
    assert running.returncode == ENDS[name], err
    whole(folder, truth)
    ended = process("train", *CONTINUE, "--save_latest_freq", 5000)
    assert ended.code == 0, ended.err
    assert unequal(weights(folder), weights(straight("pix2pix")), "weights") == []


@pytest.mark.fault(5)
def test_a_second_ctrl_c_says_which_step_is_safe(start, again):
    """A second SIGINT: the run ends at once with 130, states are unchanged, and the line says which step is saved."""
    folder = again()
    before = {p.name: p.read_bytes() for p in folder.glob("*.p*t*")}
    running = start("train", *CONTINUE, STOP_AFTER_STEP="6", STOP_BY="SIGINT,SIGINT")
    _, err = running.communicate()
    assert running.returncode == 130
    assert err == "stopped by Ctrl-C; the state of step 5 is saved and complete\n"
    assert {p.name: p.read_bytes() for p in folder.glob("*.p*t*")} == before


BLOCKED = '''
"""Pairs, of which one lies on a disk that does not answer."""
import os

from data.aligned import Aligned


class Blocked(Aligned):
    def __getitem__(self, index):
        if index == 9:  # beyond what is read before the first step
            os.write(1, b"blocked\\n")
            self.read(os.environ["NEVER"], 3)
        return super().__getitem__(index)
'''


@pytest.mark.fault(6)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_loading_hangs_saves_and_ends_the_run(start, process, tmp_path, workers, name):
    """A signal arrives while loading hangs (a FIFO without a writer), with and without workers: the run is saved and
    ends; no process or shared memory remains, and no step is lost.
    """
    os.mkfifo(tmp_path / "never")
    (tmp_path / "blocked.py").write_text(BLOCKED)
    argv = [*SMALL, *DEMO, "--plugin", "blocked.py", "--dataset_mode", "blocked", "--model", "pix2pix", "--netG",
            "resnet_4blocks", "--serial_batches", "--name", "run", "--num_threads", workers,
            "--print_freq", 1, "--max_dataset_size", 12, "--fixed_samples", 0]  # fmt: skip
    impatient = partial(announce, patience=0.2)
    running = start("train", *argv, before=impatient, NEVER=str(tmp_path / "never"))
    lines = {"blocked", "(epoch: 1, iters: 9,"}
    for line in running.stdout:
        lines -= {seen for seen in lines if line.startswith(seen)}
        if not lines:
            break
    children = descendants(running.pid)
    assert len(children) >= workers
    wait_until_one_opens([running.pid, *children])
    os.killpg(running.pid, signal.Signals[name])
    _, err = running.communicate(timeout=60)
    assert running.returncode == ENDS[name], err
    assert "stopped and saved in epoch 1" in err and err.count("\n") == 1
    assert not [pid for pid in children if Path(f"/proc/{pid}/cmdline").exists()]
    assert not [p for p in Path("/dev/shm").glob("torch_*") if {str(c) for c in children} & set(p.name.split("_"))]
    state, _ = checkpoint.load_state(tmp_path / "checkpoints" / "run")
    assert state["position"]["step"] == 9


STRUCK = '''
"""Pairs, of which the tenth has its worker pass on a signal and die of it."""
import os
import signal

from data.aligned import Aligned


class Struck(Aligned):
    def __getitem__(self, index):
        if index == 9:
            os.kill(os.getppid(), signal.Signals[os.environ["STRUCK_BY"]])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)
'''


@pytest.mark.fault(6)
@pytest.mark.parametrize("name", ENDS)
def test_a_signal_that_kills_a_worker_too_saves_the_run(process, tmp_path, name):
    """A signal to the process group also kills a loader worker at once: the run is saved and ends with the signal's
    exit code, not with an error.
    """
    (tmp_path / "struck.py").write_text(STRUCK)
    ended = process(
        "train",
        *FEW,
        "--plugin",
        "struck.py",
        "--dataset_mode",
        "struck",
        "--serial_batches",
        "--name",
        "run",
        "--num_threads",
        2,
        "--max_dataset_size",
        12,
        "--fixed_samples",
        0,
        STRUCK_BY=name,
    )
    assert ended.code == ENDS[name], ended.err
    assert ended.last.startswith("stopped and saved in epoch 1") and "error" not in ended.err
    state, _ = checkpoint.load_state(tmp_path / "checkpoints" / "run")
    assert 1 <= state["position"]["step"] <= 9


def wait_until_one_opens(pids):
    """Wait until one of the processes is inside open(), as /proc says; earlier a signal would not interrupt it."""
    number = {"x86_64": "257", "aarch64": "56"}[platform.machine()]  # of openat
    calls = [Path(f"/proc/{pid}/syscall") for pid in pids]
    while number not in [call.read_text().split()[0] for call in calls]:
        os.sched_yield()


def descendants(pid):
    """Return the processes below one, from /proc."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found, todo = [], [pid]
    while todo:
        below = [child for child, parent in parents.items() if parent == todo[0]]
        found, todo = found + below, todo[1:] + below
    return found


@pytest.mark.fault(7)
def test_a_closed_output_does_not_stop_training(start, plugins, straight, tmp_path):
    """train.py | head -3: training continues, and the run equals one whose output was read."""
    running = start("train", *flags("pix2pix", plugins))
    for _ in range(3):
        running.stdout.readline()
    running.stdout.close()
    err = running.stderr.read()
    assert (running.wait(), err) == (0, "")
    assert differences(straight("pix2pix"), tmp_path / "checkpoints" / "run") == []


@pytest.mark.fault(7)
def test_ctrl_c_that_ends_the_reader_too_saves_the_run(start, plugins, straight, process, tmp_path):
    """train.py | tee log, then Ctrl-C, which also ends tee: the run is saved and exits with 130."""
    running = start("train", *flags("pix2pix", plugins), STOP_AFTER_STEP="5", STOP_BY="waiting")
    assert any(line.startswith("(epoch: 2, iters: 4,") for line in running.stdout)
    running.stdout.close()
    os.killpg(running.pid, signal.SIGINT)
    running.stdin.close()
    err = running.stderr.read()
    assert (running.wait(), err.count("stopped and saved in epoch 2")) == (130, 1), err
    run_to_its_end(process, tmp_path / "checkpoints" / "run", straight)


@pytest.mark.fault(8)
def test_a_halted_run_goes_on_without_the_watchdog(start, plugins, straight, tmp_path):
    """SIGSTOP for longer than --watchdog, then SIGCONT: the run continues, and the watchdog prints nothing."""
    running = start("train", *flags("pix2pix", plugins), "--watchdog", 2, STOP_AFTER_STEP="4", STOP_BY="waiting")
    assert any(line.startswith("(epoch: 2, iters: 2,") for line in running.stdout)
    os.kill(running.pid, signal.SIGSTOP)
    _pause(3)
    os.kill(running.pid, signal.SIGCONT)
    _, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    found = differences(straight("pix2pix"), tmp_path / "checkpoints" / "run")
    assert [d for d in found if "watchdog" not in d] == []


@pytest.mark.fault(9)
def test_a_step_out_of_memory_names_options_that_need_less(process, tmp_path):
    """A step exceeds a limit of memory (RLIMIT_AS): exit 5 with the options that need less; the states stay."""
    few = ["--n_epochs_decay", 0, "--max_dataset_size", 8, "--name", "run"]
    argv = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", *few]
    assert process("train", *argv, "--n_epochs", 1).code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "checkpoints/run").glob("*.p*t*")}
    ended = process(
        "train",
        *CONTINUE,
        "--n_epochs",
        2,
        "--batch_size",
        8,
        "--load_size",
        1024,
        "--crop_size",
        1024,
        before=partial(limit, "RLIMIT_AS", 400_000_000, beyond=True),
    )
    assert ended.code == 5, ended.err
    assert ended.last == (
        "error: memory 'RAM or GPU': ran out; lower --batch_size, --crop_size, --ngf or --ndf, "
        "or try --grad_checkpoint, --accumulate or --amp; with test.py --tile"
    ), ended.err
    assert {p.name: p.read_bytes() for p in (tmp_path / "checkpoints/run").glob("*.p*t*")} == before


@pytest.mark.fault(10)
def test_left_over_files_of_a_killed_save_are_removed_and_named(command, tmp_path):
    """A killed save left a half-written file: the next start that holds the lock names it and removes it."""
    assert command("train", *FEW, "--name", "run").code == 0
    folder = tmp_path / "checkpoints" / "run"
    half = folder / "state_000000099.pt.tmp"
    half.write_bytes(b"half")
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 2)
    assert ended.code == 0, ended.err
    assert "note: removing state_000000099.pt.tmp, left over by a run that was killed" in ended.out
    assert not half.exists() and sorted(checkpoint.state_files(folder)) == [1, 2]


@pytest.mark.fault(1)
def test_resume_writes_the_weights_that_a_kill_left_out(command, straight, tmp_path):
    """Weights are missing, cut or older than their state when a run is continued: they are written from the state.
    Weights that the user has put there since are unchanged.
    """
    folder = tmp_path / "checkpoints" / "run"
    shutil.copytree(straight("pix2pix"), folder)
    state = newest(folder).stat().st_mtime_ns
    whole_g, theirs = (folder / "latest_net_G.pth").read_bytes(), b"somebody's own"
    for path in folder.glob("*.pth"):
        os.utime(path, ns=(state + 1, state + 1))
    (folder / "latest_net_G.pth").write_bytes(whole_g[:-50])
    os.utime(folder / "latest_net_G.pth", ns=(state - 1, state - 1))
    (folder / "3_net_D.pth").unlink()
    ended = command("train", *CONTINUE)
    assert ended.code == 0, ended.err
    assert (folder / "latest_net_G.pth").read_bytes() == whole_g and (folder / "3_net_D.pth").is_file()
    (folder / "latest_net_G.pth").write_bytes(theirs)
    ended = command("train", *CONTINUE)
    assert ended.code == 0, ended.err
    assert (folder / "latest_net_G.pth").read_bytes() == theirs


@pytest.mark.fault(4)
def test_no_handler_takes_a_stop_for_an_error():
    """The exception that a signal raises is not an Exception: no `except Exception` treats it as a damaged file."""
    from cli.signals import _NoBatch

    assert not issubclass(Stopped, Exception) and not issubclass(_NoBatch, Exception)
