"""Threads of torch release their cores soon, unless the user has set how long they wait."""

import os
import subprocess
import sys
import threading

import pytest

from cli import openmp
from tests.support.runs import ROOT
from util import malloc

LOOK = """import os, sys, threading
import cli.main
def main(argv, report):
    assert "torch" not in sys.modules, "it would read the environment too early"
    import torch
    maps = open("/proc/self/maps").read()
    names = [thread.name for thread in threading.enumerate()]
    print(os.environ.get("GOMP_SPINCOUNT"), "libgomp" in maps, "busy-core watch" in names)
sys.exit(cli.main.run_command(main, []))
"""
TOLD = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
CLEAN = {name: value for name, value in os.environ.items() if name not in TOLD}
watched = pytest.mark.skipif(not openmp.core_wait_seconds(), reason="the system does not say who waits for a core")


def run(code, **told):
    """Run it to its end, which a fault may keep from coming, in an environment that tells only this of threads."""
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, cwd=ROOT, env=CLEAN | told, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("given", "then"), [
    pytest.param({}, ["None", "True", "True"], marks=watched), ({"GOMP_SPINCOUNT": "5"}, ["5", "True", "False"]),
    ({"OMP_WAIT_POLICY": "active"}, ["None", "True", "False"])])  # fmt: skip
def test_settings_in_the_users_environment_stay(given, then):
    ended = run(LOOK, **given)
    assert ended.stdout.split() == then, ended.stderr


@pytest.fixture
def untold(monkeypatch):
    """An environment that says nothing of threads, and a process that does not look yet."""
    for name in TOLD:
        monkeypatch.setenv(name, "")  # or it would not be undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(openmp, "_watching", False)


@pytest.fixture
def tasks(monkeypatch, tmp_path):
    """Have the system tell of threads what a test says: run, waited, slices."""
    monkeypatch.setattr(openmp, "TASKS_FOLDER", tmp_path)

    def told(**numbers):
        for name, text in numbers.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "schedstat").write_text(text)

    return told


@pytest.mark.parametrize("told", [{}, {"t1": "0 0 0\n", "t2": "0 0 0\n"}], ids=["nothing", "what it did not count"])
def test_threads_sleep_soon_where_demand_for_cores_is_unknown(told, untold, tasks):
    tasks(**told)
    openmp.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == openmp.SPIN_COUNT and not openmp._watching


def test_threads_sleep_soon_where_no_more_may_start(untold, tasks, monkeypatch):
    tasks(t1="5 1 1\n")

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(openmp.threading.Thread, "start", start)
    openmp.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == openmp.SPIN_COUNT and not openmp._watching


def test_how_long_each_thread_waited_is_read_in_seconds(tasks):
    tasks(t1="5 2500000000 1\n", t2="0 1000000 1\n")
    assert openmp.core_wait_seconds() == {"t1": 2.5, "t2": 0.001}


BUSY = """import os, subprocess, sys, threading
from cli import openmp
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so that there is one core to be had, for both
openmp.share_cores()
import torch
torch.set_num_threads(2)
def until(number):
    while len([each for each in threading.enumerate() if each.name == "idle team"]) != number:
        sum(range(10_000))  # of one thread: it has the core to itself but for the busy one
    return len(os.listdir("/proc/self/task"))
spin = f"import os\\nwhile os.getppid() == {os.getpid()}: pass"
with subprocess.Popen([sys.executable, "-c", spin]) as busy:
    crowded = until(1)
    busy.kill()
print(crowded - until(0) > 0)
"""


@watched
def test_a_busy_process_makes_a_crowd_until_it_ends():
    ended = run(BUSY)
    assert ended.stdout.split() == ["True"], ended.stderr


END = """import threading
from cli import openmp
openmp.share_cores()
import torch
real = torch.zeros
torch.zeros = lambda size: [real(size).add_(1) for _ in range(40)][0]  # so that a crowd is at it for a while
openmp.BUSY_SHARE, openmp.IDLE_SHARE = -1, -2  # others want the cores always
while not any(each.name == "idle team" for each in threading.enumerate()):
    pass
"""


@watched
def test_a_process_may_end_while_a_crowd_gathers():
    """Three times, since whether a thread is in torch when Python ends those that are left is a matter of luck."""
    for _ in range(3):
        ended = run(END)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_the_collector_ignores_what_loading_torch_made():
    code = (
        "import gc, sys; from cli.main import run_script\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        name == 'torch' and print(gc.isenabled())\n"
        "sys.meta_path.insert(0, Watch())\n"
        "run_script('train', ['--nothing'], lambda argv, name: None)\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    ended = run(code)
    assert ended.stdout.split() == ["False", "True", "True"], ended.stderr


@pytest.mark.skipif(not malloc.release_freed_memory(), reason="the C library is not GNU's")
def test_training_keeps_freed_memory_and_workers_return_it():
    """By how many pages the system had to clear for the same large block, again and again."""
    code = (
        "import ctypes, resource, sys\n"
        "from util import malloc as memory\n"
        "def cleared(size=64 << 20):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(5): bytes(bytearray(size))\n"
        "    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()\n"
        "usual = cleared(); memory.keep_freed_memory(); cleared(); kept = cleared()\n"
        "memory.release_freed_memory()\n"
        "back = cleared(); cleared(1 << 20); small = cleared(1 << 20)\n"
        "print(usual >> 20, kept >> 20, back >> 20, small >> 20)"
    )
    ended = run(code)
    usual, kept, back, small = map(int, ended.stdout.split())
    assert usual > 300 and kept < 10 and back > 300
    assert small < 2, "pictures as large as most are not cleared anew in workers either"


@pytest.mark.parametrize("command", ["train", "test"])
def test_commands_load_no_torch_before(command):
    """The file as a script: torch reads how its threads wait when it is loaded."""
    code = (
        "import runpy, sys; from cli import openmp\n"
        "def share_cores(): print('torch' in sys.modules)\n"
        "openmp.share_cores, sys.argv[1:] = share_cores, ['--nothing']\n"
        f"runpy.run_path('{command}.py', run_name='__main__')"
    )
    ended = run(code)
    assert ended.stdout == "False\n" and "error: option '--nothing'" in ended.stderr


@pytest.mark.parametrize("flag", ["--help", "--list"])
@pytest.mark.parametrize("command", ["train", "test"])
def test_help_and_list_load_no_torch(command, flag):
    code = (
        "import runpy, sys\n"
        f"sys.argv[1:] = ['{flag}']\n"
        "try:\n"
        f"    runpy.run_path('{command}.py', run_name='__main__')\n"
        "finally:\n"
        "    print('torch' in sys.modules)"
    )
    ended = run(code)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "False"), ended.stderr


def test_an_idle_team_without_memory_prints_nothing(monkeypatch):
    """The training step runs out of memory too, and reports it in one line."""
    import torch

    def fail(size):
        raise RuntimeError("can't allocate memory")

    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(torch, "zeros", fail)
    team = openmp.IdleTeam()
    team.stop.set()
    team.join(60)
    assert not team.is_alive() and raised == []
