"""Define the order of an epoch's samples, a pure function of (seed, epoch)."""

import random
from collections.abc import Iterator

import torch

from util.seeding import mix_seed

SampleKey = tuple[int, int]  # (epoch, index)


class EpochBatchSampler(torch.utils.data.Sampler[list[SampleKey]]):
    """Yields the batches of one epoch as lists of (epoch, index), without its first `skip` samples."""

    def __init__(self, length: int, batch_size: int, seed: int, shuffle: bool, drop_last: bool):
        self.length, self.batch_size, self.seed = length, batch_size, seed
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
        if self.shuffle:
            random.Random(mix_seed(self.seed, self.epoch, -1)).shuffle(indices)
        if self.drop_last:
            indices = indices[: self.num_images()]
        for start in range(self.skip, len(indices), self.batch_size):
            yield [(self.epoch, index) for index in indices[start : start + self.batch_size]]
