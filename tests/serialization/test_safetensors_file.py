"""A .safetensors file is read wherever a .pth is, with the same checks; damaged and hostile ones give one line."""

import errno
import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from torch import nn

from serialization import safetensors_file, weight_exports, weight_files
from serialization.init_from import init_from
from serialization.safe_load import load_file
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO
from util.errors import CheckpointError, EnvironmentFault, OptionError, UserError

FEW = [*SMALL, *DEMO, "--n_epochs", "1", "--n_epochs_decay", "0", "--max_dataset_size", "2", "--name", "run"]
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NAN = struct.pack("<2f", 1, float("nan"))


def file_of(header, data=bytes(8), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HOSTILE = {  # what: (content, part of the line)
    "huge header": (file_of({"w": F32}, length=10**9), "has a header of 1000000000 bytes, far more"),
    "header beyond the file": (file_of({"w": F32}, length=10**6), "is cut short"),
    "cut": (file_of({"w": F32})[:-1], "is cut short: 7 of 8 bytes"),
    "cut in the header": (file_of({"w": F32})[:30], "is cut short"),
    "overlap": (file_of({"v": F32, "w": F32}), "its 'w' overlaps another tensor"),
    "gap": (file_of({"w": F32 | {"data_offsets": [4, 12]}}, bytes(12)), "its 'w' leaves a gap"),
    "more data": (file_of({"w": F32}, bytes(9)), "has data after its tensors"),
    "unknown dtype": (file_of({"w": F32 | {"dtype": "F8_E4M3"}}), "numbers of the kind F8_E4M3"),
    "wrong dtype": (file_of({"w": F32 | {"dtype": "F64"}}), "another number of bytes than its shape"),
    "dtype of no text": (file_of({"w": F32 | {"dtype": [1]}}), "numbers of the kind"),
    "negative": (file_of({"w": F32 | {"shape": [-2]}}), "impossible shape"),
    "huge shape": (file_of({"w": F32 | {"shape": [2**62, 2**62]}}), "impossible shape"),
    "huge product": (file_of({"w": F32 | {"shape": [2**40] * 9}}), "another number of bytes"),
    "offsets": (file_of({"w": F32 | {"data_offsets": [8, 0]}}), "another number of bytes"),
    "entry": (file_of({"w": [1]}), "has no dtype, shape and data_offsets"),
    "twice": (file_of(json.dumps({"w": F32}).encode()[:-1] + b"," + json.dumps({"w": F32}).encode()[1:]), "twice"),
    "no JSON": (file_of(b'{"w":'), "its header is no JSON"),
    "nested": (file_of(b'{"w":' * 100_000), "its header is no JSON"),
    "no texts": (file_of({"__metadata__": {"a": 1}, "w": F32}), "its metadata are no texts"),
    "NaN": (file_of({"w": F32}, NAN), "its 'w' holds NaN or Inf"),
    "nothing": (file_of({}, b""), "does not hold a state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_give_one_line(what, tmp_path):
    content, said = HOSTILE[what]
    path = tmp_path / "latest_net_G.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        weight_files.load_weights(path)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_tensors_come_back_with_their_kinds(tmp_path, name):
    state = {"a": torch.randn(3, 2), "b": torch.tensor(7), "c": torch.ones(2, dtype=torch.bfloat16), "d": torch.ones(0)}
    state |= {"shared": state["a"][0], "turned": state["a"].T}
    with open(tmp_path / name, "wb") as file:
        safetensors_file.write_tensors(state, file, {"network": "G"})
    loaded = load_file(tmp_path / name)
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[k], v) for k, v in state.items())
    assert all(loaded[k].dtype == v.dtype for k, v in state.items())
    assert safetensors_file.read_architecture(tmp_path / name) == {"network": "G"}


@pytest.fixture
def undeletable(monkeypatch):
    """No file can be removed; return the names of those that were to be."""
    asked = []

    def refused(path, missing_ok=False):
        asked.append(path.name)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "unlink", refused)
    return asked


def test_older_weights_that_cannot_be_removed_are_an_error(tmp_path, undeletable):
    """Only those that are there: a disk that removes nothing still takes the first weights."""
    weight_files.save_networks(tmp_path, "latest", {"G": nn.Linear(2, 2)})
    assert undeletable == []
    with pytest.raises(EnvironmentFault, match=r"latest_net_G\.pth': cannot be removed \(Input/output error\)"):
        weight_files.save_networks(tmp_path, "latest", {"G": nn.Linear(2, 2)}, ".safetensors")


def test_old_epochs_that_cannot_be_removed_are_a_note(tmp_path, undeletable, capsys):
    nets = {"G": nn.Linear(2, 2)}
    for epoch in ("1", "2", "3"):
        weight_files.save_networks(tmp_path, epoch, nets)
    weight_exports.remove_old_epochs(tmp_path, nets, 1)
    assert sorted(undeletable) == ["1_net_G.pth", "2_net_G.pth"]
    assert capsys.readouterr().out.count("cannot be removed (Input/output error); it can be deleted by hand") == 2


