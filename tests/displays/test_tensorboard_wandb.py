"""TensorBoard and W&B show the values of losses.jsonl, and continue with a resumed run."""

import base64
import importlib.util
import io
import json
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import displays.wandb
from displays.base import DISPLAYS, Sink
from tests.support.packages import is_installed, needs
from tests.support.runs import SMALL
from tests.support.training_runs import DEMO, rows
from tests.support.wandb_runs import history, offline_runs, records

FEW = [*SMALL, *DEMO, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 2, "--n_epochs_decay", 0,
       "--max_dataset_size", 3, "--print_freq", 1, "--fixed_samples", 2, "--name", "run"]  # fmt: skip


# --- TensorBoard


def board(folder):
    """What TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    shown.Reload()
    return shown


def scalars(shown, name):
    """[(images seen, value)]"""
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in shown.Scalars(name)]


def logged(folder, name):
    return [(row["samples"], row["losses"][name]) for row in rows(folder)[0]]


@needs("tensorboard")
def test_tensorboard_shows_every_loss_and_picture_of_the_run(command, tmp_path):
    assert command("train", *FEW, "--displays", "tensorboard").code == 0
    folder = tmp_path / "checkpoints" / "run"
    shown, (steps, epochs) = board(folder), rows(folder)
    losses = list(steps[0]["losses"])
    assert set(shown.Tags()["scalars"]) == {
        *losses,
        *(f"mean/{n}" for n in losses),
        "lr",
        "seconds/data",
        "seconds/compute",
        "seconds/display",
        "seconds/save",
    }
    for name in losses:
        assert scalars(shown, name) == logged(folder, name)
        assert scalars(shown, f"mean/{name}") == [(row["samples"], row["mean"][name]) for row in epochs]
    labels = ["real_A", "fake_B", "real_B"]
    assert set(shown.Tags()["images"]) == {f"{kind}/{label}" for kind in ("results", "samples") for label in labels}
    assert [image.step for image in shown.Images("samples/fake_B")] == [3, 6]
    sheet = np.asarray(Image.open(io.BytesIO(shown.Images("samples/real_A")[0].encoded_image_string)))
    assert sheet.shape == (34, 68, 3)  # two of 32 pixels, with what is between


@needs("tensorboard")
def test_a_resumed_run_has_no_point_twice_and_none_too_few(command, tmp_path):
    folder = tmp_path / "checkpoints" / "run"
    flags = [*FEW, "--displays", "tensorboard", "--save_epoch_freq", 1]
    assert command("train", *flags).code == 0
    (folder / "state_000000006.pt").unlink()  # as if killed in the second epoch
    ended = command("train", *flags, "--n_epochs", 3, "--continue_train")
    assert "continuing at epoch 2" in ended.out, ended.err
    assert [row["samples"] for row in rows(folder)[0]] == list(range(1, 10))
    shown = board(folder)
    for name in ("G_L1", "D_real"):
        assert scalars(shown, name) == logged(folder, name)
    assert [event.step for event in shown.Scalars("mean/G_L1")] == [3, 6, 9]


@needs("tensorboard")
def test_a_run_that_takes_the_place_of_another_shows_only_itself(command, tmp_path):
    for overwrite in ([], ["--overwrite", "--n_epochs", 1]):
        assert command("train", *FEW, "--displays", "tensorboard", *overwrite).code == 0
    assert [event.step for event in board(tmp_path / "checkpoints" / "run").Scalars("G_L1")] == [1, 2, 3]


def test_tensorboard_that_is_not_installed_is_a_note(command, tmp_path, monkeypatch):
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "tensorboard" or "utils.tensorboard" in name
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    ended = command("train", *FEW, "--displays", "console,tensorboard")
    assert ended.code == 0, ended.err
    notes = [line for line in ended.out.splitlines() if "tensorboard" in line]
    assert len(notes) == 1 and "is not installed; pip install -r requirements-extras.txt" in notes[0]
    assert not (tmp_path / "checkpoints" / "run" / "tensorboard").exists()


# --- Weights & Biases


@pytest.fixture
def children(monkeypatch):
    """The processes that log to Weights & Biases; a test ends only when they have."""
    begun, popen = [], displays.wandb.subprocess.Popen

    def noted(*args, **kwargs):
        begun.append(popen(*args, **kwargs))
        return begun[-1]

    monkeypatch.setattr(displays.wandb.subprocess, "Popen", noted)
    yield begun
    for process in begun:
        process.wait(60)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """wandb without access to a server, and without an API key."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))


@needs("wandb")
def test_wandb_holds_every_loss_and_picture_of_the_run(command, children, offline, tmp_path):
    ended = command(
        "train", *FEW, "--use_wandb", "--wandb_project_name", "ours", "--displays", "console", "--display_freq", 1
    )
    assert ended.code == 0, ended.err
    (child,) = children
    assert child.wait(60) == 0
    folder = tmp_path / "checkpoints" / "run"
    (run,) = offline_runs(folder)
    found, (steps, epochs) = history(run), rows(folder)
    for name in steps[0]["losses"]:
        assert [(row["_step"], row[name]) for row in found] == logged(folder, name)
        means = [(row["_step"], row[f"mean/{name}"]) for row in found if f"mean/{name}" in row]
        assert means == [(row["samples"], row["mean"][name]) for row in epochs]
    kinds = {name for row in found for name in row if "/" in name and name.endswith("_type")}
    assert kinds >= {f"samples/{label}/_type" for label in ("real_A", "fake_B", "real_B")}
    begun = next(r.run for r in records(next(run.glob("run-*.wandb"))) if r.WhichOneof("record_type") == "run")
    config = {item.key: item.value_json for item in begun.config.update}
    assert (begun.project, begun.display_name, config["netG"]) == ("ours", "run", '"resnet_4blocks"')


