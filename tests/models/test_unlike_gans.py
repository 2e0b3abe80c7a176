"""GANs unlike the built-in ones mean the same in training, in a continued run, with every flag, and in test.py."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.loading.loader import Loader
from inference.sampling import has_sampler
from options.parse import parse
from registry.lookup import find
from serialization import checkpoint
from tests.support.images import picture
from tests.support.runs import ROOT
from tests.support.training_runs import rows, weights
from util.image_io import to_pixels
from util.seeding import seed_everything

GANS = ROOT / "tests" / "support" / "gans"
NAMES = sorted(path.stem for path in GANS.glob("[a-z]*.py") if path.stem != "shrunk")
LABELED = ("labels_wgan", "star")
FLAGS = ["--gpu_ids", "-1", "--ngf", 4, "--ndf", 4, "--num_threads", 0, "--display_id", 0, "--max_dataset_size", 6,
         "--n_epochs_decay", 0, "--print_freq", 1]  # fmt: skip


@pytest.fixture
def train(command, tmp_path):
    """train(name, run, flags...) trains a GAN, which must succeed."""
    for phase, count in (("train", 2), ("test", 4)):
        for label in ("cat", "dog", "fox"):
            (tmp_path / "classes" / phase / label).mkdir(parents=True)
            for number in range(count):
                picture(10 * number + ord(label[0])).save(tmp_path / "classes" / phase / label / f"{label}{number}.png")

    def run(name, run_name, *flags):
        data = "classes" if name in LABELED else "demo/trainA" if name == "enlarge" else "demo"
        load, crop = (160, 128) if name == "enlarge" else (36, 32)
        sizes = ["--load_size", load, "--crop_size", crop]
        plugins = ["--plugin", GANS / f"{name}.py", "--plugin", GANS / "shrunk.py"]
        argv = [*plugins, "--model", name, "--dataroot", data, "--name", run_name, *FLAGS, *sizes, *flags]
        ended = command("train", *argv)
        assert ended.code == 0, ended.err
        return ended

    return run


def losses(name):
    return [row["losses"] for row in rows(Path("checkpoints") / name)[0]]


@pytest.mark.parametrize("name", NAMES)
def test_a_continued_run_and_recomputed_activations_are_the_same(train, command, name):
    """Two epochs with --grad_checkpoint equal one epoch and another, in every loss and weight."""
    train(name, "straight", "--n_epochs", 2, "--grad_checkpoint")
    train(name, "parted", "--n_epochs", 1)
    ended = command("train", "--name", "parted", "--continue_train", "--n_epochs", 2)
    assert ended.code == 0, ended.err
    ours, theirs = losses("parted"), losses("straight")
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert all(abs(one[k] - other[k]) <= 1e-4 * (1 + abs(other[k])) for k in one), (one, other)
    one, other = weights(Path("checkpoints/parted")), weights(Path("checkpoints/straight"))
    assert one.keys() == other.keys()
    for net, state in one.items():
        assert all(torch.allclose(value.float(), other[net][key].float(), atol=1e-4) for key, value in state.items())


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_of_speed_and_memory_works(train, name):
    train(name, "all", "--n_epochs", 1, "--batch_size", 2, "--accumulate", 2, "--amp", "bf16", "--memory_format",
          "channels_last", "--grad_checkpoint")  # fmt: skip
    told = train(name, "none", "--n_epochs", 1, "--dry_run").out
    assert ("needs values" if name == "values" else "GFLOP a step") in told


def forget_test_images(name):
    """Undo what the last test left in the module of `counted`."""
    if name == "counted":
        module = next(m for n, m in sys.modules.items() if n.startswith("ganvas_plugin_counted"))
        module.shown.clear()
        module.Counted.images = 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "labels_wgan"])
def test_images_are_those_of_the_trained_model_one_by_one(train, command, tmp_path, name):
    """test.py with two threads equals the model of the run's state, called for one image after the other."""
    train(name, "run", "--n_epochs", 1)
    where = ["--dataroot", "demo/testA"] if name == "enlarge" else []
    forget_test_images(name)
    torch.set_num_threads(2)  # two images at a time
    try:
        ended = command("test", "--name", "run", *where, "--batch_size", 3)
    finally:
        torch.set_num_threads(1)
    assert ended.code == 0, ended.err
    assert "note: --batch_size has no effect" in ended.out

    # The same by hand.
    o = parse(["--name", "run", *where], "test")
    forget_test_images(name)
    seed_everything(o.seed)
    o.run_classes = ["cat", "dog", "fox"] if name in LABELED else []
    dataset = find("dataset", o.dataset_mode)(o)
    model = find("model", o.model)(o, dataset.spec())
    state, _ = checkpoint.load_state(tmp_path / "checkpoints" / "run")
    model.load_state_dict(state["model"])
    if name == "recurrent":
        model.frames = 0  # extra state is of training
    model.eval()
    count = 0
    for batch in Loader(dataset, o, shuffle=False).epoch(0):
        with torch.inference_mode():
            shown = model.show(model(batch))
        stem = Path(batch["path_A"][0]).stem
        for label, image in shown.items():
            (path,) = (tmp_path / "results").rglob(f"{stem}_{label}.png")
            made = np.asarray(Image.open(path)).astype(int)
            assert np.abs(made - to_pixels(image[0])).max() <= 1, (stem, label)
            count += 1
    assert count >= 12


def test_a_plug_in_with_sheets_generates_its_classes(train, command):
    train("labels_wgan", "run", "--n_epochs", 1)
    assert has_sampler(find("model", "labels_wgan"))
    ended = command("test", "--name", "run", "--classes", "fox", "--num_samples", 3)
    assert ended.code == 0, ended.err
    assert re.search(r"\d+ images( and \d+ sheets?)? -> results", ended.out)
