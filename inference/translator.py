"""Send pictures through a model, several at a time where that changes nothing."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn

from util.device import move
from util.image_io import pictures
from util.seeding import generator_states, restore_generators

TOGETHER = 4 * 256 * 256  # pixels of A that are translated at a time; a larger picture goes alone
MOST = 16  # pictures at a time
ALIKE = 1e-3  # between values in [-1, 1]: an eighth of the step from one of 256 greys to the next
Batch = dict[str, Any]
Shown = dict[str, Tensor]


class Translator:
    """Calls a model with batches from a loader, and yields what it shows of them, in order.

    On a CPU pictures go side by side, each on a core of its own; elsewhere those of one size go together, as a batch.
    One by one go they where a --batch_size, --no_eval or --tile asks for it, and through networks that draw.
    """

    def __init__(self, o: Any, model: nn.Module, where: torch.device):
        self.o, self.model, self.where = o, model, where
        self.may = bool(o.eval and o.batch_size == 1 and not o.tile)
        self.tried = False  # whether going together was seen to change nothing

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Shown, list[str]]]:
        """Yield {label: (N, C, H, W)} and the N files of A, for as many pictures at a time as suits."""
        yield from self.side_by_side(batches) if self.where.type == "cpu" and self.may else self.together(batches)

    def side_by_side(self, batches: Iterable[Batch]) -> Iterator[tuple[Shown, list[str]]]:
        """Translate as many small pictures at a time as there are threads, one with the model, each other with a copy.

        The copies share all weights; what a forward pass leaves in a model stays there. The first picture goes alone,
        for somebody waits for it, and to see whether the model draws; large ones do too.
        """
        source, drawn, most = Source(batches), generator_states(), torch.get_num_threads()
        copies: list[nn.Module] | None = None  # not known before the first picture
        free: SimpleQueue[nn.Module] = SimpleQueue()

        def shown(batch: Batch) -> Shown:
            model = free.get()
            try:
                return self._shown(batch, model)
            finally:
                free.put(model)

        waiting: deque[tuple[Future[Shown], list[str]]] = deque()
        with ThreadPoolExecutor(most, "translator", torch.set_num_threads, (1,)) as threads:
            for batch in source:
                alone = not copies or batch["A"][:, 0].numel() > TOGETHER
                while waiting and (alone or len(waiting) > most):
                    done, paths = waiting.popleft()
                    yield done.result(), paths
                paths = batch["path_A"]
                if not alone:
                    waiting.append((threads.submit(shown, batch), paths))
                    continue
                held = [self._shown(batch)]
                del batch  # a huge picture is the caller's alone
                yield held.pop(), paths
                if copies is None:
                    copies = copies_of(self.model, most) if same(drawn, generator_states()) else []
                    for model in copies:
                        free.put(model)
            while waiting:
                done, paths = waiting.popleft()
                yield done.result(), paths
        source.end()

    def together(self, batches: Iterable[Batch]) -> Iterator[tuple[Shown, list[str]]]:
        """Translate neighbours of one size as a batch, if the first of them comes out as it does alone."""
        for group in gathered(batches, TOGETHER if self.may else 0):
            if len(group) > 1 and not self.tried:
                self._try(group)
            parts = [group] if self.may else [[batch] for batch in group]
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
        self.may = alone.keys() == made.keys() and all(
            torch.allclose(alone[label], made[label][: len(alone[label])], rtol=0, atol=ALIKE) for label in alone
        )

    def _shown(self, batch: Batch, model: nn.Module | None = None) -> Shown:
        model = model or self.model
        with torch.inference_mode():
            return pictures(model, model(move(batch, self.where)), self.o)


class Source:
    """Batches from a loader; an error in making one is kept, so that what came before it can be used first."""

    def __init__(self, batches: Iterable[Batch]):
        self.batches, self.problem = iter(batches), None

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                held = [next(self.batches)]
            except StopIteration:
                return
            except Exception as problem:
                self.problem = problem  # type: ignore[assignment]
                return
            yield held.pop()  # a huge picture is the caller's alone

    def end(self) -> None:
        """Raise what ended the batches."""
        try:
            if self.problem is not None:
                raise self.problem
        finally:
            self.problem = None  # else error, traceback and frames would hold each other


def copies_of(model: nn.Module, number: int) -> list[nn.Module]:
    """Return a model and copies that share its tensors; none if they would be of no use, or it cannot be copied."""
    if number < 2:
        return []
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    try:
        return [model, *(copy.deepcopy(model, dict(shared)) for _ in range(number - 1))]
    except Exception:  # a plug-in's model may hold anything
        return []


def same(one: Any, other: Any) -> bool:
    """Return whether two states of the generators are equal."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def gathered(batches: Iterable[Batch], room: int) -> Iterator[list[Batch]]:
    """Yield neighbours of equal shapes as far as `room` pixels go; the first batch alone, for somebody waits for it.

    An error in making one comes after those before it.
    """
    group: list[Batch] = []
    source, begun = Source(batches), False
    for batch in source:
        if group and shapes(batch) != shapes(group[0]):
            yield _handed_over(group)
        group.append(batch)
        most = min(MOST, room // max(1, batch["A"][0, 0].numel())) if begun else 1
        del batch
        if len(group) >= most:
            yield _handed_over(group)
            begun = True
    if group:
        yield _handed_over(group)
    source.end()


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
