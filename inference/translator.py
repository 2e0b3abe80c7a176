"""Send pictures through a model, several at a time where that changes nothing."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn

from util.device import to_device
from util.image_io import collect_visuals
from util.seeding import generator_states, restore_generators

MAX_BATCH_PIXELS = 4 * 256 * 256  # pixels of A that are translated at a time; a larger picture goes alone
MAX_BATCH_IMAGES = 16  # pictures at a time
BATCHING_TOLERANCE = 1e-3  # between values in [-1, 1]: an eighth of the step from one of 256 greys to the next
Batch = dict[str, Any]
Visuals = dict[str, Tensor]


class Translator:
    """Calls a model with batches from a loader, and yields what it shows of them, in order.

    On a CPU pictures go side by side, each on a core of its own; elsewhere those of one size go together, as a batch.
    One by one go they where a --batch_size, --no_eval or --tile asks for it, and through networks that draw.
    """

    def __init__(self, o: Any, model: nn.Module, device: torch.device):
        self.o, self.model, self.device = o, model, device
        self.can_batch = bool(o.eval and o.batch_size == 1 and not o.tile)
        self.batching_tested = False  # whether going together was seen to change nothing

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, list[str]]]:
        """Yield {label: (N, C, H, W)} and the N files of A, for as many pictures at a time as suits."""
        yield from (
            self.translate_parallel(batches)
            if self.device.type == "cpu" and self.can_batch
            else self.translate_batched(batches)
        )

    def translate_parallel(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, list[str]]]:
        """Translate as many small pictures at a time as there are threads, one with the model, each other with a copy.

        The copies share all weights; what a forward pass leaves in a model stays there. The first picture goes alone,
        for somebody waits for it, and to see whether the model draws; large ones do too.
        """
        source, rng_states, n_threads = BatchSource(batches), generator_states(), torch.get_num_threads()
        copies: list[nn.Module] | None = None  # not known before the first picture
        idle_models: SimpleQueue[nn.Module] = SimpleQueue()

        def worker_visuals(batch: Batch) -> Visuals:
            model = idle_models.get()
            try:
                return self._visuals(batch, model)
            finally:
                idle_models.put(model)

        pending: deque[tuple[Future[Visuals], list[str]]] = deque()
        with ThreadPoolExecutor(n_threads, "translator", torch.set_num_threads, (1,)) as threads:
            for batch in source:
                alone = not copies or batch["A"][:, 0].numel() > MAX_BATCH_PIXELS
                while pending and (alone or len(pending) > n_threads):
                    future, paths = pending.popleft()
                    yield future.result(), paths
                paths = batch["path_A"]
                if not alone:
                    pending.append((threads.submit(worker_visuals, batch), paths))
                    continue
                held = [self._visuals(batch)]
                del batch  # a huge picture is the caller's alone
                yield held.pop(), paths
                if copies is None:
                    copies = (
                        shared_copies(self.model, n_threads) if states_equal(rng_states, generator_states()) else []
                    )
                    for model in copies:
                        idle_models.put(model)
            while pending:
                future, paths = pending.popleft()
                yield future.result(), paths
        source.raise_error()

    def translate_batched(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, list[str]]]:
        """Translate neighbours of one size as a batch, if the first of them comes out as it does alone."""
        for group in batch_groups(batches, MAX_BATCH_PIXELS if self.can_batch else 0):
            if len(group) > 1 and not self.batching_tested:
                self._test_batching(group)
            parts = [group] if self.can_batch else [[batch] for batch in group]
            del group  # a huge picture is the caller's alone
            while parts:
                paths = [path for batch in parts[0] for path in batch["path_A"]]
                held = [self._visuals(concat_batches(parts.pop(0)))]
                yield held.pop(), paths

    def _test_batching(self, group: list[Batch]) -> None:
        """Find out whether pictures may go together; what the trial draws is put back."""
        rng_states = generator_states()
        single, batched = self._visuals(concat_batches(group[:1])), self._visuals(concat_batches(group))
        restore_generators(rng_states)
        self.batching_tested = True
        self.can_batch = single.keys() == batched.keys() and all(
            torch.allclose(single[label], batched[label][: len(single[label])], rtol=0, atol=BATCHING_TOLERANCE)
            for label in single
        )

    def _visuals(self, batch: Batch, model: nn.Module | None = None) -> Visuals:
        model = model or self.model
        with torch.inference_mode():
            return collect_visuals(model, model(to_device(batch, self.device)), self.o)


class BatchSource:
    """Batches from a loader; an error in making one is kept, so that what came before it can be used first."""

    def __init__(self, batches: Iterable[Batch]):
        self.batches, self.error = iter(batches), None

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                held = [next(self.batches)]
            except StopIteration:
                return
            except Exception as error:
                self.error = error  # type: ignore[assignment]
                return
            yield held.pop()  # a huge picture is the caller's alone

    def raise_error(self) -> None:
        """Raise what ended the batches."""
        try:
            if self.error is not None:
                raise self.error
        finally:
            self.error = None  # else error, traceback and frames would hold each other


def shared_copies(model: nn.Module, number: int) -> list[nn.Module]:
    """Return a model and copies that share its tensors; none if they would be of no use, or it cannot be copied."""
    if number < 2:
        return []
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    try:
        return [model, *(copy.deepcopy(model, dict(shared)) for _ in range(number - 1))]
    except Exception:  # a plug-in's model may hold anything
        return []


def states_equal(one: Any, other: Any) -> bool:
    """Return whether two states of the generators are equal."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(states_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(states_equal, one, other))
    return bool(one == other)


def batch_groups(batches: Iterable[Batch], max_pixels: int) -> Iterator[list[Batch]]:
    """Yield neighbours of equal shapes up to `max_pixels`; the first batch alone, for somebody waits for it.

    An error in making one comes after those before it.
    """
    group: list[Batch] = []
    source, past_first = BatchSource(batches), False
    for batch in source:
        if group and batch_signature(batch) != batch_signature(group[0]):
            yield _take_all(group)
        group.append(batch)
        max_images = min(MAX_BATCH_IMAGES, max_pixels // max(1, batch["A"][0, 0].numel())) if past_first else 1
        del batch
        if len(group) >= max_images:
            yield _take_all(group)
            past_first = True
    if group:
        yield _take_all(group)
    source.raise_error()


def _take_all(group: list[Batch]) -> list[Batch]:
    """Return what a list holds and empty it: a huge picture is the receiver's alone."""
    taken = group.copy()
    group.clear()
    return taken


def batch_signature(batch: Batch) -> dict[str, Any]:
    """Return what batches that can become one have in common."""
    return {name: (value.shape[1:], value.dtype) if torch.is_tensor(value) else list if isinstance(value, list)
            else object() for name, value in batch.items()}  # fmt: skip


def concat_batches(group: list[Batch]) -> Batch:
    """Return batches as one; of a single one no copy is made."""
    if len(group) == 1:
        return group[0]
    return {name: torch.cat([batch[name] for batch in group]) if torch.is_tensor(value)
            else [one for batch in group for one in batch[name]] for name, value in group[0].items()}  # fmt: skip
