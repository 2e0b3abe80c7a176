"""Prepare a process before torch is loaded: how its threads wait, and how fast it is imported."""

import gc
import os
import sys

SPIN_COUNT = "1000"  # how often a thread polls a barrier before it sleeps


def share_cores() -> None:
    """Make torch's waiting threads give up their cores soon, unless the user's environment says how they wait.

    GNU OpenMP's threads poll a barrier 300,000 times before they sleep. Beside one busy process a step then takes two
    to three times as long as with SPIN_COUNT, because the threads spin on cores that others need. If they sleep at
    once, a step without other processes takes up to a fifth longer.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


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
