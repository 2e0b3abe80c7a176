"""Run images through a model, several at a time if that does not change the result."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from data.batches import Batch, batch_signature, concat_batches
from inference.model_copies import ModelCopies
from inference.model_state import CallWatch, shared_copies, undone_changes
from inference.several_results import SeveralResults

MAX_BATCH_PIXELS = 4 * 256 * 256  # pixels of A in one batch; a larger image runs alone
MAX_BATCH_IMAGES = 16  # images in one batch
BATCHING_TOLERANCE = 1e-3  # of values in [-1, 1]: an eighth of the step between two of 256 grey levels
Visuals = dict[str, Tensor]
Files = list[tuple[str, str]]  # of each input: the file of A, and that of B, or A's again where there is no B


class Translator:
    """Calls a model with batches from a loader and yields the images to show, in order.

    On a CPU, images run in parallel, one on each thread; elsewhere images of one size run as a batch. The results are
    those of one image at a time: if an image changes the model (a memory of earlier images, a counter, running
    statistics) or draws random numbers, the images after it run in turn. The loader's batches run one at a time with
    --batch_size above 1, --no_eval, --tile or --num_results.
    """

    def __init__(self, o: Any, model: nn.Module, device: torch.device):
        self.o, self.model, self.device = o, model, device
        self.results = SeveralResults(o, device)
        self.can_batch = bool(o.eval and o.batch_size == 1 and not o.tile and o.num_results == 1)

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, Files]]:
        """Yield {label: (N, C, H, W)} and the N files of A and of B for one or several images at a time."""
        yield from (
            self.translate_parallel(batches)
            if self.device.type == "cpu" and self.can_batch
            else self.translate_batched(batches)
        )
        self.results.finish()

    def translate_parallel(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, Files]]:
        """Translate as many small images at a time as there are threads, each with a copy of the model.

        The first image runs alone, because the user waits for it and to see whether images depend on earlier ones.
        Large images run alone.
        """
        source, n_threads = BatchSource(batches), torch.get_num_threads()
        watch, copies = CallWatch(self.model), None
        pending: deque[tuple[Future[Any], Batch]] = deque()
        with ThreadPoolExecutor(n_threads, "translator", torch.set_num_threads, (1,)) as threads:
            for batch in source:
                # Yield finished images; before an image that runs alone, all of them.
                large = batch["A"][:, 0].numel() > MAX_BATCH_PIXELS
                while pending and (large or not copies or len(pending) > n_threads):
                    yield self._finish(pending, copies)

                # Start this image on a worker thread, or run it here alone.
                if copies and not large:
                    pending.append((threads.submit(copies.call, self._visuals, batch), batch))
                    continue
                held, files = [self._visuals(batch)], batch_files(batch)
                del batch  # so that the caller can free a huge image
                yield held.pop(), files

                # After the first image: copy the model, unless that image changed it or drew random numbers.
                if copies is None:
                    copies = ModelCopies(self.model, watch, n_threads)
                elif copies and watch.changed():
                    copies.stop()

            # Yield the remaining images.
            while pending:
                yield self._finish(pending, copies)
        source.raise_error()

    def _finish(self, pending: deque[tuple[Future[Any], Batch]], copies: Any) -> tuple[Visuals, Files]:
        """Return the result of the oldest image; call the model here if an earlier image has changed it."""
        future, batch = pending.popleft()
        visuals, changed = copies.result(future, [later for later, _ in pending])
        self.model = changed or self.model
        return self._visuals(batch) if visuals is None else visuals, batch_files(batch)

    def translate_batched(self, batches: Iterable[Batch]) -> Iterator[tuple[Visuals, Files]]:
        """Translate consecutive images of one size as a batch if the output equals that of single runs."""
        watch, spare = CallWatch(self.model), list[nn.Module]()
        for group in batch_groups(batches, MAX_BATCH_PIXELS if self.can_batch else 0):
            if len(group) > 1 and not spare and self.can_batch:
                spare = [] if watch.changed() else shared_copies(self.model, 1)
                self.can_batch = bool(spare) and self._test_batching(group, watch)
            parts = [group] if self.can_batch else [[batch] for batch in group]
            del group  # so that the caller can free a huge image
            while parts:
                files = [both for batch in parts[0] for both in batch_files(batch)]
                held = [self._visuals(concat_batches(parts[0]))]
                if spare and self.can_batch and watch.changed():  # the batch runs again, one image at a time
                    watch.undo_draws()
                    self.model, self.can_batch, held = spare[0], False, []
                    parts = [[batch] for batch in parts[0]]
                    continue
                del parts[0]
                yield held.pop(), files

    def _test_batching(self, group: list[Batch], watch: CallWatch) -> bool:
        """Return whether a batch gives the same output as each of its images alone; the model stays as it is."""
        try:
            with undone_changes(self.model):
                alone = [self._visuals(batch) for batch in group]
                batched = self._visuals(concat_batches(group))
        except Exception:  # a plug-in's model may be made for one image; an image's own error follows in its turn
            return False
        finally:
            watch.undo_draws()
        if any(visuals.keys() != batched.keys() for visuals in alone):
            return False
        singles = {label: [visuals[label] for visuals in alone] for label in batched}
        return all(
            {part.shape[1:] for part in parts} == {batched[label].shape[1:]}
            and len(batched[label]) == sum(map(len, parts))
            and torch.allclose(torch.cat(parts), batched[label], rtol=0, atol=BATCHING_TOLERANCE)
            for label, parts in singles.items()
        )

    def _visuals(self, batch: Batch, model: nn.Module | None = None) -> Visuals:
        model = model or self.model
        with torch.inference_mode():
            return self.results(model, batch)


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
