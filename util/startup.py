"""How torch is loaded."""

import gc
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
