"""The keys of sound files are kept between runs, and damage costs no more than another check."""

import os
import subprocess
import sys

import numpy as np
import pytest

from data.decoding import sound_files
from tests.support.runs import ROOT


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the keys."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ganvas" / "sound"


def keys(*numbers):
    return np.array(numbers, dtype=np.uint64)


def test_keys_come_back_for_the_same_folder_alone(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound_files.save_sound_keys("data", keys(7, 2**63 + 1, 5))
    for name in ("data", str(tmp_path / "data"), "./data/"):
        assert sound_files.load_sound_keys(name).tolist() == [5, 7, 2**63 + 1]
    assert sound_files.load_sound_keys("other").tolist() == []
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_keys_of_several_checks_are_joined(cache, monkeypatch):
    """An unfinished check, or one of another phase, adds its keys; where they would be too many, the newest stay."""
    for number in (4, 2, 4):
        sound_files.save_sound_keys("data", keys(number, 9))
    assert sound_files.load_sound_keys("data").tolist() == [2, 4, 9]
    monkeypatch.setattr(sound_files, "MAX_KEYS", 3)
    sound_files.save_sound_keys("data", keys(7, 1))
    assert sound_files.load_sound_keys("data").tolist() == [1, 7]


@pytest.mark.parametrize("damage", ["cuts", "garbage", "empty", "other numbers", "no keys", "flipped"])
def test_a_damaged_file_of_keys_is_as_if_there_were_none(damage, cache):
    sound_files.save_sound_keys("data", keys(1, 2, 3))
    [file] = cache.iterdir()
    whole = file.read_bytes()
    if damage == "other numbers":
        np.savez(file, keys=np.array([[1.5]]))
    elif damage == "no keys":
        np.savez(file, others=keys(1))
    else:
        parts = {
            "cuts": [whole[:length] for length in range(0, len(whole) - 1, 7)],
            "garbage": [bytes(500)],
            "empty": [b""],
            "flipped": [whole.replace(bytes(keys(2)), bytes(keys(9)))],
        }[damage]
        for part in parts:
            assert part != whole
            file.write_bytes(part)
            assert sound_files.load_sound_keys("data").tolist() == []
    assert sound_files.load_sound_keys("data").tolist() == []


def test_a_cache_that_cannot_be_written_is_no_error(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        sound_files.save_sound_keys("data", keys(1, 2, 3))
        assert sound_files.load_sound_keys("data").tolist() == []


def test_old_files_and_leftovers_of_kills_are_removed(cache, monkeypatch):
    monkeypatch.setattr(sound_files, "MAX_DATASETS", 3)
    cache.mkdir(parents=True)
    (cache / "left.123.tmp").write_bytes(b"half")
    os.utime(cache / "left.123.tmp", (1, 1))
    for number in range(5):
        sound_files.save_sound_keys(f"data{number}", keys(1, 2, 3))
    assert len(list(cache.iterdir())) == 3 and not (cache / "left.123.tmp").exists()
    assert sound_files.load_sound_keys("data4").tolist() == [1, 2, 3]
    assert sound_files.load_sound_keys("data0").tolist() == []


ENDING = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from data.decoding.sound_files import save_sound_keys
np.savez = lambda *file, **arrays: None  # most of the time is spent on the keys themselves
keys, started = np.random.default_rng(0).integers(0, 2**60, 100_000).astype(np.uint64), threading.Event()
def save():
    while True:
        save_sound_keys("data", keys)
        started.set()
threading.Thread(target=save, daemon=True).start()
started.wait()
time.sleep(0.1)  # then it ends at any moment of a save
"""


def test_python_may_end_while_keys_are_saved(cache, tmp_path):
    """np.unique in a background thread aborted processes that ended while it ran."""
    command = [sys.executable, "-c", ENDING, str(ROOT)]
    assert [subprocess.run(command, cwd=tmp_path).returncode for _ in range(8)] == [0] * 8
