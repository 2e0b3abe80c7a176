"""How torch's threads wait for each other: to be said before torch is loaded."""

import os

SPINS = "1000"  # times GNU OpenMP looks at a barrier before its thread sleeps; its own default is 300,000


def share_cores() -> None:
    """Have threads that wait leave their core to others soon, unless the user's environment says how they wait.

    With the default a step beside one busy process takes three to ten times as long, since threads turn round at
    barriers on cores that the others need.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = SPINS
