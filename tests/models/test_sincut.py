"""SinCUT: its networks from training to test.py, and runs with the networks that it had before."""

import json

import pytest
import torch
from PIL import Image

from tests.support.data_folders import save
from tests.support.images import picture

SHORT = ("--gpu_ids", -1, "--display_id", 0, "--num_threads", 0, "--max_dataset_size", 4, "--batch_size", 2,
         "--n_epochs_decay", 0, "--crop_size", 32, "--netF_nc", 4, "--ngf", 1, "--ndf", 1)  # fmt: skip
FORMER = ("--netG", "resnet_4blocks", "--netD", "basic", "--lr", 0.0002, "--beta1", 0.5, "--beta2", 0.999)


@pytest.fixture
def train(command, tmp_path):
    """train(name, epochs, ...): train on two images, or continue; return the options that the run remembers."""
    for n, side in enumerate("AB"):
        save(picture(n, 90, 60), tmp_path / "two" / f"train{side}" / f"{side}.png")

    def run(name, epochs, *more):
        ended = command("train", "--name", name, "--n_epochs", epochs, *more)
        assert ended.code == 0, ended.err
        return json.loads((tmp_path / "checkpoints" / name / "options.json").read_text())["options"]

    return run


def weights(tmp_path, name):
    folder = tmp_path / "checkpoints" / name
    return {net: torch.load(folder / f"latest_net_{net}.pth", weights_only=True) for net in "GDF"}


def test_a_run_continues_to_the_bit_and_translates_any_size(train, command, tmp_path):
    new = ("--model", "sincut", "--dataroot", "two", *SHORT)
    o = train("whole", 2, *new)
    assert (o["netG"], o["netD"], o["stylegan2_G_size"]) == ("stylegan2", "stylegan2", 32)
    train("parts", 1, *new)
    assert train("parts", 2, "--continue_train", "--crop_size", 36)["stylegan2_G_size"] == 32
    train("parts", 1, *new, "--overwrite")
    train("parts", 2, "--continue_train")
    one, other = weights(tmp_path, "whole"), weights(tmp_path, "parts")
    assert all(torch.equal(value, other[net][key]) for net in "GDF" for key, value in one[net].items())
    for flags, size in (((), (90, 60)), (("--preprocess", "resize", "--crop_size", 51), (51, 51))):
        assert command("test", "--name", "whole", "--gpu_ids", -1, *flags).code == 0
        image = next((tmp_path / "results/whole").rglob("A_fake_B.png"))
        assert Image.open(image).size == size


def test_whole_images_are_translated_with_bare_weights(train, command, tmp_path):
    train("run", 1, "--model", "sincut", "--dataroot", "two", *SHORT)
    (tmp_path / "checkpoints/run/options.json").unlink()
    ended = command("test", "--name", "run", "--model", "sincut", "--dataroot", "two", "--gpu_ids", -1)
    assert ended.code == 0 and "--netG stylegan2 --ngf 2" in ended.out  # of 64x64; they are those of ngf 1 for 32x32
    image = next((tmp_path / "results/run").rglob("A_fake_B.png"))
    assert Image.open(image).size == (90, 60)


def test_a_run_with_the_former_networks_continues_and_tests(train, command, tmp_path):
    train("old", 1, "--model", "sincut", "--dataroot", "two", *SHORT, *FORMER)
    path = tmp_path / "checkpoints/old/options.json"
    saved = json.loads(path.read_text())
    saved["options"] = {name: value for name, value in saved["options"].items() if "stylegan2" not in name}
    path.write_text(json.dumps(saved))
    o = train("old", 2, "--continue_train")
    assert [o[flag] for flag in ("netG", "netD", "lr", "beta1", "beta2", "nce_layers")] == [
        "resnet_4blocks", "basic", 0.0002, 0.5, 0.999, "auto"]  # fmt: skip
    assert any(".conv_block." in key for key in weights(tmp_path, "old")["G"])
    assert command("test", "--name", "old", "--gpu_ids", -1).code == 0
