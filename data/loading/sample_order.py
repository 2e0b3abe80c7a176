"""Define the order of an epoch's samples, a pure function of (seed, epoch)."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch

from util.seeding import mix_seed

SampleKey = tuple[int, int]  # (epoch, index)


def shuffled_shards(shards: np.ndarray, seed: int, epoch: int, rank: int = 0, ranks: int = 1) -> list[int]:
    """Return the samples of one of `ranks` processes in an epoch: shard after shard in random order, shuffled in each.

    shards: (N,) the number of each sample's shard. The processes share all samples, each once, and their numbers differ
    by at most 1. Each has shards of its own; at most ranks - 1 shards are divided between two or more.
    """
    random = np.random.default_rng(mix_seed(seed, epoch, -1))
    order = random.permutation(len(shards))  # the order within the shards
    position = random.permutation(int(shards.max()) + 1 if len(shards) else 0)  # of each shard
    order = order[np.argsort(position[shards[order]], kind="stable")]
    return order[len(order) * rank // ranks : len(order) * (rank + 1) // ranks].tolist()


class EpochBatchSampler(torch.utils.data.Sampler[list[SampleKey]]):
    """Yields the batches of one epoch as lists of (epoch, index), without its first `skip` samples.

    shards: (N,) the number of each sample's shard, by which they are shuffled; None: all samples together. on_shard: is
    called with the number of the next shard when the first batch of one is yielded.
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
    ):
        self.length, self.batch_size, self.seed, self.shards = length, batch_size, seed, shards
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def num_images(self) -> int:
        """Return the number of images in a whole epoch."""
        return len(self) * self.batch_size if self.drop_last else self.length

    def __iter__(self) -> Iterator[list[SampleKey]]:
        indices = list(range(self.length))
        if self.shuffle and self.shards is not None:
            indices = shuffled_shards(self.shards, self.seed, self.epoch)
        elif self.shuffle:
            random.Random(mix_seed(self.seed, self.epoch, -1)).shuffle(indices)
        if self.drop_last:
            indices = indices[: self.num_images()]
        ahead = self._next_shards(indices)
        for start in range(self.skip, len(indices), self.batch_size):
            while ahead and ahead[0][0] <= start:
                _, shard = ahead.popleft()
                if self.on_shard:
                    self.on_shard(shard)
            yield [(self.epoch, index) for index in indices[start : start + self.batch_size]]

    def _next_shards(self, indices: list[int]) -> deque[tuple[int, int]]:
        """Return (position, shard): where the samples of a shard begin, and the number of the shard after it."""
        if not self.shuffle or self.shards is None or not indices:
            return deque()
        numbers = self.shards[np.array(indices)]
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist()]
        following = [(now, int(numbers[then])) for now, then in pairwise(starts) if then > self.skip]
        return deque(following)
