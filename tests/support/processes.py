"""Start processes of train.py and test.py within tens of ms, by forking a server that has already imported torch."""

import atexit
import faulthandler
import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STACKS_SIGNAL = signal.SIGUSR2  # makes a started process write the stacks of its threads
PRELOADED = ["train", "test", "torch", "torchvision.transforms.v2", "models.cycle_gan", "models.pix2pix",
             "models.cgan", "data.aligned", "data.unaligned", "data.loading.loader", "training.run",
             "training.preflight", "displays.visdom", "networks.architectures.resnet", "networks.architectures.unet",
             "networks.architectures.patchgan", "pages.results"]  # fmt: skip


class Started:
    """A process that runs a script; its pipes are text, and stdin is line-buffered.

    before: a function without arguments that the process calls first; the process must be able to import it (a function
    of a test module, or a functools.partial of one).
    """

    def __init__(
        self,
        script: str,
        argv: tuple,
        cwd: Path,
        env: dict[str, str] | None = None,
        before: Callable[[], object] | None = None,
    ):
        ends = [os.pipe() for _ in range(3)]
        theirs = [Connection(ends[0][0], writable=False), *(Connection(w, readable=False) for _, w in ends[1:])]
        mine = (ends[0][1], ends[1][0], ends[2][0])
        for end in mine:
            os.set_inheritable(end, False)
        words = [str(ROOT / f"{script}.py"), *map(str, argv)]
        whole = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        self._stacks = tempfile.NamedTemporaryFile()  # what it does when it hangs
        given = (words, str(cwd), whole, theirs, before, self._stacks.name)
        self._process = _server().Process(target=_child, args=given, daemon=False)
        self._process.start()
        for end in theirs:
            end.close()
        self.stdin = open(mine[0], "w", buffering=1)
        self.stdout, self.stderr = open(mine[1], errors="replace"), open(mine[2], errors="replace")
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative number of a signal, or None while the process runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """Kill the process with SIGKILL if it still runs."""
        self._process.kill()

    def wait(self, timeout: float = 240) -> int:
        """Wait for the end and return the exit code; after the timeout, kill the process and raise AssertionError."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            os.kill(self.pid, STACKS_SIGNAL)
            self._process.join(1)
            self.kill()
            self._process.join()
            raise AssertionError(f"still running after {timeout} s; its stacks:\n{Path(self._stacks.name).read_text()}")
        return self._process.exitcode

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """Close stdin, read stdout and stderr to their ends, wait for the process, and return both."""
        read: dict[str, str] = {}

        def drain(name, file):
            read[name] = file.read()

        with suppress(BrokenPipeError):
            self.stdin.close()
        ends = ("stdout", self.stdout), ("stderr", self.stderr)
        threads = [threading.Thread(target=drain, args=end, daemon=True) for end in ends]
        for thread in threads:
            thread.start()
        try:
            self.wait(timeout)
        finally:
            for thread, (name, file) in zip(threads, ends, strict=True):
                thread.join(30)
                if thread.is_alive():
                    raise AssertionError(f"a child process outlived its parent and keeps {name} open")
                file.close()
        return read["stdout"], read["stderr"]


_context: list = []
_usual = multiprocessing.get_all_start_methods()[0]  # the system's default


def _server():
    """Return the multiprocessing context whose processes fork from a server with everything imported."""
    if not _context:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.support.processes", *PRELOADED])
        kept = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        os.environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                       "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
        try:
            from multiprocessing.forkserver import ensure_running

            ensure_running()
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                os.environ |= {name: value} if value is not None else {}
        _context.append(context)
    return _context[0]


def _child(words, cwd, env, pipes, before, stacks) -> None:
    faulthandler.register(STACKS_SIGNAL, open(stacks, "w"), all_threads=True)
    multiprocessing.set_start_method(_usual, force=True)  # so that its workers start as in a new interpreter
    # A new process group, as in a terminal, and Ctrl-C works even if this shell ignores it.
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    # The script's folder and PYTHONPATH come first, as in a new interpreter; modules that the server has imported stay.
    given = [os.path.abspath(entry) for entry in env["PYTHONPATH"].split(os.pathsep)] if env.get("PYTHONPATH") else []
    sys.path[:] = dict.fromkeys([str(ROOT), *given, *sys.path])
    importlib.invalidate_caches()
    for number, end in enumerate(pipes):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")
    sys.argv = words
    if before is not None:
        before()
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # because multiprocessing skips them
        with suppress(BrokenPipeError):
            sys.stdout.flush()
