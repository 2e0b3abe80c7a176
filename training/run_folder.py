"""Create a run's folder, lock it against a second run, and clear it with --overwrite."""

import contextlib
import os
import shlex
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from cli.main import Report
from options.best import best_prefix, main_metric
from registry import sources
from serialization import rank_exchange
from serialization.weight_names import WEIGHT_PATTERNS, list_weights
from util import file_lock, ranks
from util.errors import EnvironmentFault, print_line, printable

RUN_FILES = ("state_*.pt", "state_*.superseded", "best_*_state.pt", "best_*.superseded", *WEIGHT_PATTERNS, "*.tmp",
             "train_opt.txt", "test_opt.txt", "options.json", "loss_log.txt", "losses.jsonl", "metrics.json",
             "metrics.csv", "exit.json", "error.log", "test_error.log", "visdom.log")  # fmt: skip


class RunFolder:
    """The folder checkpoints_dir/name, locked by this process until it is released.

    report: what a command writes into the folder at its end; the command releases the folder then. Raise
    EnvironmentFault if the folder cannot be written or another process trains in it.
    """

    def __init__(self, o: Any, report: Report | None = None):
        self.o, self.path, self.overwrite = o, Path(o.checkpoints_dir) / o.name, o.overwrite
        self.report = report or Report()
        ranks.pulse.timeout = o.rank_timeout
        rank_exchange.from_first(bool)  # the others have looked for an earlier run here
        if ranks.rank() == 0:
            self._claim()
            self.report.cleanup = self.release
        rank_exchange.from_first(bool)  # process 0, which alone writes here, has the lock
        self.report.exit_json, self.report.error_log = self.path / "exit.json", self.path / "error.log"

    def _claim(self) -> None:
        """Make the folder, lock it, and remove what a killed run has left over."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._acquire_lock()
            for word in ("error.log", "exit.json"):  # from an earlier attempt
                (self.path / word).unlink(missing_ok=True)
            for left_over in self.path.glob("*.tmp"):
                print_line(f"note: removing {left_over.name}, left over by a run that was killed")
                left_over.unlink(missing_ok=True)  # missing_ok: a test.py may be writing here and remove it first
        except OSError as problem:
            why = f"cannot be used ({problem.strerror})"
            raise EnvironmentFault("folder", self.path, why, "fix it or choose another --checkpoints_dir") from problem

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *problem: object) -> None:
        if not self.report.of_command:  # a command releases it after it has written its files
            self.release()

    def _acquire_lock(self) -> FileLock:
        path = self.path / ".lock"
        lock = file_lock.acquire(path, "a second run in this folder", on_acquired=_write_holder)
        if lock is not None:
            return lock
        try:
            holder = path.read_text(encoding="utf-8").strip()
        except OSError:  # Windows does not let others read a locked file
            holder = ""
        why = f"is in use by {holder or 'another process'}"
        raise EnvironmentFault("run", self.path.name, why, "use another --name or stop that run")

    def next_steps(self) -> str:
        """Return what to do after training: look at the run's web page, if it has one, and run test.py."""
        page = self.path / "web" / "index.html"
        see = f"see {page}, then " if page.is_file() and not self.o.no_html else ""
        best = best_prefix(main_metric(self.o.metrics, self.o.early_stop)) if self.o.metrics else ""
        epoch = " --epoch best" if best and list_weights(self.path, f"{best}_net_*") else ""
        return f"{see}python test.py {run_flags(self.o)}{epoch}"

    def remove_previous_run(self) -> None:
        """With --overwrite, remove the files of an earlier run; call this only after all checks have passed."""
        if not self.overwrite:
            return
        for file in self._run_files():
            file.unlink()
        for inner in ("web", sources.FOLDER):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.path / inner)

    def release(self) -> None:
        """Release the lock now, because a traceback may keep this object alive."""
        with contextlib.suppress(OSError):  # a failing disk
            if ranks.rank() == 0:
                self._lock.release()

    def reclaimable_bytes(self) -> int:
        """Return the number of bytes that `remove_previous_run` will free."""
        return sum(file.stat().st_size for file in self._run_files()) if self.overwrite else 0

    def _run_files(self) -> list[Path]:
        return [file for pattern in RUN_FILES for file in self.path.glob(pattern)]


def keep_sources(folder: Path) -> list[str]:
    """Copy the plug-ins' source to the run's folder; return a note if it differs from that of an earlier start."""
    note = sources.change_note(folder)
    try:
        sources.save(folder)
    except OSError as problem:
        remedy = "make it writable"
        raise EnvironmentFault("folder", folder, problem.strerror or str(problem), remedy) from problem
    return [note] if note else []


def resume_command(o: Any) -> str:
    """Return the command that resumes a run."""
    return f"continue with: python train.py {run_flags(o)} --continue_train"


def run_flags(o: Any) -> str:
    """Return the flags that identify the run in another command."""
    folder = ["--checkpoints_dir", o.checkpoints_dir] if "checkpoints_dir" in o.given else []
    return printable(shlex.join(["--name", o.name, *folder]))


def _write_holder(lock: int) -> None:
    """Write who holds the lock into its file."""
    os.ftruncate(lock, 0)
    os.write(lock, f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}".encode())
