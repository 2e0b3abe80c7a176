"""Send pictures through a model, small ones several at a time where that changes nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from util.device import move
from util.pixels import pictures
from util.seeding import generator_states, restore_generators

TOGETHER = 4 * 256 * 256  # pixels of A that are translated at a time; a larger picture goes alone
MOST = 16  # pictures at a time
ALIKE = 1e-3  # between values in [-1, 1]: an eighth of the step from one of 256 greys to the next
Batch = dict[str, Any]
Shown = dict[str, Tensor]


class Translator:
    """Calls a model with batches from a loader, and yields what it shows of them, in order.

    Neighbours of one size are translated together if the first of them comes out as it does alone: not by networks
    that draw, or look at the whole batch, nor where a --batch_size, --no_eval or --tile asks for another way.
    """

    def __init__(self, o: Any, model: Any, where: torch.device):
        self.o, self.model, self.where = o, model, where
        self.together = bool(o.eval and o.batch_size == 1 and not o.tile)
        self.tried = False  # whether that was seen to change nothing

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Shown, list[str]]]:
        """Yield {label: (N, C, H, W)} and the N files of A, for as many pictures at a time as suits."""
        for group in gathered(batches, TOGETHER if self.together else 0):
            if len(group) > 1 and not self.tried:
                self._try(group)
            parts = [group] if self.together else [[batch] for batch in group]
            del group  # a huge picture is the caller's alone
            while parts:
                paths = [path for batch in parts[0] for path in batch["path_A"]]
                held = [self._shown(join(parts.pop(0)))]
                yield held.pop(), paths

    def _try(self, group: list[Batch]) -> None:
        """Find out whether pictures may go together; what the trial draws is put back."""
        drawn = generator_states()
        alone, made = self._shown(join(group[:1])), self._shown(join(group))
        restore_generators(drawn)
        self.tried = True
        self.together = alone.keys() == made.keys() and all(
            torch.allclose(alone[label], made[label][: len(alone[label])], rtol=0, atol=ALIKE) for label in alone
        )

    def _shown(self, batch: Batch) -> Shown:
        with torch.inference_mode():
            return pictures(self.model, self.model(move(batch, self.where)), self.o)


def gathered(batches: Iterable[Batch], room: int) -> Iterator[list[Batch]]:
    """Yield neighbours of equal shapes as far as `room` pixels go; the first batch alone, for somebody waits for it.

    An error in making one comes after those before it.
    """
    group: list[Batch] = []
    source, begun, problem = iter(batches), False, None
    while True:
        try:
            batch = next(source, None)
        except Exception as error:
            batch, problem = None, error
        if group and (batch is None or shapes(batch) != shapes(group[0])):
            yield _handed_over(group)
        if batch is None:
            break
        group.append(batch)
        most = min(MOST, room // max(1, batch["A"][0, 0].numel())) if begun else 1
        del batch
        if len(group) >= most:
            yield _handed_over(group)
            begun = True
    try:
        if problem is not None:
            raise problem
    finally:
        del problem  # else error, traceback and this frame would hold each other


def _handed_over(group: list[Batch]) -> list[Batch]:
    """Return what a list holds and empty it: a huge picture is the receiver's alone."""
    taken = group.copy()
    group.clear()
    return taken


def shapes(batch: Batch) -> dict[str, Any]:
    """Return what batches that can become one have in common."""
    return {name: (value.shape[1:], value.dtype) if torch.is_tensor(value) else list if isinstance(value, list)
            else object() for name, value in batch.items()}  # fmt: skip


def join(group: list[Batch]) -> Batch:
    """Return batches as one; of a single one no copy is made."""
    if len(group) == 1:
        return group[0]
    return {name: torch.cat([batch[name] for batch in group]) if torch.is_tensor(value)
            else [one for batch in group for one in batch[name]] for name, value in group[0].items()}  # fmt: skip
