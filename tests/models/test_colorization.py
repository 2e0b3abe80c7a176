"""colorization converts colours exactly, loads its data set and shows colour images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from data.decoding.cielab import lab_to_rgb, rgb_to_lab
from registry.lookup import find
from tests.support.runs import SMALL, options
from util.errors import OptionError

# CIE values of sRGB colours (D65), as printed in colour science tables
KNOWN = {(1, 1, 1): (100, 0, 0), (0, 0, 0): (0, 0, 0), (1, 0, 0): (53.24, 80.09, 67.20),
         (0, 1, 0): (87.73, -86.18, 83.18), (0, 0, 1): (32.30, 79.19, -107.86)}  # fmt: skip


@pytest.mark.parametrize("rgb", KNOWN)
def test_known_colours_have_their_lab_values(rgb):
    lab = rgb_to_lab(torch.tensor(rgb, dtype=torch.float64)[None, :, None, None]).flatten()
    assert lab.tolist() == pytest.approx(KNOWN[rgb], abs=0.02)


def test_colours_survive_lab_and_back():
    rgb = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    assert (lab_to_rgb(rgb_to_lab(rgb)) - rgb).abs().max() < 1e-5


def test_a_sample_is_lightness_and_colour():
    o = options("--model", "colorization", "--no_flip", "--load_size", "32")
    sample = find("dataset", "colorization")(o)[0]
    assert (sample["A"].shape, sample["B"].shape) == ((1, 32, 32), (2, 32, 32))
    both = torch.cat([(sample["A"] + 1) * 50, sample["B"] * 110])[None]
    rgb = find("dataset", "single")(
        options("--model", "test", "--no_flip", "--load_size", "32", "--dataroot", "demo/train")
    )[0]["A"]
    assert (lab_to_rgb(both)[0] * 2 - 1 - rgb).abs().max() < 1e-5
    with pytest.raises(OptionError, match="only goes from A to B"):
        find("dataset", "colorization")(options("--model", "colorization", "--direction", "BtoA"))
    with pytest.raises(OptionError, match="from 1 channel to 2"):
        find("dataset", "colorization")(options("--model", "colorization", "--output_nc", "3"))


def test_shown_are_lightness_and_two_colourings(command, tmp_path):
    argv = [*SMALL, "--model", "colorization", "--netG", "unet_32", "--name", "c", "--n_epochs", 1]
    assert command("train", *argv, "--n_epochs_decay", 0, "--max_dataset_size", 2).code == 0
    assert command("test", "--name", "c", "--num_test", 1).code == 0
    images = tmp_path / "results" / "c" / "test_latest" / "images"
    modes = {p.name.partition("_")[2]: Image.open(p).mode for p in images.iterdir()}
    assert modes == {"real_A.png": "L", "real_B_rgb.png": "RGB", "fake_B_rgb.png": "RGB"}
    real = np.asarray(Image.open(images / "0000_real_B_rgb.png")).astype(int)
    assert real.std(axis=(0, 1)).min() > 5  # a coloured picture
    measured = json.loads((images.parent / "metrics.json").read_text())["mean"]
    fake = np.asarray(Image.open(images / "0000_fake_B_rgb.png")).astype(int)
    assert measured["L1"] == pytest.approx(abs(fake - real).mean() / 127.5, abs=2 / 255)
