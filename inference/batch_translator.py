"""Run images through a model, several at a time if that does not change the result."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn

from inference.visuals import collect_visuals
from util.device import to_device
from util.seeding import generator_states, restore_generators

MAX_BATCH_PIXELS = 4 * 256 * 256  # pixels of A in one batch; a larger image runs alone
MAX_BATCH_IMAGES = 16  # images in one batch
BATCHING_TOLERANCE = 1e-3  # of values in [-1, 1]: an eighth of the step between two of 256 grey levels
Batch = dict[str, Any]
Visuals = dict[str, Tensor]
Files = list[tuple[str, str]]  # of each input: the file of A, and that of B, or A's again where there is no B


class Translator:
    """Calls a model with batches from a loader and yields the images to show, in order.

    On a CPU, images run in parallel, one on each thread; elsewhere images of one size run as a batch. The loader's
    batches run one at a time with --batch_size above 1, --no_eval or --tile, and if the model draws random numbers.
    """

    def __init__(self, o: Any, model: nn.Module, device: torch.device):
        self.o, self.model, self.device = o, model, device
        self.can_batch = bool(o.eval and o.batch_size == 1 and not o.tile)
        self.batching_tested = False  # whether `can_batch` was tested on a first batch

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, Files]]:
        """Yield {label: (N, C, H, W)} and the N files of A and of B for one or several images at a time."""
        yield from (
            self.translate_parallel(batches)
            if self.device.type == "cpu" and self.can_batch
            else self.translate_batched(batches)
        )

    def translate_parallel(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, Files]]:
        """Translate as many small images at a time as there are threads: one with the model, the others with copies.

        The copies share all weights, but state that a forward pass writes to one copy stays in it. The first image runs
        alone, because the user waits for it and to detect a model that draws random numbers. Large images run alone.
        """
        source, rng_states, n_threads = BatchSource(batches), generator_states(), torch.get_num_threads()
        copies: list[nn.Module] | None = None  # decided after the first image
        idle_models: SimpleQueue[nn.Module] = SimpleQueue()

        def worker_visuals(batch: Batch) -> Visuals:
            model = idle_models.get()
            try:
                return self._visuals(batch, model)
            finally:
                idle_models.put(model)

        pending: deque[tuple[Future[Visuals], Files]] = deque()
        with ThreadPoolExecutor(n_threads, "translator", torch.set_num_threads, (1,)) as threads:
            for batch in source:
                # Yield finished images; before an image that runs alone, all of them.
                alone = not copies or batch["A"][:, 0].numel() > MAX_BATCH_PIXELS
                while pending and (alone or len(pending) > n_threads):
                    future, files = pending.popleft()
                    yield future.result(), files

                # Start this image on a worker thread, or run it here alone.
                files = batch_files(batch)
                if not alone:
                    pending.append((threads.submit(worker_visuals, batch), files))
                    continue
                held = [self._visuals(batch)]
                del batch  # so that the caller can free a huge image
                yield held.pop(), files

                # After the first image: copy the model, unless it draws random numbers.
                if copies is None:
                    copies = (
                        shared_copies(self.model, n_threads) if states_equal(rng_states, generator_states()) else []
                    )
                    for model in copies:
                        idle_models.put(model)

            # Yield the remaining images.
            while pending:
                future, files = pending.popleft()
                yield future.result(), files
        source.raise_error()

    def translate_batched(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, Files]]:
        """Translate consecutive images of one size as a batch if the first one's output equals that of a single run."""
        for group in batch_groups(batches, MAX_BATCH_PIXELS if self.can_batch else 0):
            if len(group) > 1 and not self.batching_tested:
                self._test_batching(group)
            parts = [group] if self.can_batch else [[batch] for batch in group]
            del group  # so that the caller can free a huge image
            while parts:
                files = [both for batch in parts[0] for both in batch_files(batch)]
                held = [self._visuals(concat_batches(parts.pop(0)))]
                yield held.pop(), files

    def _test_batching(self, group: list[Batch]) -> None:
        """Set `can_batch` by a trial: whether a batch gives the same output; random states are restored afterwards."""
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
    """Batches from a loader, whose error is kept so that the batches before it can be processed first."""

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
            yield held.pop()  # no reference stays here, so that the caller can free a huge image

    def raise_error(self) -> None:
        """Raise the error that ended the batches, if any."""
        try:
            if self.error is not None:
                raise self.error
        finally:
            self.error = None  # otherwise error, traceback and frames form a reference cycle


def shared_copies(model: nn.Module, number: int) -> list[nn.Module]:
    """Return the model and number - 1 copies that share its tensors; [] if number < 2 or copying fails."""
    if number < 2:
        return []
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    try:
        return [model, *(copy.deepcopy(model, dict(shared)) for _ in range(number - 1))]
    except Exception:  # a plug-in's model may hold anything
        return []


def states_equal(one: Any, other: Any) -> bool:
    """Return whether two states of the random number generators are equal."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(states_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(states_equal, one, other))
    return bool(one == other)


def batch_groups(batches: Iterable[Batch], max_pixels: int) -> Iterator[list[Batch]]:
    """Yield groups of consecutive batches of equal shapes and up to `max_pixels` pixels.

    The first batch forms a group alone, because the user waits for it. An error of the loader is raised after the
    groups before it.
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


def batch_files(batch: Batch) -> Files:
    """Return the files of A and B of each image in a batch."""
    return list(zip(batch["path_A"], batch.get("path_B") or batch["path_A"], strict=True))


def _take_all(group: list[Batch]) -> list[Batch]:
    """Return the content of a list and empty it, so that the receiver can free a huge image."""
    taken = group.copy()
    group.clear()
    return taken


def batch_signature(batch: Batch) -> dict[str, Any]:
    """Return a value that is equal for two batches exactly if they can be concatenated."""
    return {name: _value_signature(value) for name, value in batch.items()}


def _value_signature(value: Any) -> Any:
    if torch.is_tensor(value):
        return value.shape[1:], value.dtype
    return list if isinstance(value, list) else object()  # an object equals only itself


def concat_batches(group: list[Batch]) -> Batch:
    """Return the concatenated batches; a single batch is returned without a copy."""
    if len(group) == 1:
        return group[0]
    return {
        name: torch.cat([batch[name] for batch in group])
        if torch.is_tensor(value)
        else [one for batch in group for one in batch[name]]
        for name, value in group[0].items()
    }
