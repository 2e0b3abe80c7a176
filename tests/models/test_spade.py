"""spade with --use_vae: a test has the style of the photograph, or several drawn ones."""

import numpy as np
import pytest
from PIL import Image

from tests.support.runs import SMALL

TINY = [*SMALL, "--dataroot", "demo", "--max_dataset_size", 2, "--n_epochs", 1, "--n_epochs_decay", 0, "--name", "run",
        "--displays", "console", "--ngf", 1, "--crop_size", 64, "--preprocess", "resize", "--load_size", 64,
        "--label_nc", 2, "--no_vgg_loss", "--num_D", 1, "--n_layers_D", 1, "--init_gain", 1]  # fmt: skip


def pictures(folder, *ends):
    return [np.asarray(Image.open(next(folder.glob(f"*_{end}.png")))).astype(int) for end in ends]


def test_a_map_has_several_results(command, tmp_path):
    ended = command("train", "--model", "spade", *TINY, "--use_vae", "--z_dim", 4, "--D_steps_per_G", 2)
    assert ended.code == 0, ended.err
    test = ["--name", "run", "--gpu_ids", -1, "--num_test", 1, "--results_dir"]
    for results, more in (("one", []), ("two", ["--num_results", 2])):
        ended = command("test", *test, results, *more)
        assert ended.code == 0, ended.err
    images = "run/test_latest/images"
    first, second = pictures(tmp_path / "two" / images, "fake_B_1", "fake_B_2")
    assert np.abs(first - second).max() > 0
    assert len(pictures(tmp_path / "one" / images, "fake_B", "real_A", "real_B")) == 3


def test_a_z_needs_a_generator_that_takes_one(command):
    ended = command("train", "--model", "spade", *TINY, "--use_vae", "--netG", "unet_64")
    assert ended.code == 2 and "--netG unet_64 takes no z; use --netG spade" in ended.last


@pytest.mark.parametrize("names", ["--netG spade --netD spade --norm batch", "--netG spade --netD spade"])
def test_other_models_may_have_its_networks(command, names):
    tiny = TINY[: TINY.index("--label_nc")]
    ended = command("train", "--model", "pix2pix", *tiny, *names.split(), "--n_layers_D", 1)
    assert ended.code == 0, ended.err
    assert command("test", "--name", "run", "--gpu_ids", -1, "--num_test", 1).code == 0
