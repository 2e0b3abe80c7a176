"""scripts/evaluate.py measures two folders, and every kept checkpoint of a run."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cli.main import run_command
from scripts import evaluate
from tests.support.runs import SMALL, Ended
from tests.support.tested_runs import save_pairs
from tests.support.training_runs import run_in

PLUGIN = '''
"""Metrics of sets without weights, by the mean colours of regions: a distance, and the accuracy of a classifier."""
from torch import nn

from metrics import METRICS
from metrics.classes import HeadAccuracy
from metrics.distances import FrechetDistance
from metrics.features import FeatureNetwork


class Regions(FeatureNetwork):
    def build(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())


class RegionsFd(FrechetDistance):
    network = Regions


class RegionsAccuracy(HeadAccuracy):
    network = Regions


METRICS["regions_fd"] = RegionsFd
METRICS["regions_accuracy"] = RegionsAccuracy
'''


@pytest.fixture
def evaluated(tmp_path, monkeypatch, capsys):
    """evaluated(*argv) runs the script in an empty folder -> Ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regions.py").write_text(PLUGIN)

    def run(*argv):
        capsys.readouterr()
        code = run_command(evaluate.main, list(map(str, argv)))
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


def save(folder, number, shade):
    folder.mkdir(parents=True)
    for n in range(number):
        pixels = np.random.default_rng(n).integers(0, 60, (20, 24, 3)) + shade
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")


