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

from data.base import NEIGHBOURS, BaseDataset, Sample, usable
from data.decoding.header_check import frames_of, too_many
from data.loading.collate import SKIPPED, Sender, collate
from data.loading.sample_order import Key, Order
from data.loading.shared_memory import Parcels
from registry import attribution, discovery
from util import malloc
from util.errors import OptionError, UserError, printable, refuse, told
from util.image_io import first_pictures, grid
from util.seeding import mixed, seeded

SHEET = 256  # pixels of a picture's longer side on the sheet, about


class Loader:
    """`loader.epoch(epoch, skip)` yields the batches of one epoch, without its first `skip` samples.

    Resuming is skipping: what a batch holds depends on nothing but (seed, epoch) and its place. pin: batches are made
    ready for copying to a CUDA device. OptionError if --drop_last leaves no batch.
    """

    def __init__(self, dataset: BaseDataset, o: Any, shuffle: bool, pin: bool = False):
        self.order = Order(len(dataset), o.batch_size, o.seed, shuffle, o.isTrain and o.drop_last)
        if not len(self.order):
            why = f"leaves nothing: {len(dataset)} images make no batch of {o.batch_size}"
            raise OptionError("option", "--drop_last", why, "lower --batch_size or leave --drop_last out")
        self.dataset, self.inventory = dataset, dataset.inventory
        self.looks = not o.isTrain  # a training has looked at all headers before
        self.inventory.samples = len(dataset)
        self.workers: set[Any] = set()  # their processes
        workers = min(o.num_threads, os.cpu_count() or 1)  # more of them than cores only wait for each other
        # of pinned batches DataLoader has a thread, which knows no shelf
        self.sender = Sender(0 if pin else workers, o.batch_size)
        self.parcels = Parcels(self.order, workers)
        self.loader: Any = DataLoader(
            Seeded(dataset, o.seed, tries(o)), batch_sampler=self.parcels, num_workers=workers, collate_fn=self.sender,
            persistent_workers=workers > 0, pin_memory=pin, worker_init_fn=_quiet_worker,
            generator=torch.Generator(),  # its own: the global one belongs to the training step
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.order)

    def sample(self) -> dict[str, Any]:
        """Return the first sample, repeated, as a batch of the epoch's first batch's size, made in this process."""
        batch = one_batch(self.loader.dataset[1, 0])
        n = min(self.order.batch_size, self.order.length)
        batch = {
            k: v.expand(n, *v.shape[1:]) if torch.is_tensor(v) else v * n if isinstance(v, list) else v
            for k, v in batch.items()
        }
        if not self.workers:
            self.parcels.most = self.sender.make_room(batch, quick=self.dataset.cache is not None)
        return batch

    def sheet(self, number: int = 8) -> np.ndarray | None:
        """Return the first samples as one picture (H, W, 3) uint8: A above, B below, as far as they have its channels.

        Raises DataError for a file that cannot be read.
        """
        self.order.epoch, self.order.skip = 1, 0
        keys = [key for batch in islice(self.order, number) for key in batch]
        shown = [first_pictures(one_batch(self.loader.dataset[key]), SHEET) for key in keys[:number]]
        sides = [side for side in ("A", "B") if all(side in pictures for pictures in shown)]
        return grid([pictures[side] for side in sides for pictures in shown], len(shown)) if sides else None

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[dict[str, Any]]:
        """Yield batches; raise DataError, naming the file, for a sample that could not be made.

        With --on_bad_image skip, pictures that were replaced (in tests left out) are listed at the end; DataError if
        they are more than a few.
        """
        while self.dataset.notes:  # said once, when they begin to matter
            tqdm.write(printable(self.dataset.notes.pop(0)))
        self.order.epoch, self.order.skip = epoch, skip
        others = set(multiprocessing.active_children())
        batches = iter(self.loader)
        self.workers |= set(multiprocessing.active_children()) - others
        skipped: dict[str, str] = {}
        for sent in (parcel.pop(0) for parcel in batches for _ in range(len(parcel))):
            batch = self.sender.shelf.take(sent)
            del sent
            if isinstance(batch, UserError):
                try:
                    raise batch
                finally:
                    del batch  # else error, traceback and this frame would hold each other, and the workers
            skipped |= {problem.args[1]: problem.args[2] for problem in batch.pop(SKIPPED, ())}
            if too_many(len(skipped), self.order.length):
                refuse("image", list(skipped.items()), f"of {self.order.length} pictures",
                       "delete or replace them: --on_bad_image skip is for a few")  # fmt: skip
            if batch:
                self._tell_of_frames(batch.get("path_A", ()))
                held = [batch]
                del batch
                yield held.pop()  # a huge picture is the caller's alone
        if skipped:
            said = f"note: {len(skipped)} pictures could not be used in epoch {epoch}:"
            tqdm.write("\n".join([said, *told(list(skipped.items()))]))

    def _tell_of_frames(self, paths: Sequence[str]) -> None:
        """Say in a test, once, that of several pictures in a file the first is used."""
        for path in paths if self.looks else ():
            frames = frames_of(path)
            if frames > 1:
                self.looks = False
                said = f"note: '{path}' holds {frames} frames: of it, and of others like it, the first is used"
                tqdm.write(printable(said))
                return

    def close(self) -> None:
        """End all workers now, also those that hang on a disk that does not answer; nothing more can be loaded."""
        if self.dataset.check:
            self.dataset.check.stop()
        on_death = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if hasattr(signal, "SIGCHLD") else None
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join(1)
        self.workers.clear()
        self.loader = None  # it would hear of their deaths through torch's handler, which raises
        if on_death is not None:
            signal.signal(signal.SIGCHLD, on_death)