def lines(tmp_path, suffix, other):
    """Return the line with which weights of another network are refused."""
    weight_files.save_networks(tmp_path, "latest", {"G": nn.Conv2d(3, 4, 3)}, suffix)
    with pytest.raises(UserError) as refused:
        weight_exports.load(tmp_path, "latest", {"G": other})
    (tmp_path / f"latest_net_G{suffix}").unlink()
    return str(refused.value).replace(suffix, "")


@pytest.mark.parametrize("other", [nn.Conv2d(3, 5, 3), nn.Conv2d(3, 4, 3, bias=False), nn.Linear(2, 2)])
def test_the_checks_of_names_and_shapes_are_those_of_a_pth(tmp_path, other):
    assert lines(tmp_path, ".safetensors", other) == lines(tmp_path, ".pth", other)


def test_a_pth_wins_with_one_note_if_they_differ(tmp_path, capsys):
    nets = {"G_A": nn.Linear(2, 2), "G_B": nn.Linear(2, 2)}
    weight_files.save_networks(tmp_path / "", "latest", nets, ".safetensors")
    for net in nets:
        shutil.copyfile(tmp_path / f"latest_net_{net}.safetensors", tmp_path / f"{net}.kept")
    weight_files.save_networks(tmp_path, "latest", nets)  # removes the older files of the other format
    assert not list(tmp_path.glob("*.safetensors"))
    for net in nets:
        (tmp_path / f"{net}.kept").rename(tmp_path / f"latest_net_{net}.safetensors")
    weight_exports.load(tmp_path, "latest", {net: nn.Linear(2, 2) for net in nets})
    assert capsys.readouterr().out == ""
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "latest_net_G_A.pth")
    read = {net: nn.Linear(2, 2) for net in nets}
    weight_exports.load(tmp_path, "latest", read)
    note = "note: latest_net_G_A.safetensors holds other weights than the .pth of that name, which is read\n"
    assert capsys.readouterr().out == note and bool((read["G_A"].weight == 1).all())
    init_from(str(tmp_path), read, ".")
    assert capsys.readouterr().out == note


def test_a_run_in_safetensors_is_tested_and_shared(command, tmp_path):
    """Its files alone, in another folder, name their architecture; nothing in them names a path."""
    flags = ["--model", "pix2pix", "--netG", "unet_32", "--norm", "instance", "--export_format", "safetensors"]
    assert command("train", *FEW, *flags).code == 0
    run, shared = tmp_path / "checkpoints" / "run", tmp_path / "checkpoints" / "shared"
    assert not list(run.glob("*.pth"))
    shared.mkdir()
    shutil.copy(run / "latest_net_G.safetensors", shared)
    about = safetensors_file.read_architecture(shared / "latest_net_G.safetensors")
    assert about["network"] == "G" and about["options"]["netG"] == "unet_32" and about["spec"]["width"] == 32
    assert not {"dataroot", "plugin", "name", "checkpoints_dir"} & about["options"].keys()
    for name in ("run", "shared"):
        assert command("test", "--name", name, "--num_test", 1, "--gpu_ids", "-1").code == 0
    images = [tmp_path / f"results/{name}/test_latest/images/0000_fake_B.png" for name in ("run", "shared")]
    assert images[0].read_bytes() == images[1].read_bytes()
    ended = command("train", *FEW, *flags, "--continue_train", "--n_epochs", 2, "--export_format", "pth")
    assert ended.code == 0 and list(run.glob("*.pth")) and not list(run.glob("*.safetensors"))


def test_metadata_cannot_name_files_to_run(command, tmp_path):
    folder = tmp_path / "checkpoints" / "theirs"
    folder.mkdir(parents=True)
    (tmp_path / "evil.py").write_text("open('ran', 'w')\nfrom networks import GENERATORS\nGENERATORS['evil'] = None\n")
    options = {"model": "pix2pix", "plugin": [str(tmp_path / "evil.py")], "netG": "evil"}
    with open(folder / "latest_net_G.safetensors", "wb") as file:
        safetensors_file.write_tensors({"w": torch.ones(1)}, file, {"options": options})
    ended = command("test", "--name", "theirs")
    assert ended.code == 4 and "latest_net_G.safetensors': its option --netG is damaged" in ended.last
    assert not (tmp_path / "ran").exists()
    for about in ([1], {"options": {"model": 5, "lr": {}}, "spec": {"input_nc": "x"}}):
        with open(folder / "latest_net_G.safetensors", "wb") as file:
            safetensors_file.write_tensors({"w": torch.ones(1)}, file, about)
        ended = command("test", "--name", "theirs")
        assert ended.code in (2, 4) and ended.err.count("\n") == 1


def test_numbers_that_the_format_lacks_are_refused():
    with pytest.raises(OptionError, match="hold no complex128, which G's 'w' has; use pth"):
        safetensors_file.check_writable({"G": {"w": torch.ones(1, dtype=torch.complex128)}})
