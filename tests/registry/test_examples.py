"""The example package is found and its parts train, even beside a broken package."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support.images import picture
from tests.support.runs import ROOT, SMALL

BROKEN = """[project]
name = "broken"
version = "1"
[project.entry-points."ganvas.plugins"]
broken = "broken_gans.model"
unreadable = "broken_gans.unreadable"
gone = "no_such_package.model"
[tool.setuptools]
packages = ["broken_gans"]
"""
FEW = ["--gpu_ids", "-1", "--displays", "console", "--n_epochs", "1", "--n_epochs_decay", "0", "--num_threads", "0"]


def metadata(project):
    """Write what `pip install` would record of a project beside its packages, from its own pyproject.toml."""
    code = "import setuptools; setuptools.setup(script_args=['-q', 'egg_info'])"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)
    return str(project)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folders with the installed example package and with a broken one."""
    examples = tmp_path_factory.mktemp("site") / "examples"
    shutil.copytree(
        ROOT / "examples" / "ganvas_examples", examples, ignore=shutil.ignore_patterns("*.egg-info", "build")
    )
    broken = tmp_path_factory.mktemp("broken")
    (broken / "broken_gans").mkdir()
    (broken / "broken_gans" / "__init__.py").write_text("raise RuntimeError('no luck')\n")
    (broken / "broken_gans" / "model.py").write_text(
        "import nothing_of_that_name\nfrom models.base import BaseModel\n\n\nclass Broken(BaseModel):\n    pass\n"
    )
    (broken / "broken_gans" / "unreadable.py").write_text("def (:\n")
    (broken / "pyproject.toml").write_text(BROKEN)
    return [metadata(examples), metadata(broken)]


@pytest.fixture
def installed(site, interpreter, tmp_path, monkeypatch):
    """Run train.py or test.py in a process that has both packages, beside a folder of pictures."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(site))
    (tmp_path / "pictures").mkdir()
    for n in range(6):
        picture(n).save(tmp_path / "pictures" / f"{n}.png")
    return interpreter


def test_parts_of_the_examples_are_listed_with_their_origin(installed):
    listed = installed("train", "--list")
    assert listed.code == 0, listed.err
    lines = {" ".join(line.split()) for line in listed.out.splitlines()}
    wanted = {f"{name} entry point {name} of ganvas-examples" for name in ("wgan_gp", "degraded", "plain_cnn")}
    assert wanted <= lines


def test_the_gan_trains_resumes_and_draws(installed, tmp_path):
    argv = [
        "--model",
        "WGAN-GP",
        "--dataroot",
        "pictures",
        "--name",
        "w",
        "--crop_size",
        16,
        "--ngf",
        4,
        "--batch_size",
        2,
    ]
    trained = installed("train", *argv, *FEW, "--n_critic", 2, "--print_freq", 1)
    assert trained.code == 0, trained.err
    again = installed("train", "--name", "w", "--continue_train", "--n_epochs", 2)
    assert again.code == 0, again.err
    assert "continuing at epoch 2" in again.out
    rows = [json.loads(line) for line in (tmp_path / "checkpoints/w/losses.jsonl").read_text().splitlines()]
    assert {"D_real", "D_fake", "D_gp", "G_GAN"} <= set(rows[-2]["losses"])
    tested = installed("test", "--name", "w", "--num_samples", 3, "--gpu_ids", -1)
    assert tested.code == 0, tested.err
    assert (tmp_path / "results/w/test_latest/images/samples_interpolation.png").is_file()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_data_set_and_the_generator_serve_other_models(installed, tmp_path, workers):
    argv = ["--model", "pix2pix", "--dataset_mode", "degraded", "--netG", "plain_cnn", "--shrink", 2]
    trained = installed("train", *argv, *SMALL, *FEW, "--num_threads", workers, "--dataroot", "pictures", "--name", "s")
    assert trained.code == 0, trained.err
    tested = installed("test", "--name", "s", "--gpu_ids", -1, "--num_threads", workers)
    assert tested.code == 0, tested.err
    measured = json.loads((tmp_path / "results/s/test_latest/metrics.json").read_text())
    assert len(measured["images"]) == 6


def test_a_broken_example_is_named_when_asked_for(installed):
    for name, why in (("broken", "no luck"), ("unreadable", "no luck"), ("gone", "no_such_package")):
        ended = installed("train", "--model", name, "--dataroot", "pictures")
        assert ended.code == 2, (name, ended.err)
        assert ended.last.startswith(f"error: plug-in 'entry point {name} of broken'"), ended.last
        assert why in ended.last
