"""Threads of torch leave their core to others soon, as far as the user has not said otherwise."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from util import memory, threads

LOOK = """import os, sys
import util.report
def main(argv, report):
    assert "torch" not in sys.modules, "it would read the environment too early"
    import torch
    maps = open("/proc/self/maps").read()
    print(os.environ.get("GOMP_SPINCOUNT"), "libgomp" in maps)
sys.exit(util.report.guarded(main, []))
"""


@pytest.mark.parametrize(("given", "then"), [
    ({}, threads.SPINS), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, "None")])  # fmt: skip
def test_the_environment_says_it_before_torch_is_loaded(given, then):
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    ended = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, env=clean | given, capture_output=True, text=True)
    assert ended.stdout.split() == [then, "True"], ended.stderr


def test_torch_is_loaded_while_the_collector_rests_and_what_it_made_is_left_out():
    code = ("import gc, sys; from options.parse import parse\n"
            "class Watch:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        name == 'torch' and print(gc.isenabled())\n"
            "sys.meta_path.insert(0, Watch())\n"
            "parse(['--model', 'pix2pix', '--dataroot', 'demo'], 'train')\n"
            "print(gc.isenabled(), gc.get_freeze_count() > 100_000)")  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.split() == ["False", "True", "True"], ended.stderr


@pytest.mark.skipif(not memory.give_back(), reason="the C library is not GNU's")
def test_memory_that_is_freed_is_kept_in_a_training_and_given_back_in_its_workers():
    """By how many pages the system had to clear for the same large block, again and again."""
    code = ("import ctypes, resource, sys\n"
            "from util import memory\n"
            "def cleared(size=64 << 20):\n"
            "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            "    for _ in range(5): bytes(bytearray(size))\n"
            "    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()\n"
            "usual = cleared(); memory.keep(); cleared(); kept = cleared(); memory.give_back()\n"
            "back = cleared(); cleared(1 << 20); small = cleared(1 << 20)\n"
            "print(usual >> 20, kept >> 20, back >> 20, small >> 20)")  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    usual, kept, back, small = map(int, ended.stdout.split())
    assert usual > 300 and kept < 10 and back > 300
    assert small < 2, "pictures as large as most are not cleared anew in workers either"


@pytest.mark.parametrize("command", ["train", "test"])
def test_commands_load_no_torch_before(command):
    code = f"import sys, {command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
