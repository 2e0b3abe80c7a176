"""Shorten the import of torch."""

import gc
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
