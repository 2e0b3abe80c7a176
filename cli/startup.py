"""Prepare a process before torch is loaded: how its threads wait, and how fast it is imported."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN_VARIABLE = "GOMP_SPINCOUNT"
SPIN_COUNT = "1000"  # how often a thread polls a barrier before it sleeps


def share_cores() -> None:
    """Make torch's waiting threads give up their cores soon, unless the user's environment says how they wait.

    GNU OpenMP's threads poll a barrier 300,000 times before they sleep. Beside one busy process a step then takes two
    to three times as long as with SPIN_COUNT, because the threads spin on cores that others need. If they sleep at
    once, a step without other processes takes up to a fifth longer.
    """
    if not os.environ.keys() & {SPIN_VARIABLE, "OMP_WAIT_POLICY"}:
        os.environ[SPIN_VARIABLE] = SPIN_COUNT


@contextmanager
def shared_cores() -> Iterator[None]:
    """Call share_cores; remove what it has set from the environment at the end of the block."""
    known = SPIN_VARIABLE in os.environ
    share_cores()
    try:
        yield
    finally:
        if not known:
            os.environ.pop(SPIN_VARIABLE, None)


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
