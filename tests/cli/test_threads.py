"""Threads of torch release their cores soon, unless the user has set how long they wait."""

import os
import subprocess
import sys

import pytest

from tests.support.runs import ROOT
from util import malloc

LOOK = """import os, sys
import cli.main
def main(argv, report):
    assert "torch" not in sys.modules, "it would read the environment too early"
    import torch
    maps = open("/proc/self/maps").read()
    print(os.environ.get("GOMP_SPINCOUNT"), "libgomp" in maps)
sys.exit(cli.main.run_command(main, []))
"""
TOLD = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
CLEAN = {name: value for name, value in os.environ.items() if name not in TOLD}


def run(code, **told):
    """Run it to its end, which a fault may keep from coming, in an environment that tells only this of threads."""
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, cwd=ROOT, env=CLEAN | told, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, ["1000", "True"]),
        ({"GOMP_SPINCOUNT": "5"}, ["5", "True"]),
        ({"OMP_WAIT_POLICY": "active"}, ["None", "True"]),
    ],
)
def test_settings_in_the_users_environment_stay(given, then):
    ended = run(LOOK, **given)
    assert ended.stdout.split() == then, ended.stderr


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
    assert small < 2, "workers keep freed blocks of the size of most images, too"


@pytest.mark.parametrize("command", ["train", "test"])
def test_commands_load_no_torch_before(command):
    """The file as a script: torch reads how its threads wait when it is loaded."""
    code = (
        "import runpy, sys; from cli import startup\n"
        "def share_cores(): print('torch' in sys.modules)\n"
        "startup.share_cores, sys.argv[1:] = share_cores, ['--nothing']\n"
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
