"""An epoch goes through shards one after another, in an order that (seed, epoch) decides."""

import itertools

import numpy as np
import pytest
import torch

from data.listing import shards as listing
from data.loading.sample_order import EpochBatchSampler, shuffled_shards
from tests.support.data_folders import epoch, load, make, pairs, png, write_tar

SHARDS = np.repeat(np.arange(7), [5, 1, 9, 4, 4, 12, 2])[np.random.default_rng(0).permutation(37)]


def runs(order):
    return [shard for shard, _ in itertools.groupby(SHARDS[order])]


def test_each_shard_is_finished_before_the_next():
    orders = [shuffled_shards(SHARDS, seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    for order in orders:
        assert sorted(order) == list(range(37)) and len(runs(order)) == 7
    assert len({tuple(runs(order)) for order in orders}) == 4  # the order of the shards differs
    inside = [tuple(i for i in order if SHARDS[i] == 5) for order in orders]
    assert len(set(inside)) == 4  # and that within them
    assert shuffled_shards(SHARDS, 1, 2) == orders[3]


def test_skipping_continues_inside_a_shard():
    whole = EpochBatchSampler(37, 4, 0, True, False, SHARDS)
    whole.epoch = 2
    batches = list(whole)
    rest = EpochBatchSampler(37, 4, 0, True, False, SHARDS)
    rest.epoch, rest.skip = 2, 12
    assert list(rest) == batches[3:]


@pytest.mark.parametrize("skip", [0, 8, 20])
def test_the_next_shard_is_announced_before_it_is_needed(skip):
    sampler, announced = EpochBatchSampler(37, 4, 0, True, False, SHARDS), []
    sampler.epoch, sampler.skip, sampler.on_shard = 1, skip, announced.append
    seen = []
    for batch in sampler:
        seen += [int(SHARDS[index]) for _, index in batch]
        reached = [shard for shard, _ in itertools.groupby(seen)]
        assert len(set(reached) - set(announced)) <= 1  # the first one alone was not announced
    order = [shard for shard, _ in itertools.groupby(seen)]
    assert announced == order[1:]


@pytest.mark.parametrize("mode", ["aligned", "unaligned", "labeled", "single"])
def test_data_sets_know_the_shard_of_each_sample(mode, tmp_path, monkeypatch):
    """Also if A and B differ in number, and if classes are interleaved; and resuming gives the remaining batches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "_opened", {})
    for number in range(3):
        keys = range(10 * number, 10 * number + 4)
        members = pairs(*keys) + [(f"more{n}.B.png", png(n)) for n in keys] * (mode == "unaligned")
        if mode in ("labeled", "single"):
            members = [(f"{n}.png", png(n)) for n in keys] + [(f"{n}.cls", b"%d" % (n % 3)) for n in keys]
        write_tar(tmp_path / f"d/{number}.tar", members)
    dataset = make(mode, tmp_path / "d")
    side = "path_B" if mode == "unaligned" else "path_A"
    paths = dataset.paths_B if mode == "unaligned" else None
    numbers = dataset.shard_numbers()
    assert len(numbers) == len(dataset) == (24 if mode == "unaligned" else 12)
    for index in range(len(dataset)):
        path = paths[index] if paths else dataset[index][side]
        key = int("".join(filter(str.isdigit, path.rsplit("/", 1)[1])))
        assert key // 10 == numbers[index]
    whole, rest = epoch(dataset), list(load(dataset, shuffle=True, num_threads=0, batch_size=4).epoch(1, 8))
    assert all(torch.equal(a["A"], b["A"]) for a, b in zip(whole[2:], rest, strict=True))
