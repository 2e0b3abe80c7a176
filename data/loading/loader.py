"""Load batches with any number of processes, in an order that is a pure function of (seed, epoch)."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from data.base import MAX_REPLACEMENT_TRIES, BaseDataset, Sample, load_sample
from data.batches import Batch, join_samples
from data.decoding.header_check import count_unused_frames, exceeds_skip_limit
from data.decoding.unusable import naming_all_unusable
from data.input_stack import split_inputs
from data.loading.sample_order import EpochBatchSampler, SampleKey
from data.loading.shared_memory import BatchCollator, BatchGroupSampler, SharedBatchBuffer
from registry import attribution, discovery
from registry.contract import check_batch
from util import malloc, ranks
from util.errors import (
    OptionError,
    UserError,
    are_text,
    count_text,
    format_problems,
    print_line,
    raise_if_any,
)
from util.image_io import first_thumbnails, make_grid
from util.seeding import fork_rng, mix_seed

PREVIEW_SIDE_PIXELS = 256  # longer side of an image in the preview grid, about
SKIPPED_KEY = "skipped"  # in samples and batches: the errors of images that were replaced or skipped


class Loader:
    """`loader.epoch(epoch, skip)` yields the batches of one epoch, without its first `skip` samples.

    Resuming is skipping, because a batch depends only on (seed, epoch) and its position. pin: use pinned memory, for
    copies to a CUDA device. Raises OptionError if --drop_last leaves no batch.
    """

    def __init__(self, dataset: BaseDataset, o: Any, shuffle: bool, pin: bool = False):
        self.batch_sampler = EpochBatchSampler(
            len(dataset),
            o.batch_size,
            o.seed,
            shuffle,
            o.isTrain and o.drop_last,
            dataset.shard_numbers() if shuffle else None,
            parts=o.accumulate if o.isTrain else 1,
            is_shared=o.isTrain,
        )
        self.batch_sampler.on_shard = dataset.fetch_ahead
        if not len(self.batch_sampler):
            size = self.batch_sampler.global_size
            why = f"leaves no batch: {are_text(len(dataset), 'image')} fewer than a batch of {size}"
            raise OptionError("option", "--drop_last", why, "lower --batch_size or omit --drop_last")
        self.o, self.dataset, self.inventory = o, dataset, dataset.inventory
        self.report_frames = not o.isTrain  # training has already checked all headers
        self.inventory.samples = len(dataset)
        self.workers: set[Any] = set()  # worker processes
        workers = min(o.num_threads, os.cpu_count() or 1)  # more workers than cores would only wait for each other
        self.samples = SeededDataset(dataset, o.seed, max_tries(o))
        self.collator = BatchCollator(self.samples.join, o.batch_size)
        self.group_sampler = BatchGroupSampler(self.batch_sampler, workers)
        self.loader: Any = DataLoader(
            self.samples,
            batch_sampler=self.group_sampler,
            num_workers=workers,
            collate_fn=self.collator,
            persistent_workers=workers > 0,
            pin_memory=pin,
            worker_init_fn=_init_worker,
            generator=torch.Generator(),  # the global generator belongs to the training step
        )

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def example_batch(self) -> dict[str, Any]:
        """Return the first sample, repeated to the size of the epoch's first batch, loaded in this process.

        Before workers are started, this reserves the memory in which they hand over batches of this size.
        """
        batch = self.samples.batch((1, 0), min(self.batch_sampler.batch_size, self.batch_sampler.length))
        if not self.workers:  # shared memory must exist before workers are forked
            # with pin_memory a thread of DataLoader handles batches, which cannot read SharedBatch
            sharing = 0 if self.loader.pin_memory else self.loader.num_workers
            self.collator.buffer = SharedBatchBuffer(sharing, batch, fast=self.dataset.cache is not None)
            self.group_sampler.max_batches = self.collator.buffer.batches_per_message
        return batch

    def preview_grid(self, number: int = 8) -> np.ndarray | None:
        """Return the first `number` samples of epoch 1 as one uint8 image (H, W, 3): A above, B below.

        Sides that cannot be shown as images are omitted; None if no side is left. Raises DataError for a file that
        cannot be read.
        """
        self.batch_sampler.epoch, self.batch_sampler.skip = 1, 0
        keys = [key for batch in islice(self.batch_sampler, number) for key in batch]
        batches = [self.samples.batch(key) for key in keys[:number]]
        inputs = [split_inputs(batch, self.o.inputs) for batch in batches]
        shown = [
            first_thumbnails(batch | parts, PREVIEW_SIDE_PIXELS) for batch, parts in zip(batches, inputs, strict=True)
        ]
        wanted = [*(inputs[0] if inputs and inputs[0] else ["A"]), "B"]
        sides = [side for side in wanted if all(side in pictures for pictures in shown)]
        return make_grid([pictures[side] for side in sides for pictures in shown], len(shown)) if sides else None

    def print_notes(self) -> None:
        """Print the notes about the dataset, once."""
        while self.dataset.notes:
            print_line(self.dataset.notes.pop(0))

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[dict[str, Any]]:
        """Yield batches; raise DataError, naming the file, for a sample that cannot be loaded.

        With --on_bad_image skip, the images that were replaced (in tests: skipped) are listed at the end; DataError
        is raised if there are too many.
        """
        self.print_notes()
        # Start the epoch, and workers if there are none.
        self.batch_sampler.epoch, self.batch_sampler.skip = epoch, skip
        other_processes = set(multiprocessing.active_children())
        messages = iter(self.loader)  # each is a list of batches
        self.workers |= set(multiprocessing.active_children()) - other_processes
        # Yield the batches of each message.
        shares, skipped = self.batch_sampler.shares(), dict[str, str]()
        for entry in (message.pop(0) for message in messages for _ in range(len(message))):
            batch = self.collator.buffer.read(entry)
            ranks.pulse.beat()
            del entry
            if isinstance(batch, UserError):
                try:
                    with naming_all_unusable(self.o):
                        raise batch
                finally:
                    del batch  # breaks the reference cycle error-traceback-frame, which keeps workers alive
            skipped |= {problem.args[1]: problem.args[2] for problem in batch.pop(SKIPPED_KEY, ())}
            if exceeds_skip_limit(len(skipped), self.batch_sampler.length):
                remedy = "delete or replace them: --on_bad_image skip accepts only a few"
                raise_if_any("image", list(skipped.items()), f"of {self.batch_sampler.length} images", remedy)
            if batch:
                self._report_frames(batch.get("path_A", ()))
                handed_over = [batch]
                del batch
                with ranks.sharing(next(shares)):
                    yield handed_over.pop()  # keep no reference: an image may be huge
        # List the images that were skipped.
        if skipped:
            when = f" in epoch {epoch}" if self.o.isTrain else ""
            said = f"note: {count_text(len(skipped), 'image')} could not be used{when}:"
            print_line(said, *format_problems(list(skipped.items())))

    def _report_frames(self, paths: Sequence[str]) -> None:
        """Print once in a test that only the first frame of a file with several is used."""
        for path in paths:
            if self.report_frames and (frames := count_unused_frames(path, self.dataset.file_channels("A"))):
                self.report_frames = False
                said = f"note: '{path}' holds {frames} frames; only the first is used, here and in similar files"
                print_line(said)

    def close(self) -> None:
        """Kill all workers, including those blocked by a disk that does not respond; this ends all loading."""
        if self.dataset.header_check:
            self.dataset.header_check.stop()
        # torch's SIGCHLD handler raises an error in the main thread for killed workers of a live DataLoader
        in_main_thread = threading.current_thread() is threading.main_thread()
        on_death = None
        if not in_main_thread:
            self.loader = None  # only the main thread may replace the handler: elsewhere torch ends its workers first
        elif hasattr(signal, "SIGCHLD"):
            on_death = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join(1)
        self.workers.clear()
        self.loader = None
        if on_death is not None:
            signal.signal(signal.SIGCHLD, on_death)


def max_tries(o: Any) -> int:
    """Return how many images are tried for one sample: 1, or more with --on_bad_image skip.

    0 means that a bad image is skipped without a replacement, because a test uses each image once.
    """
    return (MAX_REPLACEMENT_TRIES if o.isTrain else 0) if o.on_bad_image == "skip" else 1


class SeededDataset(Dataset):
    """The samples of a dataset by (epoch, index), each loaded with generators seeded for this sample.

    tries: see max_tries(); the errors of unusable images are stored in the sample under SKIPPED_KEY. Pickles with the
    paths of plug-ins, so that spawned workers can import a plug-in's dataset.
    """

    def __init__(self, dataset: BaseDataset, seed: int, tries: int = 1):
        self.dataset, self.seed, self.tries = dataset, seed, tries

    def __getitem__(self, key: SampleKey) -> Sample | UserError:
        epoch, index = key
        found = self._seeded(epoch, index, lambda: load_sample(self.dataset, index, max(1, self.tries)))
        if isinstance(found, UserError):
            return found
        sample, bad = found
        # an error is returned, not raised, because DataLoader would wrap it in a worker's traceback
        if isinstance(sample, UserError):
            _drop_tracebacks(sample)
            return {SKIPPED_KEY: [sample]} if not self.tries and sample.args[0] == "image" else sample
        return sample | {SKIPPED_KEY: [_drop_tracebacks(problem) for problem in bad]} if bad else sample

    def __getitems__(self, keys: list[SampleKey]) -> list[tuple[SampleKey, Sample | UserError]]:
        """Return several samples with their keys; DataLoader calls this."""
        return [(key, self[key]) for key in keys]

    def join(self, pairs: list[tuple[SampleKey, Sample | UserError]]) -> dict[str, Any] | UserError:
        """Return samples as one batch, or an error; a data set's own collate draws from generators seeded for it."""
        samples = [sample for _, sample in pairs]
        if type(self.dataset).collate is BaseDataset.collate:
            return collate(samples)
        epoch, index = pairs[0][0]
        return self._seeded(epoch, -1 - index, lambda: collate(samples, self._own_collate))

    def _own_collate(self, samples: list[Sample]) -> dict[str, Any]:
        batch = self.dataset.collate(samples)
        check_batch(self.dataset, batch, len(samples))
        return batch

    def _seeded(self, epoch: int, index: int, make: Callable[[], Any]) -> Any:
        """Return what `make` returns with generators seeded for (epoch, index), or the error that it raises."""
        with fork_rng(mix_seed(self.seed, epoch, index)):
            try:
                return make()
            except UserError as problem:
                return _drop_tracebacks(problem)
            except (Exception, SystemExit) as problem:  # an exception that cannot be pickled would hang the run
                culprit = attribution.worker_error(problem) if get_worker_info() else None
                if culprit is None:
                    raise
                return culprit

    def batch(self, key: SampleKey, count: int = 1) -> dict[str, Any]:
        """Return a sample, `count` times, as a batch loaded in this process; raise it if it is an error."""
        sample = self[key]
        copies = [sample if isinstance(sample, UserError) else dict(sample) for _ in range(count)]
        batch = self.join([(key, each) for each in copies])
        try:
            if isinstance(batch, UserError):
                raise batch
            batch.pop(SKIPPED_KEY, None)
            return batch
        finally:
            del sample, copies, batch  # breaks the reference cycle error-traceback-frame, which keeps callers' frames

    def __reduce__(self):
        return _unpickle_dataset, (_PluginPaths(), self.dataset, self.seed, self.tries)


