"""Patches of single images: the zoom, the crop and the trim of CUT's data, and the data set of SinCUT."""

import numpy as np
import pytest
from PIL import Image

from data.singleimage import SAMPLES
from tests.support.data_folders import make, sample, save
from tests.support.images import picture


@pytest.fixture
def folder(tmp_path):
    save(picture(0, 90, 60), tmp_path / "two" / "trainA" / "a.png")
    save(picture(1, 50, 80), tmp_path / "two" / "trainB" / "b.png")
    return tmp_path / "two"


def test_an_epoch_has_100000_patches_of_the_same_two_images(folder):
    data = make("singleimage", folder, "--crop_size", 16)
    assert len(data) == SAMPLES
    assert (data.o.preprocess, data.o.random_scale_max, data.o.interpolation_A) == ("zoom_and_patch", 3.0, "bilinear")
    first, other = sample(data, 0), sample(data, 99_999, draw=1)
    assert first["A"].shape == other["B"].shape == (3, 16, 16)
    assert (first["path_A"], first["path_B"]) == (other["path_A"], other["path_B"])
    assert not np.allclose(first["A"], other["A"])
    assert len(make("singleimage", folder, "--max_dataset_size", 7)) == 7


def test_zoom_scales_each_side_by_itself_but_not_below_the_crop(folder):
    data = make("unaligned", folder, "--preprocess", "zoom", "--random_scale_max", 4, "--crop_size", 20)
    sizes = np.array([sample(data, 0, draw)["A"].shape[1:] for draw in range(40)])
    height, width = sizes.T
    assert height.min() >= 20
    assert height.max() <= 60
    assert width.min() >= 90 / 4 - 1
    assert width.max() <= 90
    assert np.ptp(height) > 20
    assert len({round(w / 90 - h / 60, 2) for h, w in sizes}) > 10


def test_zoom_comes_before_the_crop_and_1_is_no_zoom(folder):
    crop = [sample(make("unaligned", folder, "--preprocess", words, "--random_scale_max", 1, "--crop_size", 24), 0)
            for words in ("crop", "zoom_and_crop")]  # fmt: skip
    assert np.allclose(crop[0]["A"], crop[1]["A"])
    assert sample(make("unaligned", folder, "--preprocess", "resize_and_zoom_and_crop"), 0)["B"].shape == (3, 32, 32)


def test_trim_cuts_only_sides_that_are_longer(folder):
    data = make("unaligned", folder, "--preprocess", "trim", "--crop_size", "70x70")
    assert sample(data, 0)["A"].shape == (3, 60, 70)
    assert sample(data, 0)["B"].shape == (3, 70, 50)


def test_a_run_on_patches_translates_whole_images(folder, command, tmp_path):
    flags = ["--gpu_ids", -1, "--ngf", 2, "--ndf", 2, "--netG", "resnet_4blocks", "--netF_nc", 4, "--display_id", 0]
    short = ["--max_dataset_size", 2, "--batch_size", 2, "--n_epochs", 1, "--n_epochs_decay", 0, "--num_threads", 0]
    ended = command("train", "--model", "sincut", "--dataroot", folder, "--crop_size", 32, *flags, *short)
    assert ended.code == 0, ended.err
    ended = command("test", "--name", "experiment_name", "--gpu_ids", -1)
    assert ended.code == 0, ended.err
    assert Image.open(tmp_path / "results/experiment_name/train_latest/images/a_fake_B.png").size == (90, 60)
