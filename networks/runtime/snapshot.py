"""Repeat a computation with the same random numbers and the same buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from util.seeding import generator_states, restore_generators


class BufferSnapshot:
    """A copy of a module's buffers, such as running statistics, which a forward pass changes."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.values = [(buffer, buffer.clone()) for buffer in module.buffers()]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore these values inside the block, and the previous values after it."""
        now = BufferSnapshot(self.module)
        self._put_back()
        try:
            yield
        finally:
            now._put_back()

    def _put_back(self) -> None:
        for buffer, value in self.values:
            buffer.data.copy_(value)


class Snapshot:
    """A copy of the random generators' states and a module's buffers."""

    def __init__(self, module: nn.Module):
        self.generators, self.buffers = generator_states(), BufferSnapshot(module)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore this snapshot inside the block, and the previous states after it."""
        now = generator_states()
        restore_generators(self.generators)
        try:
            with self.buffers.restored():
                yield
        finally:
            restore_generators(now)
