"""Computing something a second time as it was the first time: with the same draws and the same buffers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from util.seeding import generator_states, restore_generators


class Buffers:
    """The buffers of a module at one moment, such as running statistics, which a forward pass changes."""

    def __init__(self, module: nn.Module):
        self.of = [(buffer, buffer.clone()) for buffer in module.buffers()]

    def put_back(self) -> None:
        """Give the module's buffers these values again."""
        for buffer, value in self.of:
            buffer.data.copy_(value)


class Moment:
    """The draws to come and a model's buffers at one moment."""

    def __init__(self, model: nn.Module):
        self.model, self.generators, self.buffers = model, generator_states(), Buffers(model)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Go back to this moment inside the block, and afterwards to where it began."""
        now = Moment(self.model)
        self._return()
        try:
            yield
        finally:
            now._return()

    def _return(self) -> None:
        restore_generators(self.generators)
        self.buffers.put_back()