def tries(o: Any) -> int:
    """Return how many pictures are tried for one sample: 1, or with --on_bad_image skip its neighbours too.

    0 leaves a bad one out: a test shows each picture once.
    """
    return (NEIGHBOURS if o.isTrain else 0) if o.on_bad_image == "skip" else 1


class Seeded(Dataset):
    """Another data set's samples by (epoch, index), each drawn with generators seeded for just that sample.

    tries: see tries(); the errors of pictures that could not be used travel in the sample, as SKIPPED.
    Travels to spawned workers together with the plug-ins its data set may come from.
    """

    def __init__(self, dataset: BaseDataset, seed: int, tries: int = 1):
        self.dataset, self.seed, self.tries = dataset, seed, tries

    def __getitem__(self, key: Key) -> Sample | UserError:
        epoch, index = key
        with seeded(mixed(self.seed, epoch, index)):
            try:
                sample, bad = usable(self.dataset, index, max(1, self.tries))
            except UserError as problem:
                return _without_frames(problem)
            except (Exception, SystemExit) as problem:  # one that cannot travel would hang the run
                culprit = attribution.from_worker(problem) if get_worker_info() else None
                if culprit is None:
                    raise
                return culprit
        if isinstance(sample, UserError):  # returned, not raised: a worker would bury it under its own traceback
            _without_frames(sample)
            return {SKIPPED: [sample]} if not self.tries and sample.args[0] == "image" else sample
        return sample | {SKIPPED: [_without_frames(problem) for problem in bad]} if bad else sample

    def __reduce__(self):
        return _revived, (_PluginPaths(), self.dataset, self.seed, self.tries)


def _without_frames(problem: UserError) -> UserError:
    """Return an error that holds no frames, among them those that are going to hold it, the run's lock and all else."""
    each: BaseException | None = problem
    while each is not None:
        each.__traceback__, each = None, each.__cause__ or each.__context__
    return problem


class _PluginPaths:
    """Unpickles by making this process's plug-ins known in the other one, before anything that follows it."""

    def __reduce__(self):
        return discovery.use, (discovery.paths(),)


def _revived(_: None, dataset: BaseDataset, seed: int, tries: int) -> Seeded:
    return Seeded(dataset, seed, tries)


def one_batch(sample: Sample | UserError) -> dict[str, Any]:
    """Return one sample as a batch; raise it if it is the error that kept it from being made."""
    batch = collate([sample])
    try:
        if isinstance(batch, UserError):
            raise batch
        batch.pop(SKIPPED, None)
        return batch
    finally:
        del sample, batch  # else error, traceback and this frame would hold each other, and all frames below


def _quiet_worker(worker: int) -> None:
    """Leave signals that reach the whole process group to the main process, which finishes its step and saves."""
    torch.set_num_threads(1)
    malloc.give_back()
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _once)


def _once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one is the main process ending a worker that hangs
