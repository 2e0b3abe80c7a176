"""--metrics of test.py: of each image, and of all images as a set; each image counts once."""

import json

import pytest
import torch
from torch import nn

from metrics import METRICS
from metrics.distances import FrechetDistance
from metrics.features import FeatureNetwork
from tests.support.tested_runs import make_results
from util.errors import OptionError


class Regions(FeatureNetwork):
    """Features without weights: the mean colours of four regions."""

    def build(self):
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())


class RegionsFd(FrechetDistance):
    """A metric of sets."""

    network = Regions


class Total:
    """A metric of pairs that has no values of single images."""

    better, paired = "lower", True

    def __init__(self):
        self.count = 0

    def update(self, real, fake, labels=None):
        self.count += len(fake)

    def result(self):
        return 0.5, None, self.count

    def partial(self):
        return {"count": torch.tensor(self.count)}

    def merge(self, partials):
        self.count = sum(int(part["count"]) for part in partials)


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setitem(METRICS, "regions_fd", RegionsFd)
    monkeypatch.setitem(METRICS, "total", Total)
    draw = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 16, 16, generator=draw) * 2 - 1


def results_of(folder, batches, compare, **flags):
    """What metrics.json holds after these batches of (images, paths, paths of B)."""
    results = make_results(folder, "run", compare, **flags)
    with results.writer:
        for batch in batches:
            results.add(*batch)
    results.close()
    return json.loads((results.folder / "metrics.json").read_text())


def batch(real, fake, **more):
    return {"fake_B": fake.clone(), "real_B": real.clone(), **more}, [f"{n}.png" for n in range(len(real))]


def test_chosen_metrics_are_on_the_page_and_in_the_file(images, tmp_path, capsys):
    found = results_of(tmp_path, [batch(images, images.flip(3))], True, metrics=("ssim", "regions_fd", "L1", "total"))
    assert list(found["images"]["0"]) == ["ssim", "L1"] and list(found["mean"]) == ["ssim", "L1"]
    assert found["images"]["1"]["L1"] == pytest.approx((images[1] - images[1].flip(2)).abs().mean().item(), rel=1e-6)
    assert found["sets"]["total of fake_B"] == {"value": 0.5, "error": None, "n": 4}
    assert found["sets"]["regions_fd of fake_B"]["n"] == 4
    assert "regions_fd of fake_B" in capsys.readouterr().out
    assert "regions_fd of fake_B" in (tmp_path / "run/test_latest/index.html").read_text()


def test_without_the_flag_l1_psnr_and_pairs_of_plugins(images, tmp_path):
    found = results_of(tmp_path, [batch(images, images.flip(3))], True)
    assert list(found["mean"]) == ["L1", "PSNR"] and "sets" not in found


def test_without_the_flag_the_metrics_of_the_run_too(images, tmp_path, capsys):
    """Those of pairs where there are pairs; what cannot measure these images is skipped with a note."""
    saved = {"metrics": ("psnr", "ms_ssim", "ssim", "regions_fd")}
    found = results_of(tmp_path / "one", [batch(images, images.flip(3))], True, saved=saved)
    assert list(found["mean"]) == ["L1", "PSNR", "ssim"] and list(found["sets"]) == ["regions_fd of fake_B"]
    assert capsys.readouterr().out.count("note: metric ms_ssim is skipped (metric 'ms_ssim'") == 1
    found = results_of(tmp_path / "two", [batch(images, images.flip(3))], False, saved=saved)
    assert "mean" not in found and list(found["sets"]) == ["regions_fd of fake_B"]
    found = results_of(tmp_path / "three", [batch(images, images)], True, saved=saved, metrics=("l1",))
    assert list(found["mean"]) == ["L1"] and "sets" not in found


def test_unpaired_images_that_return_count_once(images, tmp_path, capsys):
    """A has four images and B two, so that each of B is shown with two of A."""
    other = images.flip(3)[:2]
    more = {"real_A": images, "fake_A": other[[0, 1, 0, 1]], "rec_A": images}
    shown, paths = batch(other[[0, 1, 0, 1]], images.flip(2), **more)
    found = results_of(tmp_path, [(shown, paths, ["x.png", "y.png"] * 2)], False, metrics=("regions_fd",))
    assert {name: row["n"] for name, row in found["sets"].items()} == {
        "regions_fd of fake_B": 4,
        "regions_fd of fake_A": 2,
    }
    out = capsys.readouterr().out
    assert "note: regions_fd of fake_B: 4 generated images against 2 real ones" in out
    with pytest.raises(OptionError, match="ssim compares pairs, and this data set has none"):
        make_results(tmp_path / "other", "run", compare=False, metrics=("regions_fd", "ssim"))


def test_all_results_of_an_image_are_in_the_set(images, tmp_path):
    shown = {"real_A": images, "fake_B_1": images.flip(2), "fake_B_2": images.flip(3), "real_B": images}
    found = results_of(tmp_path, [(shown, list("abcd"))], True, num_results=2, metrics=("ssim", "regions_fd"))
    assert list(found["mean"]) == ["ssim best of 2", "L1 between results"]
    assert found["sets"]["regions_fd of fake_B"]["n"] == 8


def test_what_is_not_computed_is_said(images, tmp_path, capsys):
    results_of(tmp_path / "one", [batch(images[:1], images[:1])], True, metrics=("regions_fd",))
    assert "note: regions_fd of fake_B is not computed (metric 'regions_fd'" in capsys.readouterr().out
    shown = {"real_A": images, "fake_B": images}
    results_of(tmp_path / "none", [(shown, list("abcd"))], False, metrics=("regions_fd",))
    assert "note: --metrics has no effect" in capsys.readouterr().out


def test_a_metric_of_a_plugin_that_cannot_be_made_is_skipped(images, tmp_path, monkeypatch, capsys):
    def broken():
        raise OptionError("weights", "x", "are missing", "give them")

    kinds = {"lacking": type("Lacking", (Total,), {"__init__": lambda self: broken()}), "own": lambda fake, real: 2}
    for name, metric in kinds.items():
        monkeypatch.setitem(METRICS, name, metric)
        monkeypatch.setitem(METRICS.origins, name, "plugin.py")
    found = results_of(tmp_path, [batch(images, images)], True)
    assert list(found["mean"]) == ["L1", "PSNR", "own"] and found["mean"]["own"] == 2
    assert "note: metric lacking is skipped (weights 'x'" in capsys.readouterr().out