@needs("wandb")
def test_wandb_goes_on_under_its_id_with_an_unbroken_curve(command, children, offline, tmp_path):
    folder = tmp_path / "checkpoints" / "run"
    flags = [*FEW, "--displays", "wandb", "--save_epoch_freq", 1]
    assert command("train", *flags).code == 0
    children[0].wait(60)
    first = offline_runs(folder)[0].name.rpartition("-")[2]
    (folder / "state_000000006.pt").unlink()  # as if killed in the second epoch
    assert command("train", *flags, "--n_epochs", 3, "--continue_train").code == 0
    children[1].wait(60)
    newest = offline_runs(folder)[-1]
    assert newest.name.endswith(first)
    assert [(row["_step"], row["G_L1"]) for row in history(newest)] == logged(folder, "G_L1")
    assert [row["_step"] for row in history(newest)] == list(range(1, 10))
    assert command("train", *flags, "--overwrite").code == 0  # another run, another id
    children[2].wait(60)
    ids = {run.name.rpartition("-")[2] for run in offline_runs(folder)}
    assert len(ids) == 2


def test_a_line_to_the_process_holds_the_pictures(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = displays.wandb._as_json({"samples": 3, "pictures": {"results/x": {"x": array, "y": array[:, :, :1]}}})
    found = json.loads(json.dumps(message))["pictures"]["results/x"]
    decoded = [(caption, np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))) for caption, png in found]
    assert [caption for caption, _ in decoded] == ["x", "y"]
    assert np.array_equal(decoded[0][1], array) and np.array_equal(decoded[1][1], array[:, :, 0])


def test_a_folder_of_earlier_runs_is_not_taken_for_the_package(tmp_path, monkeypatch):
    """The reference leaves a folder wandb/ where it runs."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if not (Path(p) / "wandb").is_dir())])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    assert importlib.util.find_spec("wandb") is not None
    assert not displays.wandb._is_wandb_installed()


# --- all of them


class Kept(Sink):
    """Keeps the scalars that a display is handed."""

    loss_freq = 1
    seen: list = []

    def __init__(self, o, folder):
        Kept.seen = []

    def losses(self, at, values):
        self.seen.append((at.samples, values))


@pytest.mark.parametrize(
    "others",
    [
        "",
        "console",
        "html",
        "console,health,html,visdom",
        *(
            pytest.param(names, marks=pytest.mark.extras)
            for names in (  # notes without the packages, and the same losses
                "tensorboard",
                "wandb",
                "console,health,html,tensorboard,visdom,wandb",
            )
        ),
    ],
)
def test_any_displays_are_shown_the_same_and_change_nothing(command, children, offline, tmp_path, monkeypatch, others):
    """Which others there are makes no difference to the losses, nor to what one of them is shown."""
    monkeypatch.setitem(DISPLAYS.origins, "kept", "built in")
    dict.__setitem__(DISPLAYS, "kept", Kept)
    try:
        folder = tmp_path / "checkpoints" / "run"
        assert command("train", *FEW, "--displays", "kept").code == 0
        alone, plain = list(Kept.seen), rows(folder)[0]
        ended = command(
            "train",
            *FEW,
            "--displays",
            f"kept,{others}".strip(","),
            "--overwrite",
            "--display_id",
            1,
            "--display_port",
            9,
        )
        assert ended.code == 0, ended.err
    finally:
        dict.pop(DISPLAYS, "kept")
    assert alone == Kept.seen == [(row["samples"], row["losses"]) for row in plain]
    assert [row["losses"] for row in rows(folder)[0]] == [row["losses"] for row in plain]
    if "tensorboard" in others and is_installed("tensorboard"):
        assert scalars(board(folder), "G_L1") == logged(folder, "G_L1")
    if "wandb" in others and is_installed("wandb"):
        children[-1].wait(60)
        assert [row["G_L1"] for row in history(offline_runs(folder)[-1])] == [v for _, v in logged(folder, "G_L1")]


def test_weights_and_biases_get_the_rows_of_every_kind(tmp_path):
    from displays.wandb_child import LossReader

    every = [
        {"samples": 1, "losses": {"G": 1.0, "D": None}},
        {"samples": 4, "mean": {"G": 0.5}, "lr": 0.1},
        {"samples": 4, "metrics": {"ssim": [0.25, None, 8], "fid": [None, None, 8]}, "best": {}},
    ]
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in every))
    told = []
    run = SimpleNamespace(step=0, log=lambda values, step: told.append((step, values)))
    LossReader(str(tmp_path / "losses.jsonl"), run).log()
    assert told == [(1, {"G": 1.0}), (4, {"mean/G": 0.5, "lr": 0.1}), (4, {"metric/ssim": 0.25})]
