"""Computing something a second time as it was the first time: with the same draws and the same buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from util.seeding import generator_states, restore_generators


class BufferSnapshot:
    """The buffers of a module at one moment, such as running statistics, which a forward pass changes."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.values = [(buffer, buffer.clone()) for buffer in module.buffers()]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Give the module's buffers these values inside the block, and afterwards those that they had."""
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
    """The draws to come and a model's buffers at one moment."""

    def __init__(self, model: nn.Module):
        self.generators, self.buffers = generator_states(), BufferSnapshot(model)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Go back to this moment inside the block, and afterwards to where it began."""
        now = generator_states()
        restore_generators(self.generators)
        try:
            with self.buffers.restored():
                yield
        finally:
            restore_generators(now)
