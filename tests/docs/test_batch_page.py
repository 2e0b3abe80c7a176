"""docs/batch.md says what a batch is at each station, and where each station is."""

import re

import pytest
import torch

from data.loading.loader import Loader
from displays.html import Html
from inference.visuals import first_visuals
from options.parse import parse
from options.store import fill_from_dataset
from registry.lookup import find
from tests.support.images import picture
from tests.support.runs import ROOT
from train import train_step
from training.loss_meter import LossMeter
from training.train_state import TrainState
from util.progress import Progress

PAGE = (ROOT / "docs/batch.md").read_text(encoding="utf-8")
ROWS = {row[0]: row[1:] for line in PAGE.splitlines() if (row := [cell.strip() for cell in line.split("|")[1:-1]])
        and row[0][:1].isdecimal()}  # fmt: skip


def words(text):
    return re.findall(r"`([\w.]+)`", text)


@pytest.mark.parametrize("number", ROWS)
def test_each_station_is_in_its_file(number):
    station, places, _ = ROWS[number]
    paths = re.findall(r"`([\w./]+\.py)`", places)
    assert len(paths) == places.count("`") // 2 > 0
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in paths}
    for name in words(station):
        *owner, last = name.split(".")
        found = [text for text in sources.values() if re.search(rf"(def|class) {last}\b", text)]
        assert found and all(re.search(rf"class {each}\b", "".join(sources.values())) for each in owner), name


def first_step(*argv):
    """Return the model, options, first sample, first batch, outputs and losses of a run's first step."""
    flags = ["--ngf", "1", "--ndf", "1", "--num_threads", "0", "--gpu_ids", "-1"]
    o = parse([*argv, *flags], "train")
    dataset = find("dataset", o.dataset_mode)(o)
    model = find("model", o.model)(o, fill_from_dataset(o, dataset.spec()))
    batch = next(Loader(dataset, o, shuffle=True).epoch(1))
    state = TrainState.from_options(model, o)
    return model, o, dataset[0], batch, *train_step(state, batch, state.now(0))


def told(number):
    return ROWS[number][-1]


def test_what_there_is_after_each_station(tmp_path):
    """A pair goes the way, with the default sizes and small networks."""
    (tmp_path / "facades" / "train").mkdir(parents=True)
    picture(0, 512, 256).save(tmp_path / "facades" / "train" / "1.jpg")
    dataroot = str(tmp_path / "facades")
    model, o, sample, batch, out, losses = first_step("--model", "pix2pix", "--dataroot", dataroot, "--name", "fac")
    meter = LossMeter()
    meter.add(losses)
    pictures = first_visuals(model, out, o)
    assert list(sample) == ["A", "B", "path_A", "path_B"] == words(told("5")) and "(3, 256, 256)" in told("5")
    assert sample["A"].shape == sample["B"].shape == (3, 256, 256) and sample["A"].dtype == torch.float32
    assert list(batch) == words(told("6")) and "(1, 3, 256, 256)" in told("6") and batch["A"].shape == (1, 3, 256, 256)
    assert batch["path_A"] == [str(tmp_path / "facades" / "train" / "1.jpg")]
    assert ["out", *out] == words(told("9")) and {value.shape for value in out.values()} == {(1, 3, 256, 256)}
    terms = [name for phase in losses.values() for name in phase]
    assert list(losses) == ["D", "G"] and ["losses", *terms] == words(told("10"))
    assert [phase.weight for phase in model.phases()] == [0.5, 1.0] and "(D: 0.5)" in ROWS["10"][0]
    assert list(meter.latest) == terms and not any(value.requires_grad for value in meter.latest.values())
    assert list(pictures) == words(told("13")) and pictures["fake_B"].shape == (256, 256, 3)
    assert str(pictures["fake_B"].dtype) == "uint8"
    run = tmp_path / "checkpoints" / "fac"
    run.mkdir(parents=True)
    Html(o, run).images(Progress(epoch_size=1, last_epoch=1), pictures)
    assert all((run / name).is_file() for name in re.findall(r"`(web/[\w./]+)`", told("14")))


def test_what_there_is_of_cycle_gan():
    argv = ["--model", "cycle_gan", "--dataroot", "demo", "--name", "h2z", "--crop_size", "32", "--load_size", "32"]
    model, o, sample, batch, out, losses = first_step(*argv)
    assert list(sample) == list(batch) == words(told("5"))
    assert ["out", *out] == words(told("9, two ways"))
    assert list(losses) == ["G", "D"]
    assert ["losses", *(name for phase in losses.values() for name in phase)] == words(told("10, two ways"))
    assert [phase.weight for phase in model.phases()] == [1.0, 1.0] and "weight 1" in ROWS["10, two ways"][0]
    assert (
        len(first_visuals(model, out, o)) == 8 == sum(map(len, losses.values()))
        and "eight images and eight terms" in PAGE
    )