def test_two_folders_have_a_table_and_files(evaluated, tmp_path):
    save(tmp_path / "real", 14, 100)
    shutil.copytree(tmp_path / "real", tmp_path / "copy")
    argv = ["--real", "real", "--plugin", "regions.py", "--gpu_ids", "-1"]
    ended = evaluated(*argv, "--fake", "copy", "--metrics", "l1,PSNR,ssim,regions_fd", "--output", "out")
    assert ended.code == 0, ended.err
    assert "14 generated images against 14 real ones" in ended.out and "ssim (higher is better)" in ended.out
    table = json.loads((tmp_path / "out/metrics.json").read_text())
    (measured,) = (row["values"] for row in table["evaluations"])
    assert measured["L1"] == {"value": 0, "error": 0, "n": 14}
    assert measured["PSNR"]["value"] is None and measured["ssim"]["value"] == pytest.approx(1)
    assert measured["regions_fd"]["value"] == pytest.approx(0, abs=1e-9)
    assert table["images"]["13"] == {"L1": 0, "PSNR": None, "ssim": pytest.approx(1)}
    with (tmp_path / "out/metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row)[::3] == ["L1", "PSNR", "ssim", "regions_fd"] and (row["L1"], row["L1_n"]) == ("0.0", "14")
    save(tmp_path / "dark", 13, 0)
    ended = evaluated(*argv, "--fake", "dark", "--metrics", "regions_fd")
    assert "note: regions_fd: 13 generated images against 14 real ones" in ended.out and "n=13" in ended.out


@pytest.mark.parametrize(("argv", "code", "why"), [
    (["--real", "real"], 2, "one of them is needed"), (["--fake", "real"], 2, "--fake needs --real"),
    (["--real", "real", "--fake", "none"], 3, "'none': does not exist"),
    (["--real", "real", "--fake", "real", "--metrics", "sim"], 2, "did you mean ssim"),
    (["--real", "real", "--fake", "real", "--metrics", ","], 2, "names no metric"),
    (["--real", "real", "--fake", "real", "--metrics", "digits_accuracy,lite0_accuracy"], (3, 5), "'"),
    (["--run", "real", "--", "--num_test", "3", "--epoch=2"], 2, "option '--epoch=2': is set for each checkpoint"),
    (["--run", "real", "--", "--name", "other"], 2, "option '--name': is set for each checkpoint; use --run"),
    (["--run", "real"], 2, "'real': is not in ./checkpoints")])  # fmt: skip
def test_wrong_command_lines_have_one_line(evaluated, tmp_path, argv, code, why):
    save(tmp_path / "real", 3, 0)
    ended = evaluated(*argv, "--gpu_ids", "-1")
    assert ended.code in (code if isinstance(code, tuple) else (code,)) and why in ended.err.splitlines()[-1]


def test_every_kept_checkpoint_of_a_run_is_measured(evaluated, tmp_path):
    save_pairs(tmp_path / "pairs" / "train", 3, 50)
    save_pairs(tmp_path / "pairs" / "test", 4)
    flags = ["--dataroot", "pairs", "--model", "pix2pix", "--netG", "unet_32", "--ngf", 4, "--ndf", 4, "--name", "p"]
    epochs = ["--n_epochs", 2, "--n_epochs_decay", 0, "--save_epoch_freq", 1, "--keep_epochs", 0]
    ended = run_in(tmp_path, "train", *SMALL, *flags, *epochs)
    assert ended.code == 0, ended.err
    metrics = ["--metrics", "l1,regions_fd", "--plugin", "regions.py", "--gpu_ids", "-1"]
    ended = evaluated("--run", "p", "--epochs", "all", *metrics, "--", "--num_test", 3, "--tile_norm", "local")
    assert ended.code == 0, ended.err
    assert ended.out.count("note: --tile_norm has no effect") == 1  # of both tests
    table = json.loads((tmp_path / "results/p/evaluation/metrics.json").read_text())
    rows = {row["epoch"]: row["values"] for row in table["evaluations"]}
    assert list(rows) == [1, 2, "latest"] and rows[2] == rows["latest"]
    assert "epoch latest: has the weights of epoch 2" in ended.out  # which is not tested again
    assert rows[1] != rows[2] and rows[1]["L1"]["n"] == 3
    values = {epoch: row["L1"]["value"] for epoch, row in rows.items()}
    best = min(values, key=values.get)
    assert table["best"]["L1"] == {"epoch": best, "value": values[best]} and f"best L1: epoch {best}" in ended.out
    with (tmp_path / "results/p/evaluation/metrics.csv").open() as file:
        lines = [(row["epoch"], float(row["L1"])) for row in csv.DictReader(file)]
    assert lines == [(str(at), value) for at, value in values.items()]
    assert evaluate.kept_epochs(tmp_path / "checkpoints/p", "all") == ["1", "2", "latest"]
    assert evaluated("--run", "p", "--epochs", "7", *metrics).err.count("'7': is not kept; choose of 1, 2, latest") == 1


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_a_folder_of_results_has_the_range_of_its_run(evaluated, tmp_path, direction):
    """The figures are those of test.py: 12 bits in files of 16 seemed to be almost black, and all alike, once."""
    for phase, number in (("train", 3), ("test", 2)):
        for side, (low, high) in {"A": (0, 900), "B": (500, 3800)}.items():
            (tmp_path / "ct" / f"{phase}{side}").mkdir(parents=True)
            for n in range(number):
                values = np.random.default_rng(n + ord(side)).integers(low, high, (32, 32)).astype(np.uint16)
                Image.fromarray(values).save(tmp_path / "ct" / f"{phase}{side}" / f"{n}.png")
    flags = ["--dataroot", "ct", "--model", "pix2pix", "--netG", "unet_32", "--ngf", 4, "--ndf", 4, "--name", "ct"]
    more = ["--input_nc", 1, "--output_nc", 1, "--direction", direction, "--range_A", "auto", "--range_B", "auto"]
    ended = run_in(tmp_path, "train", *SMALL, *flags, *more, "--n_epochs", 1, "--n_epochs_decay", 0)
    assert ended.code == 0, ended.err
    assert run_in(tmp_path, "test", "--name", "ct", "--metrics", "L1,PSNR", "--gpu_ids", "-1").code == 0
    test = tmp_path / "results/ct/test_latest"
    argv = ["--real", test / "images", "--fake", test / "images", "--metrics", "L1,PSNR", "--gpu_ids", "-1"]
    ended = evaluated(*argv, "--output", "out")
    assert ended.code == 0, ended.err
    (row,) = json.loads((tmp_path / "out/metrics.json").read_text())["evaluations"]
    mean = json.loads((test / "metrics.json").read_text())["mean"]
    assert {name: row["values"][name]["value"] for name in mean} == pytest.approx(mean, rel=1e-3)
    (test / "files.jsonl").touch()
    assert "holds a test that has not ended" in evaluated(*argv).err


def test_results_without_pairs_are_not_compared_as_pairs(evaluated, tmp_path, unpaired):
    for side in "AB":  # whose names agree by accident
        for n, path in enumerate(sorted((tmp_path / "unpaired" / f"test{side}").iterdir())):
            path.rename(path.with_name(f"same{n}.png"))
    flags = ["--dataroot", "unpaired", "--model", "cycle_gan", "--ngf", 4, "--ndf", 4, "--name", "c"]
    assert run_in(tmp_path, "train", *SMALL, *flags, "--n_epochs", 1, "--n_epochs_decay", 0).code == 0
    assert run_in(tmp_path, "test", "--name", "c", "--gpu_ids", "-1").code == 0
    images = tmp_path / "results/c/test_latest/images"
    ended = evaluated("--real", images, "--fake", images, "--metrics", "L1", "--gpu_ids", "-1")
    assert ended.code == 2 and "L1 compares pairs, and the data set of this test has none" in ended.err


@pytest.mark.parametrize(("high", "dtype"), [(4095, np.uint16), (1, np.uint8)])
def test_values_that_use_little_of_their_type_are_told(evaluated, tmp_path, high, dtype):
    """Noise of 12 bits in files of 16, or masks of 0 and 1, had a PSNR of 32 and 51 dB without a word."""
    for seed, name in enumerate(("real", "fake")):
        (tmp_path / name).mkdir()
        for n in range(3):
            values = np.random.default_rng([seed, n]).integers(0, high + 1, (24, 24)).astype(dtype)
            Image.fromarray(values).save(tmp_path / name / f"{n}.png")
    argv = ["--real", "real", "--fake", "fake", "--metrics", "PSNR", "--gpu_ids", "-1", "--output", "out"]
    said = "of the range of their type, so all errors count as small and metrics look good; --range LO,HI says which"
    for more, is_told in ([], True), (["--range", f"0,{high}"], False):
        ended = evaluated(*argv, *more)
        assert ended.code == 0 and (said in ended.out) is is_told, ended.err
        (row,) = json.loads((tmp_path / "out/metrics.json").read_text())["evaluations"]
        assert (row["values"]["PSNR"]["value"] > 30) is is_told
    assert "'1,0' does not go from a lower to a higher number; give LO,HI" in evaluated(*argv, "--range", "1,0").last


def test_further_frames_of_files_are_told(evaluated, tmp_path):
    for name in ("real", "fake"):
        save(tmp_path / name, 2, 0)
    first, *more = (Image.new("L", (24, 20), shade) for shade in (0, 128, 255))
    first.save(tmp_path / "fake" / "0.gif", save_all=True, append_images=more)
    (tmp_path / "fake" / "0.png").unlink()
    ended = evaluated("--real", "real", "--fake", "fake", "--metrics", "L1", "--gpu_ids", "-1")
    assert "note: 1 of 2 images in fake hold several frames, such as fake/0.gif: the first is used" in ended.out
