"""Computing something a second time as it was the first time: with the same draws and the same buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from util.seeding import generator_states, restore_generators


class Buffers:
    """The buffers of a module at one moment, such as running statistics, which a forward pass changes."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.of = [(buffer, buffer.clone()) for buffer in module.buffers()]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Give the module's buffers these values inside the block, and afterwards those that they had."""
        now = Buffers(self.module)
        self._put_back()
        try:
            yield
        finally:
            now._put_back()

    def _put_back(self) -> None:
        for buffer, value in self.of:
            buffer.data.copy_(value)


class Moment:
    """The draws to come and a model's buffers at one moment."""

    def __init__(self, model: nn.Module):
        self.generators, self.buffers = generator_states(), Buffers(model)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Go back to this moment inside the block, and afterwards to where it began."""
        now = generator_states()
        restore_generators(self.generators)
        try:
            with self.buffers.again():
                yield
        finally:
            restore_generators(now)
