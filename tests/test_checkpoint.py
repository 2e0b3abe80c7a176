"""Files of weights and state: a failed write harms nothing; what others wrote is read safely or refused."""

import errno
import os
import pickle
import stat
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, options
from test_train import DEMO, TRAINABLE, rows
from torch import nn

import train
from networks import generator
from util import checkpoint
from util.errors import CheckpointError, EnvironmentFault

FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", "1", "--n_epochs_decay", "0",
       "--max_dataset_size", "2", "--name", "run"]  # fmt: skip


def net():
    """A generator with every kind of key: weights, biases, batch statistics."""
    return generator(options("--model", "pix2pix", "--netG", "resnet_4blocks"), 3, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "latest_net_G.pth"


def refusal(action, *args):
    """The one line with which reading is refused."""
    with pytest.raises(CheckpointError) as refused:
        action(*args)
    text = str(refused.value)
    assert "\n" not in text and "weights_only" not in text
    return text


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
    checkpoint.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()
    monkeypatch.setattr(torch, "save", raising(problem, b"half of it"))
    with pytest.raises(EnvironmentFault) as fault:
        checkpoint.write_atomically(path, {"a": torch.zeros(3)})
    assert str(path) in str(fault.value) and (getattr(problem, "strerror", None) or str(problem)) in str(fault.value)
    assert fault.value.code == 5
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


def test_a_thing_that_cannot_be_saved_leaves_the_old_file_and_no_other(path):
    checkpoint.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()
    with pytest.raises(Exception, match="cannot be saved"):
        checkpoint.write_atomically(path, {"a": _Unsavable()})
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_at_the_last_moment_leaves_the_old_file(path, monkeypatch, step):
    checkpoint.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        checkpoint.write_atomically(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full, a disk that is always full")
def test_a_disk_that_is_really_full(path):
    """The file beside the target lies on a full device."""
    checkpoint.write_atomically(path, {"a": torch.ones(3)})
    old = path.read_bytes()
    path.with_name(path.name + ".tmp").symlink_to("/dev/full")
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        checkpoint.write_atomically(path, {"a": torch.zeros(100_000)})
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


def test_the_file_is_flushed_to_the_disk_before_it_gets_its_name_and_the_folder_after(path, monkeypatch):
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
    checkpoint.write_atomically(path, {"a": torch.ones(3)})
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


def test_no_old_state_goes_before_the_new_one_was_read_back(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint.save_state(tmp_path, {"step": step}, step, 2)
    replace = os.replace

    def damaging(old, new):  # a disk that loses a byte
        replace(old, new)
        raw = bytearray(Path(new).read_bytes())
        raw[len(raw) // 3] ^= 255
        Path(new).write_bytes(raw)

    monkeypatch.setattr(os, "replace", damaging)
    with pytest.raises(EnvironmentFault, match="damaged"):
        checkpoint.save_state(tmp_path, {"step": 3, "t": torch.arange(3000)}, 3, 1)
    assert {1, 2} <= set(checkpoint.state_files(tmp_path))


def test_other_files_are_no_states(tmp_path):
    for name in ("state_5.pt", "state_x.pt", "state_000000001.pt.tmp", "mystate_000000001.pt"):
        (tmp_path / name).touch()
    assert checkpoint.state_files(tmp_path) == {}
    assert checkpoint.load_state(tmp_path) == (None, [])


def test_a_state_of_a_newer_version_is_refused(tmp_path):
    checkpoint.save_state(tmp_path, {"format": checkpoint.FORMAT + 1}, 1, 2)
    text = refusal(checkpoint.load_state, tmp_path)
    assert "newer version" in text and "upgrade" in text


@pytest.mark.parametrize("name", TRAINABLE)
def test_exports_are_plain_tensors_on_the_cpu_that_any_torch_reads(tmp_path, name):
    """An OrderedDict of tensors, as the reference writes; read with nothing but torch."""
    model = train.build(options(*DEMO, "--model", name, "--netG", "resnet_4blocks"))[2]
    checkpoint.export(tmp_path, "7", model.networks())
    for net_name, network in model.networks().items():
        found = torch.load(tmp_path / f"7_net_{net_name}.pth", weights_only=True)
        assert type(found) is OrderedDict
        own = network.state_dict()
        assert list(found) == list(own)
        assert all(torch.equal(found[k], own[k]) and not found[k].requires_grad for k in own)


# --- reading what others wrote


class Canary:
    """Makes a file when it is unpickled by something that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def malicious(path, canary, how):
    """Write a file of weights that would run code, in one of several forms."""
    thing = {"weight": torch.ones(2), "x": Canary(canary)}
    if how == "zip":
        torch.save(thing, path)
    elif how == "legacy":
        torch.save(thing, path, _use_new_zipfile_serialization=False)
    elif how == "plain":
        path.write_bytes(pickle.dumps(Canary(canary)))
    elif how == "in the keys":
        torch.save({("weight", Canary(canary)): torch.ones(2)}, path)
    elif how == "module":
        torch.save(nn.Conv2d(1, 1, 1), path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["zip", "legacy", "plain", "in the keys", "module"])
def test_code_in_a_file_is_never_run(path, tmp_path, how):
    malicious(path, tmp_path / "canary", how)
    text = refusal(checkpoint.weights, path)
    assert str(path) in text and ("Python objects" in text or "safe to read" in text)
    assert not (tmp_path / "canary").exists()


def test_nor_when_the_environment_asks_torch_to_run_it(tmp_path):
    """The variable that turns torch's own protection off, in a fresh process, for test.py and for train.py."""
    folder = tmp_path / "checkpoints" / "bad"
    folder.mkdir(parents=True)
    malicious(folder / "latest_net_G.pth", tmp_path / "canary", "zip")
    malicious(folder / "state_000000001.pt", tmp_path / "canary", "zip")
    torch.load(folder / "latest_net_G.pth", weights_only=False)  # the canary sings when it is let
    (tmp_path / "canary").rmdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import train, test; from util.report import guarded\n"
        "few = ['--gpu_ids', '-1', '--name', 'bad']\n"
        "more = ['--model', 'pix2pix', '--netG', 'unet_32', '--crop_size', '32', '--continue_train']\n"
        "print(guarded(test.main, few), guarded(train.main, few + more))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        check=False, env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["4", "4"], done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 2
    assert not (tmp_path / "canary").exists()


def write_damaged(path, how):
    """Write a file that holds no usable weights."""
    torch.save(net().state_dict(), path)
    whole = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "lfs":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 45\n")
    elif how == "html":
        path.write_bytes(b"<!DOCTYPE html><title>404</title>")
    elif how == "text":
        path.write_bytes(b"these are no weights")
    elif how == "flipped":  # one bit of a tensor
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif how.startswith("cut"):
        path.write_bytes(whole[: {"cut 1": 1, "cut 100": 100, "cut half": len(whole) // 2, "cut -1": -1}[how]])
    else:
        tensors = {
            "list": [torch.ones(2)], "tensor": torch.ones(2), "number": {"weight": 3}, "nothing": {},
            "nested": {"epoch": 3, "loss": 0.5}, "mixed": {"weight": torch.ones(2), "epoch": 3},
            "nan": {"weight": torch.tensor([1.0, float("nan")])}, "inf": {"weight": torch.tensor([float("inf")])},
            "sparse": {"weight": torch.eye(3).to_sparse()}, "csr": {"weight": torch.eye(3).to_sparse_csr()},
            "quantised": {"weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
            "meta": {"weight": torch.empty(3, device="meta")},
            "stretched": {"weight": torch.zeros(1).expand(2**24)},  # a kilobyte that claims to be millions of numbers
        }  # fmt: skip
        torch.save(tensors[how], path)


DAMAGES = {
    "empty": "is empty", "lfs": "Git LFS pointer", "html": "", "text": "", "cut 1": "", "cut 100": "", "cut half": "",
    "cut -1": "", "flipped": "", "list": "holds no state_dict",
    "tensor": "holds no state_dict", "number": "holds no state_dict",
    "nothing": "holds no state_dict", "nested": "holds no state_dict", "mixed": "holds no state_dict",
    "nan": "holds NaN or Inf", "inf": "holds NaN or Inf", "sparse": "no dense tensor", "csr": "no dense tensor",
    "quantised": "no dense tensor", "meta": "no dense tensor", "stretched": "",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_or_foreign_file_is_refused_in_one_line(path, how):
    write_damaged(path, how)
    text = refusal(checkpoint.weights, path)
    assert text.startswith(f"file '{path}': ") and DAMAGES[how] in text and "; " in text


@pytest.mark.parametrize("how", ["empty", "cut half", "nan"])
def test_test_py_refuses_them_with_exit_code_4(command, tmp_path, how):
    folder = tmp_path / "checkpoints" / "bad"
    folder.mkdir(parents=True)
    write_damaged(folder / "latest_net_G.pth", how)
    ended = command("test", "--gpu_ids", -1, "--name", "bad")
    assert ended.code == 4
    assert ended.last.startswith("error: file 'checkpoints/bad/latest_net_G.pth'")
    assert ended.err.count("\n") == 1


def test_a_path_that_is_no_file(tmp_path):
    assert "No such file" in refusal(checkpoint.weights, tmp_path / "absent.pth")
    assert "directory" in refusal(checkpoint.weights, tmp_path)


@pytest.mark.parametrize("wrap", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_wrapped_and_old_files_load(path, wrap, legacy):
    source = net()
    torch.save(OrderedDict((wrap + k, v) for k, v in source.state_dict().items()), path,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    target = net()
    checkpoint.fit(target, checkpoint.weights(path), path)
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["state_dict", "model", "generator", "G"])
def test_a_state_dict_inside_a_checkpoint_is_found(path, name):
    source = net()
    torch.save({"epoch": 3, name: source.state_dict()}, path)
    assert checkpoint.weights(path).keys() == source.state_dict().keys()


# --- fitting weights into networks


def tiny():
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.InstanceNorm2d(3))


def changed(**changes):
    """The weights of another such network, with keys changed (a tensor), removed (None) or added."""
    state = tiny().state_dict() | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "key", "have", "want"),
    [
        ({"0__weight": torch.ones(4, 2, 1, 1)}, "0.weight", "4x2x1x1", "3x2x1x1"),
        ({"0__bias": None}, "0.bias", "absent", "3"),
        ({"5__weight": torch.ones(2, 7)}, "5.weight", "2x7", "absent"),
        ({"1__running_var": None}, "1.running_var", "absent", "3"),
        ({"0__weight": torch.ones(1, 2, 1, 1), "0__bias": None}, "0.weight", "1x2x1x1", "3x2x1x1"),
        ({"1__num_batches_tracked": torch.ones(2)}, "1.num_batches_tracked", "2", "one number"),
    ],
)
def test_weights_that_do_not_fit_name_the_first_key_and_both_shapes(path, changes, key, have, want):
    target = tiny()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    text = refusal(checkpoint.fit, target, changed(**changes), path)
    assert f"'{key}' is {have} in the file and {want} in the network" in text
    assert str(path) in text and text.endswith("; check --netG, --ngf, --norm and --no_dropout")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())
    assert refusal(checkpoint.fit, target, changed(**changes), path, "leave out --ngf").endswith("; leave out --ngf")


def test_old_quirks_of_norms_are_no_difference(path):
    """Old files count no batches, and hold statistics of instance norms that have none."""
    state = changed(**{"0__weight": torch.full((3, 2, 1, 1), 7.0), "1__num_batches_tracked": None,
                       "2__running_mean": torch.ones(3), "2__running_var": torch.ones(3),
                       "2__num_batches_tracked": torch.tensor(9)})  # fmt: skip
    target = tiny()
    checkpoint.fit(target, state, path)
    assert torch.equal(target[0].weight, state["0.weight"])
    assert target[1].num_batches_tracked == 0
    assert "2.running_mean" in state  # the caller's weights stay as they were


def test_the_metadata_of_old_files_does_not_matter(path):
    """torch refuses a batch norm without a count if the file says it is of a version that has one."""
    source = tiny()
    state = source.state_dict()
    del state["1.num_batches_tracked"]
    assert state._metadata["1"]["version"] >= 2
    torch.save(state, path)
    checkpoint.fit(tiny(), checkpoint.weights(path), path)


def test_a_missing_file_is_answered_with_those_there(tmp_path):
    for name in ("latest_net_G.pth", "5_net_G.pth", "iter_400_net_G.pth", "latest_net_D.pth"):
        torch.save({}, tmp_path / name)
    text = refusal(checkpoint.load_networks, tmp_path, "7", {"G": net()})
    assert "7_net_G.pth" in text and "5_net_G.pth, iter_400_net_G.pth, latest_net_G.pth" in text
    assert "net_D" not in text and "--epoch or --load_iter" in text
    text = refusal(checkpoint.load_networks, tmp_path, "latest", {"G_A": net()})
    assert "latest_net_G_A.pth" in text and "latest_net_D.pth" in text and "--model" in text
    text = refusal(checkpoint.load_networks, tmp_path / "none", "latest", {"G": net()})
    assert "no such folder" in text and "--name" in text
    (tmp_path / "bare").mkdir()
    assert "no .pth files" in refusal(checkpoint.load_networks, tmp_path / "bare", "latest", {"G": net()})
