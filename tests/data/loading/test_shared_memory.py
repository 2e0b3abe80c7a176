"""Batches arrive from workers unchanged, by every transport."""

import multiprocessing
import os
import pickle

import pytest
import torch

from data.loading.loader import Loader
from data.loading.shared_memory import MAX_BATCHES_PER_MESSAGE, BatchGroupSampler, SharedBatch, SharedBatchBuffer
from registry.lookup import find
from tests.support.images import picture
from tests.support.runs import options
from util.errors import DataError

BATCH = {"A": torch.rand(2, 3, 5, 7), "label": torch.tensor([3, 9]), "path_A": ["x", "y"], "none": torch.empty(2, 0)}


def equal(one, other):
    return list(one) == list(other) and all(
        torch.equal(value, other[key]) if torch.is_tensor(value) else value == other[key] for key, value in one.items()
    )


def as_worker(monkeypatch, number):
    class Info:
        id = number

    monkeypatch.setattr("data.loading.shared_memory.get_worker_info", lambda: Info)


def test_a_batch_is_read_as_it_was_written(monkeypatch):
    buffer = SharedBatchBuffer(2, BATCH)
    as_worker(monkeypatch, 1)
    for _ in range(2 * buffer.slots_per_worker + 1):
        batch = BATCH | {"A": torch.rand(2, 3, 5, 7)}
        sent = buffer.write(batch)
        assert isinstance(sent, SharedBatch)
        assert len(pickle.dumps(sent)) < 1000, "no pixels travel"
        assert equal(buffer.read(sent), batch)


def test_batches_that_wait_do_not_touch_each_other(monkeypatch):
    """DataLoader limits the batches that wait for each worker; a batch in use stays when its slot is filled again."""
    buffer, sent, batches = SharedBatchBuffer(3, BATCH), [], []
    for number in range(3):
        as_worker(monkeypatch, number)
        buffer.written = 0
        for _ in range(buffer.slots_per_worker):
            batches.append(BATCH | {"A": torch.rand(2, 3, 5, 7)})
            sent.append(buffer.write(batches[-1]))
    taken = [buffer.read(one) for one in sent]
    buffer.write(BATCH)
    assert all(equal(one, other) for one, other in zip(taken, batches, strict=True))


def test_other_batches_pass_outside_the_shared_memory(monkeypatch):
    buffer = SharedBatchBuffer(1, BATCH)
    assert buffer.write(BATCH) is BATCH
    as_worker(monkeypatch, 0)
    larger = BATCH | {"B": torch.rand(9, 9)}
    assert buffer.write(larger) is larger
    assert buffer.read(larger) is larger
    assert SharedBatchBuffer(0, {}).write(BATCH) is BATCH
    assert pickle.loads(pickle.dumps(buffer)).write(BATCH) is BATCH, "another process cannot have this memory"  # noqa: S301


@pytest.mark.parametrize("sizes", [(40, 40), (40, 44, 36, 48)], ids=["of one size", "of several"])
@pytest.mark.parametrize("cache", ["off", "ram"])
def test_batches_of_workers_are_those_of_the_main_process(sizes, cache, tmp_path):
    """Also where pictures are larger than the first one, and after an epoch that was left in its midst."""
    for number in range(16):
        picture(number, sizes[number % len(sizes)], sizes[number % len(sizes)]).save(tmp_path / f"{number}.png")
    flags = ("--dataroot", str(tmp_path), "--dataset_mode", "single", "--preprocess", "none", "--cache", cache)
    made = {}
    for workers in (0, 2):
        o = options(*flags, "--num_threads", str(workers))
        dataset = find("dataset", "single")(o)
        dataset.spec()
        loader = Loader(dataset, o, shuffle=True)
        loader.example_batch()
        try:
            for _ in zip(range(3), loader.epoch(1), strict=False):
                pass  # left in its midst
            made[workers] = [batch for epoch in (2, 3) for batch in loader.epoch(epoch)]
        finally:
            loader.close()
    assert (loader.group_sampler.max_batches > 1) == (cache == "ram")
    assert len(made[0]) == 32
    assert all(equal(one, other) for one, other in zip(made[0], made[2], strict=True))


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="workers are not forked here")
def test_workers_write_their_batches_to_shared_memory(tmp_path, monkeypatch):
    """And nothing of it has a name that could stay behind."""
    for number in range(6):
        picture(number).save(tmp_path / f"{number}.png")
    o = options("--dataroot", str(tmp_path), "--dataset_mode", "single", "--num_threads", "2")
    dataset = find("dataset", "single")(o)
    dataset.spec()
    before = set(os.listdir("/dev/shm"))
    loader = Loader(dataset, o, shuffle=False)
    loader.example_batch()
    taken = []
    usual = loader.collator.buffer.read
    monkeypatch.setattr(loader.collator.buffer, "read", lambda sent: taken.append(sent) or usual(sent))
    try:
        assert len(list(loader.epoch(1))) == 6
        assert all(isinstance(sent, SharedBatch) for sent in taken)
        assert {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("torch")} == set()
    finally:
        loader.close()


@pytest.mark.parametrize(
    ("pixels", "most"), [(8, MAX_BATCHES_PER_MESSAGE), (256 * 256, MAX_BATCHES_PER_MESSAGE), (1024 * 1024, 1)]
)
def test_batch_groups_are_bounded_in_number_and_bytes(pixels, most):
    batch = {"A": torch.empty(1, 3, pixels), "path_A": ["x"]}
    assert SharedBatchBuffer(2, batch, fast=True).batches_per_message == (
        most if multiprocessing.get_start_method() == "fork" else 1
    )
    assert (
        SharedBatchBuffer(2, batch).batches_per_message
        == SharedBatchBuffer(0, batch, fast=True).batches_per_message
        == 1
    )


def test_batch_groups_keep_the_order_of_keys_and_grow_from_one():
    batches = [[(1, 2 * n), (1, 2 * n + 1)] for n in range(30)]
    sampler = BatchGroupSampler(batches, workers=2)
    assert list(sampler) == batches, "until it is known how large they are"
    sampler.max_batches = 4
    made = list(sampler)
    assert [len(keys) // 2 for keys in made] == [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 2]
    assert [key for keys in made for key in keys] == [key for keys in batches for key in keys]


def test_an_error_in_a_batch_group_follows_the_batches_before_it(tmp_path):
    """As without workers: training gets every batch that could be made."""
    for number in range(40):
        picture(number).save(tmp_path / f"{number:02d}.png")
    o = options("--dataroot", str(tmp_path), "--dataset_mode", "single", "--num_threads", "2", "--cache", "ram")
    dataset = find("dataset", "single")(o)
    dataset.spec()
    loader = Loader(dataset, o, shuffle=False)
    loader.example_batch()
    (tmp_path / "33.png").write_bytes(b"no picture")
    seen = []
    try:
        with pytest.raises(DataError, match=r"33\.png"):
            seen.extend(batch["path_A"][0][-6:] for batch in loader.epoch(1))
    finally:
        loader.close()
    assert seen == [f"{number:02d}.png" for number in range(33)]
