"""Locks are held by one process, end with it, and are compatible with those of earlier versions."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest

from util import file_lock

HOLDER = """
import os, sys, time
from pathlib import Path
from util import file_lock
lock = file_lock.acquire(Path(sys.argv[1]), "it")
if os.fork() == 0:
    print(os.getpid(), flush=True)  # fork has returned, so the child has let go of the lock
time.sleep(60)
"""


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    """A process is killed while its forked child, such as a loader worker, lives on: the lock is free."""
    path = tmp_path / ".lock"
    root = Path(file_lock.__file__).parent.parent
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], cwd=root, stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        assert file_lock.acquire(path, "it") is None
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # it lives
        lock = file_lock.acquire(path, "it")
        assert lock is not None and lock.is_locked
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


def test_it_excludes_earlier_versions_and_keeps_their_text(tmp_path):
    path = tmp_path / ".lock"
    with open(path, "a+") as earlier:
        earlier.write("pid 1 on host")
        earlier.flush()
        fcntl.flock(earlier, fcntl.LOCK_EX)
        assert file_lock.acquire(path, "it") is None
    assert path.read_text() == "pid 1 on host"
    lock = file_lock.acquire(path, "it", on_acquired=lambda descriptor: os.ftruncate(descriptor, 0))
    with open(path, "a+") as earlier, pytest.raises(BlockingIOError):
        fcntl.flock(earlier, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert path.read_text() == ""
    lock.release()
    assert path.exists()


def test_a_file_system_without_locks_is_noted(tmp_path, monkeypatch, capsys):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = file_lock.acquire(tmp_path / ".lock", "a second run")
    assert isinstance(lock, filelock.FileLock)
    assert capsys.readouterr().out == "note: this file system has no locks, so a second run would not be noticed\n"
    file_lock.remove(lock)
    assert os.listdir(tmp_path) == []


def test_waiting_outlasts_a_lock_whose_file_is_removed(tmp_path):
    path, held = tmp_path / "x.lock", []
    first = file_lock.acquire(path, "it")
    waiting = threading.Thread(target=lambda: held.append(file_lock.acquire(path, "it", wait=True)))
    waiting.start()
    file_lock.remove(first)
    waiting.join(30)
    assert held[0].is_locked and path.exists() and file_lock.acquire(path, "it") is None
    file_lock.remove(held[0])
    assert os.listdir(tmp_path) == []
