"""Importing ganvas changes nothing; its names are the parts of plug-ins and the API."""

import subprocess
import sys

import pytest

import ganvas
from tests.support.runs import ROOT

IMPORT = """
import os, random, signal, sys, threading
def process():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    search = sys.path[:], sys.meta_path[:]
    return sys.argv[:], dict(os.environ), handlers, threading.active_count(), random.getstate(), search
before, modules = process(), set(sys.modules)
import ganvas
assert process() == before
new = {name.partition(".")[0] for name in set(sys.modules) - modules} - set(sys.stdlib_module_names)
assert new == {"ganvas"}, new
assert dir(ganvas) and ganvas.__version__
"""


def test_importing_ganvas_changes_nothing():
    subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ganvas.__all__)
def test_every_name_is_there(name):
    assert getattr(ganvas, name).__name__ in (name, "Spec")
    assert name in dir(ganvas)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ganvas.nothing
