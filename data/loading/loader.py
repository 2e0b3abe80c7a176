"""Batches in an order that is a pure function of (seed, epoch), loaded by any number of processes."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from itertools import islice
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from tqdm import tqdm

from data.base import MAX_REPLACEMENT_TRIES, BaseDataset, Sample, load_sample
from data.decoding.header_check import count_frames_in_file, exceeds_skip_limit
from data.loading.collate import SKIPPED_KEY, BatchCollator, collate
from data.loading.sample_order import EpochBatchSampler, SampleKey
from data.loading.shared_memory import BatchGroupSampler
from registry import attribution, discovery
from util import malloc
from util.errors import OptionError, UserError, format_problems, printable, raise_if_any
from util.image_io import first_thumbnails, make_grid
from util.seeding import fork_rng, mix_seed

PREVIEW_SIDE_PIXELS = 256  # pixels of a picture's longer side on the sheet, about


class Loader:
    """`loader.epoch(epoch, skip)` yields the batches of one epoch, without its first `skip` samples.

    Resuming is skipping: what a batch holds depends on nothing but (seed, epoch) and its place. pin: batches are made
    ready for copying to a CUDA device. OptionError if --drop_last leaves no batch.
    """

    def __init__(self, dataset: BaseDataset, o: Any, shuffle: bool, pin: bool = False):
        self.batch_sampler = EpochBatchSampler(len(dataset), o.batch_size, o.seed, shuffle, o.isTrain and o.drop_last)
        if not len(self.batch_sampler):
            why = f"leaves nothing: {len(dataset)} images make no batch of {o.batch_size}"
            raise OptionError("option", "--drop_last", why, "lower --batch_size or leave --drop_last out")
        self.dataset, self.inventory = dataset, dataset.inventory
        self.report_frames = not o.isTrain  # a training has looked at all headers before
        self.inventory.samples = len(dataset)
        self.workers: set[Any] = set()  # their processes
        workers = min(o.num_threads, os.cpu_count() or 1)  # more of them than cores only wait for each other
        # of pinned batches DataLoader has a thread, which knows no shelf
        self.collator = BatchCollator(0 if pin else workers, o.batch_size)
        self.group_sampler = BatchGroupSampler(self.batch_sampler, workers)
        self.loader: Any = DataLoader(
            SeededDataset(dataset, o.seed, max_tries(o)), batch_sampler=self.group_sampler, num_workers=workers,
            collate_fn=self.collator, persistent_workers=workers > 0, pin_memory=pin, worker_init_fn=_init_worker,
            generator=torch.Generator(),  # its own: the global one belongs to the training step
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def example_batch(self) -> dict[str, Any]:
        """Return the first sample, repeated, as a batch of the epoch's first batch's size, made in this process."""
        batch = one_batch(self.loader.dataset[1, 0])
        n = min(self.batch_sampler.batch_size, self.batch_sampler.length)
        batch = {
            k: v.expand(n, *v.shape[1:]) if torch.is_tensor(v) else v * n if isinstance(v, list) else v
            for k, v in batch.items()
        }
        if not self.workers:
            self.group_sampler.max_batches = self.collator.allocate(batch, fast=self.dataset.cache is not None)
        return batch

    def preview_grid(self, number: int = 8) -> np.ndarray | None:
        """Return the first samples as one picture (H, W, 3) uint8: A above, B below, as far as they have its channels.

        Raises DataError for a file that cannot be read.
        """
        self.batch_sampler.epoch, self.batch_sampler.skip = 1, 0
        keys = [key for batch in islice(self.batch_sampler, number) for key in batch]
        shown = [first_thumbnails(one_batch(self.loader.dataset[key]), PREVIEW_SIDE_PIXELS) for key in keys[:number]]
        sides = [side for side in ("A", "B") if all(side in pictures for pictures in shown)]
        return make_grid([pictures[side] for side in sides for pictures in shown], len(shown)) if sides else None

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[dict[str, Any]]:
        """Yield batches; raise DataError, naming the file, for a sample that could not be made.

        With --on_bad_image skip, pictures that were replaced (in tests left out) are listed at the end; DataError if
        they are more than a few.
        """
        while self.dataset.notes:  # said once, when they begin to matter
            tqdm.write(printable(self.dataset.notes.pop(0)))
        self.batch_sampler.epoch, self.batch_sampler.skip = epoch, skip
        other_processes = set(multiprocessing.active_children())
        batches = iter(self.loader)
        self.workers |= set(multiprocessing.active_children()) - other_processes
        skipped: dict[str, str] = {}
        for message in (group.pop(0) for group in batches for _ in range(len(group))):
            batch = self.collator.buffer.read(message)
            del message
            if isinstance(batch, UserError):
                try:
                    raise batch
                finally:
                    del batch  # else error, traceback and this frame would hold each other, and the workers
            skipped |= {problem.args[1]: problem.args[2] for problem in batch.pop(SKIPPED_KEY, ())}
            if exceeds_skip_limit(len(skipped), self.batch_sampler.length):
                raise_if_any("image", list(skipped.items()), f"of {self.batch_sampler.length} pictures",
                       "delete or replace them: --on_bad_image skip is for a few")  # fmt: skip
            if batch:
                self._report_frames(batch.get("path_A", ()))
                handed_over = [batch]
                del batch
                yield handed_over.pop()  # a huge picture is the caller's alone
        if skipped:
            said = f"note: {len(skipped)} pictures could not be used in epoch {epoch}:"
            tqdm.write("\n".join([said, *format_problems(list(skipped.items()))]))

    def _report_frames(self, paths: Sequence[str]) -> None:
        """Say in a test, once, that of several pictures in a file the first is used."""
        for path in paths if self.report_frames else ():
            frames = count_frames_in_file(path)
            if frames > 1:
                self.report_frames = False
                said = f"note: '{path}' holds {frames} frames: of it, and of others like it, the first is used"
                tqdm.write(printable(said))
                return

    def close(self) -> None:
        """End all workers now, also those that hang on a disk that does not answer; nothing more can be loaded."""
        if self.dataset.header_check:
            self.dataset.header_check.stop()
        on_death = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if hasattr(signal, "SIGCHLD") else None
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join(1)
        self.workers.clear()
        self.loader = None  # it would hear of their deaths through torch's handler, which raises
        if on_death is not None:
            signal.signal(signal.SIGCHLD, on_death)


def max_tries(o: Any) -> int:
    """Return how many pictures are tried for one sample: 1, or with --on_bad_image skip its neighbours too.

    0 leaves a bad one out: a test shows each picture once.
    """
    return (MAX_REPLACEMENT_TRIES if o.isTrain else 0) if o.on_bad_image == "skip" else 1


class SeededDataset(Dataset):
    """Another data set's samples by (epoch, index), each drawn with generators seeded for just that sample.

    tries: see max_tries(); the errors of pictures that could not be used travel in the sample, as SKIPPED_KEY.
    Travels to spawned workers together with the plug-ins its data set may come from.
    """

    def __init__(self, dataset: BaseDataset, seed: int, tries: int = 1):
        self.dataset, self.seed, self.tries = dataset, seed, tries

    def __getitem__(self, key: SampleKey) -> Sample | UserError:
        epoch, index = key
        with fork_rng(mix_seed(self.seed, epoch, index)):
            try:
                sample, bad = load_sample(self.dataset, index, max(1, self.tries))
            except UserError as problem:
                return _drop_tracebacks(problem)
            except (Exception, SystemExit) as problem:  # one that cannot travel would hang the run
                culprit = attribution.worker_error(problem) if get_worker_info() else None
                if culprit is None:
                    raise
                return culprit
        if isinstance(sample, UserError):  # returned, not raised: a worker would bury it under its own traceback
            _drop_tracebacks(sample)
            return {SKIPPED_KEY: [sample]} if not self.tries and sample.args[0] == "image" else sample
        return sample | {SKIPPED_KEY: [_drop_tracebacks(problem) for problem in bad]} if bad else sample

    def __reduce__(self):
        return _unpickle_dataset, (_PluginPaths(), self.dataset, self.seed, self.tries)


def _drop_tracebacks(problem: UserError) -> UserError:
    """Return an error that holds no frames, among them those that are going to hold it, the run's lock and all else."""
    each: BaseException | None = problem
    while each is not None:
        each.__traceback__, each = None, each.__cause__ or each.__context__
    return problem


class _PluginPaths:
    """Unpickles by making this process's plug-ins known in the other one, before anything that follows it."""

    def __reduce__(self):
        return discovery.add_paths, (discovery.paths(),)


def _unpickle_dataset(_: None, dataset: BaseDataset, seed: int, tries: int) -> SeededDataset:
    return SeededDataset(dataset, seed, tries)


def one_batch(sample: Sample | UserError) -> dict[str, Any]:
    """Return one sample as a batch; raise it if it is the error that kept it from being made."""
    batch = collate([sample])
    try:
        if isinstance(batch, UserError):
            raise batch
        batch.pop(SKIPPED_KEY, None)
        return batch
    finally:
        del sample, batch  # else error, traceback and this frame would hold each other, and all frames below


def _init_worker(worker: int) -> None:
    """Leave signals that reach the whole process group to the main process, which finishes its step and saves."""
    torch.set_num_threads(1)
    malloc.release_freed_memory()
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _restore_default_signal)


def _restore_default_signal(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one is the main process ending a worker that hangs
