"""A run's folder belongs to one process at a time, is cleaned up, and is in the right place."""

import os

import torch

from tests.support.resuming import plugins, straight
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO

__all__ = ["plugins", "straight"]  # fixtures
FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
       "--max_dataset_size", 1]  # fmt: skip


def listing(folder):
    """Every path under a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_left_over_files_of_a_killed_save_are_removed_and_named(command, tmp_path):
    assert command("train", *FEW, "--name", "run").code == 0
    folder = tmp_path / "checkpoints" / "run"
    left = ["state_000000009.pt.tmp", "latest_net_G.pth.tmp", "options.json.tmp"]
    for name in left:
        (folder / name).write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    before = torch.load(folder / "latest_net_G.pth", weights_only=True)
    ended = command("train", "--name", "run", "--continue_train")
    assert ended.code == 0, ended.err
    for name in left:
        assert f"note: removing {name}, left over by a run that was killed" in ended.out
        assert not (folder / name).exists()
    assert (folder / "notes.txt").read_text() == "mine"
    after = torch.load(folder / "latest_net_G.pth", weights_only=True)
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_suffix_names_the_folder(command, tmp_path):
    ended = command("train", *FEW, "--name", "run", "--suffix", "{model}_{netG}_size{load_size}")
    assert ended.code == 0, ended.err
    assert os.listdir("checkpoints") == ["run_pix2pix_resnet_4blocks_size36"]


def test_links_as_folders_are_followed(command, tmp_path):
    """checkpoints_dir may be a link to another disk."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    ended = command("train", *FEW, "--name", "run")
    assert ended.code == 0, ended.err
    assert (tmp_path / "elsewhere" / "run" / "latest_net_G.pth").is_file()
    assert (tmp_path / "checkpoints").is_symlink()


def test_the_lock_goes_with_the_command_whoever_remembers_it(command, monkeypatch):
    """Also if something of it, such as a traceback, is still in memory."""
    from training.run_folder import RunFolder

    kept, make = [], RunFolder.__init__
    monkeypatch.setattr(RunFolder, "__init__", lambda self, *given: (make(self, *given), kept.append(self))[0])
    for _ in range(2):
        ended = command("train", *FEW, "--name", "run", "--overwrite")
        assert ended.code == 0, ended.err
    assert len(kept) == 2
