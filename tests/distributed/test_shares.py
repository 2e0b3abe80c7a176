"""Which samples of an epoch belong to which process, and which devices start one, without any process."""

import numpy as np
import pytest

from cli.launch import listed_devices, start_processes
from data.loading.sample_order import EpochBatchSampler
from util.errors import UserError
from util.ranks import Share


def epoch(length, batch_size, processes, rank, parts=1, skip=0, shards=None, on_shard=None):
    sampler = EpochBatchSampler(length, batch_size, 3, True, False, shards, parts)
    sampler.on_shard = on_shard
    sampler.processes, sampler.rank, sampler.epoch, sampler.skip = processes, rank, 2, skip
    return [[index for _, index in keys] for keys in sampler], list(sampler.shares())


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 13, 24])
@pytest.mark.parametrize("in_shards", [False, True])
def test_the_processes_share_the_batches_of_one(length, processes, in_shards):
    """Every sample once, in consecutive parts of at most a process's batch, also of the last, smaller batch."""
    shards = np.arange(length) * 7 % 5 if in_shards else None
    whole, _ = epoch(length, 2 * processes, 1, 0, shards=shards)
    each = [epoch(length, 2, processes, rank, shards=shards) for rank in range(processes)]
    assert sorted(index for batch in whole for index in batch) == list(range(length))
    for number, batch in enumerate(whole):
        own = [batches[number][: shares[number].count] for batches, shares in each]
        assert [index for part in own for index in part] == batch
        assert all(1 <= len(batches[number]) <= 2 for batches, _ in each), "a stand-in where there is none"
        assert {shares[number].counts for _, shares in each} == {tuple(map(len, own))}
        assert [shares[number].start for _, shares in each] == [sum(map(len, own[:r])) for r in range(processes)]
    assert epoch(length, 2, processes, 1, skip=2 * processes, shards=shards)[0] == each[1][0][1:]


def test_all_processes_announce_the_next_shard_together():
    """Each is downloaded ahead wherever it will be read, from the place where the run continues."""
    shards, events = np.repeat(np.arange(6), 5), []
    for processes, rank in ((1, 0), (3, 0), (3, 2)):
        seen = []
        for skip in (0, 12):
            batches, _ = epoch(30, 6 // processes, processes, rank, skip=skip, shards=shards, on_shard=seen.append)
        events.append(seen)
        assert {int(shards[index]) for batch in batches for index in batch} <= {int(shards[batches[0][0]]), *seen}
    assert events[0] == events[1] == events[2] and len(set(events[0])) == 5


def test_the_parts_of_accumulate_are_shared_too():
    """The n-th part of all processes together is the n-th part of one process's batch."""
    (whole,), _ = epoch(8, 8, 1, 0, parts=2)
    first, second = (epoch(8, 4, 2, rank, parts=2)[0][0] for rank in (0, 1))
    assert first[:2] + second[:2] == whole[:4] and first[2:] + second[2:] == whole[4:]
    share = Share((4, 4), 1)
    assert [share.part(n, 2).counts for n in (0, 1)] == [(2, 2), (2, 2)] and share.part(1, 2).start == 2


@pytest.mark.parametrize(("argv", "devices"), [
    (["--gpu_ids", "0,1"], ["0", "1"]), (["--gpu_ids=-1,-1"], ["-1", "-1"]), (["--gpu_ids", "0"], []), ([], []),
    (["--gpu_ids", "0,1", "--gpu_ids", "2"], []),
])  # fmt: skip
def test_several_devices_start_processes(monkeypatch, argv, devices):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert listed_devices(argv) == devices
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert listed_devices(argv) == []


@pytest.mark.parametrize(("devices", "words"), [
    (["0", "1"], "option '--gpu_ids': there is no GPU 0 here (no CUDA device); use --gpu_ids -1 for the CPU"),
    (["mps", "mps"], "option '--gpu_ids': MPS does not work with several processes; name one device"),
])  # fmt: skip
def test_devices_that_are_not_there_are_named(monkeypatch, devices, words):
    """Before any process starts."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError) as refused:
        start_processes("train", ["--gpu_ids", ",".join(devices)], devices, None)
    assert str(refused.value) == words
