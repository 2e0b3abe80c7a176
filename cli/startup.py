"""Shorten the import of torch and the exit of a process that has imported it."""

import atexit
import gc
import os
import sys


def import_torch_fast() -> None:
    """Import torch with the garbage collector disabled, and exclude the imported objects from later collections.

    They are a million objects that live as long as the process; collecting them repeatedly takes a fifth of the startup
    time.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def skip_interpreter_shutdown() -> list[int]:
    """Register an exit with os._exit, which skips the interpreter's shutdown; return the list for the exit code.

    With torch loaded, the shutdown takes as long as translating several images. Call this before any other
    atexit.register: handlers run in reverse order, so this one runs last, after threads have ended. The process exits
    with the code put into the list; while the list is empty, the exit is normal.
    """
    ended: list[int] = []
    atexit.register(lambda: os._exit(ended[0]) if ended else None)
    return ended
