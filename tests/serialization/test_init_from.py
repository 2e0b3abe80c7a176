"""--init_from loads all matching weights and lists them."""

import pytest
import torch
from torch import nn

from networks import generator
from serialization import atomic_save, weight_files
from tests.support.runs import SMALL, options

FEW = [*SMALL, "--netG", "resnet_4blocks", "--max_dataset_size", "1", "--n_epochs", "1",
       "--n_epochs_decay", "0", "--lr", "1e-12"]  # fmt: skip


@pytest.fixture
def lone(tmp_path):
    """A latest_net_G.pth from another run."""
    torch.manual_seed(7)
    net = generator(options("--netG", "resnet_4blocks"), 3, 3)
    atomic_save.write_atomically(tmp_path / "latest_net_G.pth", net.state_dict())
    return tmp_path / "latest_net_G.pth", net.state_dict()


def learnt(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("model", "target", "new"), [("cycle_gan", "G_A", "G_B"), ("pix2pix", "G", "D")])
def test_a_lone_generator_starts_a_training(command, lone, tmp_path, model, target, new):
    path, theirs = lone
    argv = [*FEW, "--model", model, "--norm", "instance", "--no_dropout", "--name", "x", "--init_from", path]
    ended = command("train", *argv)
    assert ended.code == 0, ended.err
    assert f"{target}: {len(theirs)} tensors loaded, 0 new, 0 skipped, from latest_net_G.pth" in ended.out
    assert f"{new}: new, {path} has no weights for it" in ended.out
    ours = learnt(tmp_path / "checkpoints" / "x" / f"latest_net_{target}.pth")
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-9) for k in theirs)


def test_a_run_whose_networks_fit_in_part(command, tmp_path):
    argv = [*FEW, "--model", "cycle_gan"]
    assert command("train", *argv, "--name", "first").code == 0
    ended = command("train", *argv, "--name", "second", "--init_from", "first", "--netG", "resnet_6blocks")
    assert ended.code == 0, ended.err
    assert "G_A: 22 tensors loaded, 14 new, 6 skipped, from latest_net_G_A.pth" in ended.out
    assert "D_B: 10 tensors loaded, 0 new, 0 skipped" in ended.out


def test_what_does_not_exist_or_fit_is_refused(command, lone, tmp_path):
    missing = command("train", *FEW, "--model", "cycle_gan", "--init_from", "nobody", "--name", "x")
    assert (missing.code, "no such file and no such run" in missing.last) == (4, True)
    other = nn.Linear(2, 2).state_dict()
    atomic_save.write_atomically(tmp_path / "other.pth", other)
    wrong = command("train", *FEW, "--model", "cycle_gan", "--init_from", "other.pth", "--name", "y")
    assert (wrong.code, "no tensor in it fits" in wrong.last) == (4, True)


@pytest.mark.parametrize("source", ["nobody", "other.pth"])
def test_a_refused_source_leaves_the_old_run_whole(command, tmp_path, source):
    argv = [*FEW, "--model", "cycle_gan", "--name", "x"]
    assert command("train", *argv).code == 0
    atomic_save.write_atomically(tmp_path / "other.pth", nn.Linear(2, 2).state_dict())
    before = {p: p.read_bytes() for p in (tmp_path / "checkpoints/x").glob("*.p*t*")}
    assert len(before) >= 5
    assert command("train", *argv, "--overwrite", "--init_from", source).code == 4
    assert {p: p.read_bytes() for p in before} == before


def test_a_run_may_start_from_the_one_it_overwrites(command):
    argv = [*FEW, "--model", "cycle_gan", "--name", "x"]
    assert command("train", *argv).code == 0
    ended = command("train", *argv, "--overwrite", "--init_from", "x")
    assert ended.code == 0, ended.err
    assert "D_B: 10 tensors loaded, 0 new, 0 skipped" in ended.out


def test_a_data_folder_of_the_runs_name_does_not_hide_it(command, tmp_path):
    argv = [*FEW, "--model", "cycle_gan"]
    assert command("train", *argv, "--name", "facades").code == 0
    (tmp_path / "facades").mkdir()
    ended = command("train", *argv, "--name", "y", "--init_from", "facades")
    assert ended.code == 0, ended.err


def test_layers_called_block_and_module_keep_their_names():
    """Only where a network has no such key are they the wrappers' and rewrites' of the reference."""

    def network():
        net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Module())
        net[1].block = nn.Conv2d(3, 3, 1)
        whole = nn.Module()
        whole.model, whole.module = net, nn.Conv2d(3, 3, 1)
        return whole

    source, target = network(), network()
    weight_files.load_into_network(target, source.state_dict(), "x.pth")
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_blocks_by_another_name_and_affine_instance_norm(command, tmp_path):
    """As a published rewrite has them: `block` for `conv_block`, norms with weights."""
    torch.manual_seed(3)
    net = generator(options("--netG", "resnet_4blocks", "--norm", "instance_affine", "--no_dropout"), 3, 3)
    folder = tmp_path / "checkpoints" / "theirs"
    folder.mkdir(parents=True)
    renamed = {key.replace(".conv_block.", ".block."): value for key, value in net.state_dict().items()}
    torch.save(renamed, folder / "latest_net_G.pth")
    ended = command("test", "--name", "theirs", "--dataroot", "demo", "--num_test", 1, "--gpu_ids", "-1")
    assert ended.code == 0, ended.err
    assert "--netG resnet_4blocks" in ended.out
    assert "--norm instance_affine" in ended.out
