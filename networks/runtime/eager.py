"""Run networks layer by layer for a moment: not compiled, and without gradient checkpointing."""

from collections.abc import Iterator
from contextlib import contextmanager

_depth = 0  # number of active eager blocks


@contextmanager
def eager() -> Iterator[None]:
    """Make all networks call their layers one by one inside the block, so that hooks see each layer's output once."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def is_eager() -> bool:
    """Whether an eager block is active."""
    return bool(_depth)
