"""train.py that torchrun starts again continues its run, also as the only process that is left."""

import datetime

import pytest
from torch import distributed

from cli.launch import join_others
from cli.main import Report

ARGV = ["--name", "run", "--overwrite"]


@pytest.fixture
def alone(monkeypatch):
    """The environment of the one process that torchrun starts; returns the monkeypatch."""
    store = distributed.TCPStore("localhost", 0, None, True, datetime.timedelta(seconds=20), wait_for_workers=False)
    env = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port),
           "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}  # fmt: skip
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    del store


def test_one_process_that_is_started_again_continues(alone):
    """An elastic start that leaves one process counts no restart; the launcher's store knows of the start before."""
    assert join_others("test", ARGV, Report()) == join_others("train", ARGV, Report()) == ARGV
    assert join_others("train", ARGV, Report()) == ["--name", "run", "--continue_train"]
    assert join_others("test", ARGV, Report()) == ARGV


def test_a_counted_restart_continues(alone):
    alone.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert join_others("train", ["--continue_train"], Report()) == ["--continue_train"]
    alone.delenv("TORCHELASTIC_USE_AGENT_STORE")
    assert join_others("train", ARGV, Report()) == ["--name", "run", "--continue_train"]
