"""N processes with batch b compute what one process computes with batch N*b, in float64."""

import pytest
import torch

from tests.support.data_folders import save
from tests.support.distributed.shared_steps import added_bytes, train_steps
from tests.support.images import picture
from tests.support.small_models import MODELS, OWN

SMALL = ["--gpu_ids", "-1", "--ngf", "2", "--ndf", "2", "--netG", "resnet_4blocks", "--netD", "n_layers",
         "--n_layers_D", "1", "--load_size", "20", "--crop_size", "16", "--num_threads", "0", "--display_id", "0",
         "--no_dropout", "--pool_size", "0"]  # fmt: skip
NETWORKS = OWN | {"gan": (*OWN["gan"], "--norm", "instance"), "cgan": ("--norm", "instance"),
            "sincut": ("--netG", "stylegan2", "--netD", "stylegan2", "--load_size", "32", "--num_patches", "4"),
            "cut": ("--flip_equivariance", "true"), "pix2pix": ("--norm", "instance"),
            "colorization": ("--norm", "instance")}  # fmt: skip
TRAINED = [name for name in MODELS if name != "test"]
STEPS = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with data for every model: pairs, sides, classes, and maps that are pictures."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(13):
        save(picture(number, 48, 24), folder / "pairs" / "train" / f"{number:02d}.png")
        save(picture(number + 50), folder / "sides" / "trainA" / f"{number:02d}.png")
        save(picture(number + 90), folder / "sides" / "trainB" / f"{number:02d}.png")
        for side in "AB":
            save(picture(number + ord(side)), folder / "maps" / f"train_{side}" / f"{number:02d}.png")
        save(picture(number + 130), folder / "classes" / "train" / "ab"[number % 2] / f"{number:02d}.png")
    for side in "AB":
        save(picture(ord(side), 64, 64), folder / "one" / f"train{side}" / "0.png")
    return folder


def argv(model, batch_size, *more):
    root = {"aligned": "pairs", "labeled": "classes", "singleimage": "one", "colorization": "pairs",
            "semantic": "maps", "domains": "classes"}  # fmt: skip
    mode = MODELS[model].dataset_mode
    return [*SMALL, "--model", model, "--dataroot", root.get(mode, "sides"), *NETWORKS.get(model, ()),
            "--batch_size", str(batch_size), *more]  # fmt: skip


def assert_equal(one, several, steps=STEPS):
    assert all(len(each["losses"]) == steps for each in (one, *several))
    for rank, each in enumerate(several):
        for step, (was, now) in enumerate(zip(one["losses"], each["losses"], strict=True)):
            assert was.keys() == now.keys()
            for name in was:
                assert now[name] == pytest.approx(was[name], rel=1e-6, abs=1e-9), f"rank {rank}, step {step}: {name}"
        for name, value in one["weights"].items():
            assert torch.allclose(each["weights"][name].double(), value.double(), rtol=1e-6, atol=1e-8), name
        assert each["weights"].keys() == one["weights"].keys()
    for step, paths in enumerate(one["paths"]):  # every sample once, in some process
        assert sorted(path for each in several for path in each["paths"][step]) == sorted(paths)
    assert len({each["draw"] for each in several}) == len(several), "each process draws for itself"


@pytest.mark.parametrize("model", TRAINED)
def test_each_model_trains_as_one_process_does(pools, data, model):
    """Images are few enough that the last batches of epochs are small, of 1 for two processes: one has a stand-in."""
    several = pools(2).run(train_steps, str(data), argv(model, 2), STEPS)
    assert_equal(train_steps(str(data), argv(model, 4), STEPS), several)


CASES = {
    "syncbatch": ("pix2pix", "--norm", "syncbatch"),
    "batch becomes syncbatch": ("cycle_gan", "--norm", "batch"),
    "batch norm below a penalty": ("pix2pix", "--norm", "batch", "--gan_mode", "wgangp"),
    "penalties that draw": ("gan", "--gan_mode", "wgangp"),
    "relativistic means": ("pix2pix", "--gan_mode", "ragan"),
    "deviation of the batch": ("gan", "--penalty", "dragan", "--gan_mode", "vanilla"),
    "augmentation": ("pix2pix", "--diffaugment", "color,translation,cutout"),
    "ada and lecam": ("gan", "--ada", "--ada_kimg", "0.05", "--lambda_lecam", "0.3"),
    "average and clipping": ("cycle_gan", "--ema", "0.9", "--clip_grad", "0.1", "--warmup", "3", "--n_critic", "2"),
    "micro-batches": ("cut", "--accumulate", "2", "--drop_last"),
    "micro-batches with noise and norm": ("gan", "--accumulate", "2", "--norm", "syncbatch", "--drop_last"),
    "recomputed": ("pix2pix", "--grad_checkpoint", "--norm", "syncbatch"),
}


@pytest.mark.parametrize("name", CASES)
def test_norms_objectives_and_tools_see_the_whole_batch(pools, data, name):
    model, *more = CASES[name]
    several = pools(2).run(train_steps, str(data), argv(model, 2, *more), 6)
    assert_equal(train_steps(str(data), argv(model, 4, *more), 6), several, 6)


@pytest.mark.parametrize("model", ["pix2pix", "cgan"])
def test_four_processes_equal_one(pools, data, model):
    several = pools(4).run(train_steps, str(data), argv(model, 2, "--norm", "syncbatch"), 4)
    assert_equal(train_steps(str(data), argv(model, 8, "--norm", "syncbatch"), 4), several, 4)


def test_bytes_do_not_grow_with_the_number_of_processes(pools, data):
    """A step adds up the gradient of each parameter once, and 4 terms of losses; here in float64."""
    weights = train_steps(str(data), argv("pix2pix", 4), 1)["weights"].values()
    expected = 2 * 8 * (sum(value.numel() for value in weights) + 4)
    for size in (2, 4):
        assert pools(size).run(added_bytes, str(data), argv("pix2pix", 2), 2) == [expected] * size


def test_an_overflow_in_one_process_skips_the_step_in_all(pools, data):
    several = pools(2).run(train_steps, str(data), argv("pix2pix", 2), 4, "half")
    assert several[0]["scale"] == several[1]["scale"] == 2.0, "halved in each phase of one step"
    for name, value in several[0]["weights"].items():
        assert torch.equal(several[1]["weights"][name], value) and torch.isfinite(value).all()


def test_without_sync_batch_statistics_are_those_of_a_process(pools, data):
    flags = argv("pix2pix", 2, "--norm", "batch", "--no_sync_batch")
    weights = [each["weights"] for each in pools(2).run(train_steps, str(data), flags, 3)]
    differing = [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]
    assert differing and all("running" in name for name in differing)
