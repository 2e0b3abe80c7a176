"""How torch is loaded, and how a process that loaded it ends: both take longer than they need to."""

import atexit
import gc
import os
import sys


def load_torch() -> None:
    """Import torch while the garbage collector rests, and leave what the import made out of later collections.

    They are a million objects that stay as long as the process; to go through them again and again takes a fifth of the
    time of a start.
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
    """Have this process end without taking Python apart, which lasts as long as several pictures once torch is loaded.

    To be called before others ask to be called at the end: then it comes last, after threads have ended and the others
    were called. The exit code is the one that is put into the returned list; as long as it is empty, nothing changes.
    """
    ended: list[int] = []
    atexit.register(lambda: os._exit(ended[0]) if ended else None)
    return ended