def collate(samples: list[Any], join: Callable[[list[Any]], Batch] = join_samples) -> Batch | UserError:
    """Return samples as one batch, made by `join`; return an error if one of them is an error, or if `join` raises one.

    The errors of skipped images are joined under SKIPPED_KEY.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    bad = [problem for sample in samples for problem in sample.get(SKIPPED_KEY, ())]
    skipped = {SKIPPED_KEY: bad} if bad else {}
    samples = [rest for sample in samples if (rest := {k: v for k, v in sample.items() if k != SKIPPED_KEY})]
    try:
        return join(samples) | skipped if samples else skipped
    except UserError as problem:
        return problem.with_traceback(None)


def _drop_tracebacks(problem: UserError) -> UserError:
    """Remove all tracebacks from an error, because their frames would keep it, the run's lock and more alive."""
    each: BaseException | None = problem
    while each is not None:
        each.__traceback__, each = None, each.__cause__ or each.__context__
    return problem


class _PluginPaths:
    """On unpickling, registers this process's plug-in paths before the objects pickled after it are loaded."""

    def __reduce__(self):
        return discovery.add_paths, (discovery.paths(),)


def _unpickle_dataset(_: None, dataset: BaseDataset, seed: int, tries: int) -> SeededDataset:
    return SeededDataset(dataset, seed, tries)


def _init_worker(worker: int) -> None:
    """Set up a worker: one thread, and no reaction to SIGINT, SIGHUP and the first SIGTERM.

    These signals reach the whole process group; the main process handles them, finishes its step and saves.
    """
    torch.set_num_threads(1)
    gc.freeze()  # the garbage collector visits no inherited object, which would copy its page
    malloc.release_freed_memory()
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # a second SIGTERM comes from the main process, to end a hanging worker
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
