"""A failed write damages no weights or state, and exported weights can be read by other programs."""

import errno
import os
import stat
from collections import OrderedDict

import pytest
import torch

from serialization import atomic_save, checkpoint, weight_files
from tests.support.runs import SMALL, options
from tests.support.small_models import own_networks
from tests.support.training_runs import DEMO, TRAINABLE, build, rows
from util.errors import EnvironmentFault

FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", "1", "--n_epochs_decay", "0",
       "--max_dataset_size", "2", "--name", "run"]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "latest_net_G.pth"


# --- writing


class _Unsavable:
    def __reduce__(self):
        raise TypeError("this cannot be saved")


def raising(problem, after=b""):
    """A torch.save that writes a little, then fails."""

    def save(thing, file):
        file.write(after)
        raise problem

    return save


@pytest.mark.parametrize(
    "problem",
    [RuntimeError("unexpected pos 704 vs 598"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
     OSError(errno.EIO, os.strerror(errno.EIO))],
    ids=["torch", "full", "broken"],
)  # fmt: skip
def test_a_write_that_fails_leaves_the_old_file_and_no_other(path, monkeypatch, problem):
    atomic_save.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()
    monkeypatch.setattr(torch, "save", raising(problem, b"half of it"))
    with pytest.raises(EnvironmentFault) as fault:
        atomic_save.write_atomically(path, {"a": torch.zeros(3)})
    assert str(path) in str(fault.value) and (getattr(problem, "strerror", None) or str(problem)) in str(fault.value)
    assert fault.value.code == 5
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


def test_an_unsavable_object_leaves_the_old_file_alone(path):
    atomic_save.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()
    with pytest.raises(Exception, match="cannot be saved"):
        atomic_save.write_atomically(path, {"a": _Unsavable()})
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_at_the_last_moment_leaves_the_old_file(path, monkeypatch, step):
    atomic_save.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        atomic_save.write_atomically(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


def test_flush_precedes_the_rename_and_the_folders_follows(path, monkeypatch):
    happened = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle):
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def watched_replace(old, new):
        happened.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    atomic_save.write_atomically(path, {"a": torch.ones(3)})
    assert happened == ["file", "rename", "folder"]
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))


def test_a_full_disk_ends_training_with_code_5_and_one_line(command, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = command("train", *FEW)
    assert ended.code == 5
    assert ended.last.startswith("error: file 'checkpoints/run/state_000000002.pt'")
    assert "No space left on device" in ended.last and "free space" in ended.last
    assert ended.err.count("error:") == 1 and "Traceback" not in ended.err
    folder = tmp_path / "checkpoints" / "run"
    assert not [p for p in folder.iterdir() if p.suffix in (".tmp", ".pt", ".pth")]
    assert "No space left" in (folder / "error.log").read_text()
    ended = command("train", *FEW)  # once there is space, the same command does it
    assert ended.code == 0, ended.err


def test_a_full_disk_in_mid_run_keeps_what_was_saved(command, tmp_path, monkeypatch):
    """The first epoch is saved; the second cannot be; continued, the run is whole."""
    folder, calls = tmp_path / "checkpoints" / "run", []
    fsync = os.fsync

    def full_later(handle):
        calls.append(handle)
        if len(calls) > 10:  # state, two networks as latest and as 1: each a file and a folder
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_later)
        ended = command("train", *FEW, "--n_epochs", 2, "--save_epoch_freq", 1)
    assert ended.code == 5
    assert [p.name for p in folder.glob("state_*")] == ["state_000000002.pt"]
    assert {p.name for p in folder.glob("*.pth")} == {f"{x}_net_{n}.pth" for x in ("latest", "1") for n in "GD"}
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    assert "continuing at epoch 2" in ended.out
    assert [row["epoch"] for row in rows(folder)[1]] == [1, 2]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_states_are_kept(tmp_path, keep):
    for step in (5, 10, 15, 20):
        checkpoint.save_state(tmp_path, {"step": step}, step, keep)
    assert sorted(checkpoint.state_files(tmp_path)) == [5, 10, 15, 20][-keep:]
    assert checkpoint.load_state(tmp_path)[0]["step"] == 20


def test_a_new_state_is_never_the_one_that_goes(tmp_path):
    """A folder that was used before may hold higher numbers."""
    for step in (90, 100):
        checkpoint.save_state(tmp_path, {"step": step}, step, 2)
    checkpoint.save_state(tmp_path, {"step": 5}, 5, 2)
    assert 5 in checkpoint.state_files(tmp_path)


def test_other_files_are_no_states(tmp_path):
    for name in ("state_5.pt", "state_x.pt", "state_000000001.pt.tmp", "mystate_000000001.pt"):
        (tmp_path / name).touch()
    assert checkpoint.state_files(tmp_path) == {}
    assert checkpoint.load_state(tmp_path) == (None, [])


@pytest.mark.parametrize("name", TRAINABLE)
def test_exports_are_plain_cpu_tensors_that_any_torch_reads(tmp_path, name):
    """An OrderedDict of tensors, as the reference writes; read with nothing but torch."""
    _, model = build(options(*DEMO, "--model", name, "--netG", "resnet_4blocks", *own_networks(name)))
    weight_files.save_networks(tmp_path, "7", model.networks())
    for net_name, network in model.networks().items():
        found = torch.load(tmp_path / f"7_net_{net_name}.pth", weights_only=True)
        assert type(found) is OrderedDict
        own = network.state_dict()
        assert list(found) == list(own)
        assert all(torch.equal(found[k], own[k]) and not found[k].requires_grad for k in own)
