"""Define the order of an epoch's samples, a pure function of (seed, epoch)."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch

from util.ranks import Share, rank, world_size
from util.seeding import mix_seed

SampleKey = tuple[int, int]  # (epoch, index)


def shuffled_shards(shards: np.ndarray, seed: int, epoch: int) -> list[int]:
    """Return the samples of an epoch: shard after shard in random order, shuffled in each.

    shards: (N,) the number of each sample's shard.
    """
    random = np.random.default_rng(mix_seed(seed, epoch, -1))
    order = random.permutation(len(shards))  # the order within the shards
    position = random.permutation(int(shards.max()) + 1 if len(shards) else 0)  # of each shard
    return order[np.argsort(position[shards[order]], kind="stable")].tolist()


class EpochBatchSampler(torch.utils.data.Sampler[list[SampleKey]]):
    """Yields the batches of one epoch as lists of (epoch, index), without its first `skip` samples.

    Of several processes that train, each yields its share of batches that are as many times as large: together they see
    the batches of one process with the whole size. `parts`: --accumulate; each part of a batch is shared, so that the
    parts too are those of one process. A process without a sample of a last, small batch yields its first one.

    every: (r, n) for the batches r, r + n, r + 2 n, ... alone. shards: (N,) the number of each sample's shard, by which
    they are shuffled; None: all samples together. on_shard: is called with the number of the next shard when the first
    batch of one is yielded.
    """

    on_shard: Callable[[int], object] | None = None

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        shards: np.ndarray | None = None,
        parts: int = 1,
        is_shared: bool = False,
    ):
        self.length, self.batch_size, self.seed, self.shards = length, batch_size, seed, shards
        self.shuffle, self.drop_last, self.parts = shuffle, drop_last, parts
        self.epoch = self.skip = 0
        self.processes, self.rank = (world_size(), rank()) if is_shared else (1, 0)
        self.every = 0, 1

    @property
    def global_size(self) -> int:
        """The number of images of a batch of all processes."""
        return self.batch_size * self.processes

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return self.length // self.global_size if self.drop_last else -(-self.length // self.global_size)

    def num_images(self) -> int:
        """Return the number of images in a whole epoch."""
        return len(self) * self.global_size if self.drop_last else self.length

    def shares(self) -> Iterator[Share | None]:
        """Yield for each batch of the epoch what belongs to which process; None in one process."""
        for start in range(self.skip, self.num_images(), self.global_size):
            each = self._slices(min(self.global_size, self.num_images() - start))
            counts = tuple(sum(map(len, slices)) for slices in each)
            yield Share(counts, self.rank) if self.processes > 1 else None

    def _slices(self, total: int) -> list[list[range]]:
        """Return for each process its places in a batch of all: a range for each of its parts."""
        ends = [total * n // self.parts for n in range(self.parts + 1)]
        return [
            [
                range(a + (b - a) * r // self.processes, a + (b - a) * (r + 1) // self.processes)
                for a, b in pairwise(ends)
            ]
            for r in range(self.processes)
        ]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        indices = list(range(self.length))
        if self.shuffle and self.shards is not None:
            indices = shuffled_shards(self.shards, self.seed, self.epoch)
        elif self.shuffle:
            random.Random(mix_seed(self.seed, self.epoch, -1)).shuffle(indices)
        if self.drop_last:
            indices = indices[: self.num_images()]
        ahead = self._next_shards(indices)
        first, step = self.every
        starts = range(self.skip + first * self.global_size, len(indices), step * self.global_size)
        for start in starts:
            while ahead and ahead[0][0] <= start:
                _, shard = ahead.popleft()
                if self.on_shard:
                    self.on_shard(shard)
            batch = indices[start : start + self.global_size]
            if self.processes > 1:
                batch = [batch[i] for places in self._slices(len(batch))[self.rank] for i in places] or batch[:1]
            yield [(self.epoch, index) for index in batch]

    def _next_shards(self, indices: list[int]) -> deque[tuple[int, int]]:
        """Return (position, shard): where the samples of a shard begin, and the number of the shard after it."""
        if not self.shuffle or self.shards is None or not indices:
            return deque()
        numbers = self.shards[np.array(indices)]
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
        following = [(now, int(numbers[then])) for now, then in pairwise(starts) if then > self.skip]
        return deque(following)
