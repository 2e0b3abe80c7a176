"""Inject faults into a process before train.py starts in it: kills, failing calls, limits, and announcements of events.

Pass a function of this module as `before=partial(function, ...)` to the fixtures `start` and `process`.
"""

import ctypes
import errno
import io
import json
import os
import resource
import signal
from pathlib import Path

SAVING = "saving\n"
STARTED = "started\n"


def announce(*, start: bool = False, saves: bool = False, patience: float | None = None) -> None:
    """Print a line when the signal handlers are installed (start) and when a save begins (saves).

    patience: seconds for which a stopping run waits for a batch.
    """
    from cli import signals
    from training import run

    if start:
        raise_on_signals = signals.raise_on_signals

        def announced() -> None:
            raise_on_signals()
            os.write(1, STARTED.encode())

        signals.raise_on_signals = announced
    if saves:
        save = run.Run.save

        def saying(self, *prefixes):
            os.write(1, SAVING.encode())
            save(self, *prefixes)

        run.Run.save = saying
    if patience is not None:
        signals.BATCH_TIMEOUT_S = patience


def fault_in_save(number: int, at: int, journal: str, what: str = "kill", code: int = errno.EIO) -> None:
    """Kill this process with SIGKILL, or fail with `code`, at the `at`-th file-system call of the `number`-th save.

    Calls are open, write, close, fsync (of a folder too), replace and unlink. Each is written to `journal` before it is
    made, as one JSON list per line. at=0 only writes the journal.
    """
    from serialization import atomic_save
    from training import run

    calls = {"saves": 0, "seen": 0, "armed": False}

    # Write a call to the journal, or inject the fault at it.
    def reached(name: str, *paths: object) -> None:
        if not calls["armed"]:
            return
        calls["seen"] += 1
        with open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps([name, *map(str, paths)]) + "\n")
        if calls["seen"] == at:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(code, os.strerror(code))

    class Counted(io.FileIO):
        def write(self, data):
            reached("write", self.name)
            return super().write(data)

        def close(self):
            if not self.closed:
                try:
                    reached("close", self.name)
                finally:
                    super().close()

    def counted_open(path, mode="r", *args, **kwargs):
        if mode != "wb" or not calls["armed"]:
            return open(path, mode, *args, **kwargs)
        reached("open", path)
        return io.BufferedWriter(Counted(path, "w"))  # the type that open() returns

    # Replace the calls.
    atomic_save.open = counted_open
    fsync, replace, unlink = os.fsync, os.replace, os.unlink
    os.fsync = lambda handle: (reached("fsync", os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))[1]
    os.replace = lambda old, new: (reached("replace", old, new), _keep(new, journal), replace(old, new))[2]
    os.unlink = lambda path, **more: (reached("unlink", path), unlink(path, **more))[1]
    save = run.Run.save

    # Count calls only during the chosen save.
    def armed(self, *prefixes):
        calls["saves"] += 1
        calls["armed"] = calls["saves"] == number
        try:
            save(self, *prefixes)
        finally:
            calls["armed"] = False

    run.Run.save = armed


def _keep(path, journal: str) -> None:
    """Copy the file that a rename is about to replace, for `cut_power`."""
    Path(journal + ".kept").write_bytes(Path(path).read_bytes() if Path(path).exists() else b"")


def journalled(journal: Path) -> list[list[str]]:
    """Return the calls in a journal; the last one was not made if a fault was injected there."""
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []


def cut_power(journal: Path, cwd: Path) -> list[str]:
    """Undo what a killed process did not flush, as a power cut may: truncate files, undo a rename.

    The last call of the journal was not made. Returns a list of what was undone.
    """
    # Find what was not flushed.
    written: set[str] = set()
    renamed: list[str] = []
    undone = []
    for name, *paths in journalled(journal)[:-1]:
        if name in ("open", "write"):
            written.add(paths[0])
        elif name == "fsync":
            written = {path for path in written if (cwd / path).resolve() != Path(paths[0]).resolve()}
            renamed = [] if Path(paths[0]).is_dir() else renamed
        elif name == "replace":
            written = {paths[1] if path == paths[0] else path for path in written}
            renamed = paths

    # Undo it.
    for path in (cwd / path for path in written):
        if path.exists():
            os.truncate(path, path.stat().st_size // 2)
            undone.append(f"{path.name} cut in half")
    if renamed:
        old, new = (cwd / path for path in renamed)
        os.replace(new, old)
        kept = Path(f"{journal}.kept")
        if kept.stat().st_size:
            os.replace(kept, new)
        undone.append(f"rename of {new.name} taken back")
    return undone


def limit(name: str, value: int, beyond: bool = False) -> None:
    """Set a resource limit (RLIMIT_...); beyond: add the memory that this process has mapped now."""
    if beyond:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        value += pages * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(getattr(resource, name), (value, value))


def nobody() -> None:
    """Drop root's rights, because file permissions do not apply to root."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def small_shared_memory(size: str) -> None:
    """Mount a private /dev/shm of this size for this process, like the small one of Docker."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, private = 0x00020000, 0x44000
    for done in (
        libc.unshare(new_mounts),
        libc.mount(b"none", b"/", None, private, None),
        libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, f"size={size}".encode()),
    ):
        if done != 0:
            raise OSError(ctypes.get_errno(), "this process cannot make private mounts")
