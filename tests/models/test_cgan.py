"""cgan trains on labelled images, and test.py writes samples and sheets of each class."""

import gzip
import json
import re
import struct
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from data.base import Spec
from inference.sampling import Request, sample_sheets
from registry.lookup import find
from tests.support.images import picture
from tests.support.runs import options
from util.errors import DataError, OptionError

CLASSES = ("bird", "cat", "dog")
TINY = ["--gpu_ids", "-1", "--ngf", "4", "--ndf", "4", "--crop_size", "16", "--num_threads", "0", "--display_id", "0",
        "--batch_size", "4", "--latent_dim", "5", "--embedding_dim", "3"]  # fmt: skip


@pytest.fixture
def labelled(tmp_path):
    """A folder for each class, of 4, 3 and 2 pictures."""
    for n, (name, count) in enumerate(zip(CLASSES, (4, 3, 2), strict=True)):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        for i in range(count):
            picture(10 * n + i, 20, 20).save(tmp_path / "zoo" / name / f"{i}.png")
    return tmp_path / "zoo"


def dataset(root, *flags):
    o = options("--model", "cgan", "--dataroot", str(root), "--load_size", "16", "--crop_size", "16", *flags)
    return find("dataset", "labeled")(o)


def model(cond="projection", size=16, gan_mode="vanilla"):
    o = options("--model", "cgan", "--cond", cond, "--gan_mode", gan_mode, "--latent_dim", "5", "--embedding_dim", "3")
    return find("model", "cgan")(o, Spec(3, 3, size, size, CLASSES))


def test_folders_are_classes_in_the_order_of_their_names(labelled):
    data = dataset(labelled)
    assert data.spec() == Spec(3, 3, 16, 16, CLASSES)
    assert sorted((s["label"], s["path_A"].split("/")[-2]) for s in data) == [
        *[(0, "bird")] * 4,
        *[(1, "cat")] * 3,
        *[(2, "dog")] * 2,
    ]


def test_classes_selects_and_a_wrong_one_is_answered(labelled):
    assert dataset(labelled, "--classes", "dog,bird").classes == ("bird", "dog")
    with pytest.raises(OptionError, match="no class 'cow'; choose from bird, cat, dog"):
        dataset(labelled, "--classes", "cow")


def test_classes_are_read_as_people_write_them(labelled):
    assert dataset(labelled, "--classes", " dog, bird,dog,").classes == ("bird", "dog")
    (labelled / "cats, dogs").mkdir()
    picture(1).save(labelled / "cats, dogs" / "0.png")
    assert dataset(labelled, "--classes", "cats, dogs").classes == ("cats, dogs",)


def test_an_empty_class_folder_is_named_unless_not_chosen(labelled):
    (labelled / "empty").mkdir()
    with pytest.raises(DataError, match=r"its folder .empty. holds no images; .*--classes"):
        dataset(labelled)
    assert dataset(labelled, "--classes", "cat").classes == ("cat",)


def test_folders_of_phases_are_no_classes(tmp_path):
    for name in ("train", "test"):
        (tmp_path / "set" / name).mkdir(parents=True)
        picture(1).save(tmp_path / "set" / name / "a.png")
    assert dataset(tmp_path / "set").classes == ("set",)
    with pytest.raises(DataError, match="has no folders of classes"):
        dataset(tmp_path / "set", "--phase", "val")


def test_a_limit_leaves_something_of_each_class(labelled):
    assert [s["label"] for s in dataset(labelled, "--max_dataset_size", "5")] == [0, 1, 2, 0, 1]


def test_a_folder_without_classes_is_one_class(tmp_path):
    (tmp_path / "flat" / "empty").mkdir(parents=True)
    picture(1).save(tmp_path / "flat" / "a.png")
    found = dataset(tmp_path / "flat")
    assert found.classes == ("flat",) and len(found) == 1


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress], ids=["plain", "gz"])
def test_mnist_files_are_read_directly(tmp_path, pack):
    pixels = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    end = "" if pack(b"x") == b"x" else ".gz"
    images = struct.pack(">4I", 0x803, 3, 28, 28) + pixels.tobytes()
    (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(pack(images))
    (tmp_path / f"train-labels-idx1-ubyte{end}").write_bytes(pack(struct.pack(">2I", 0x801, 3) + bytes([7, 0, 7])))
    data = dataset(tmp_path, "--load_size", "28", "--crop_size", "28", "--input_nc", "1")
    assert data.classes == ("0", "7")
    assert [s["label"] for s in data] == [0, 1, 1]
    assert np.array_equal(((data[0]["A"][0] + 1) * 127.5).round().byte().numpy(), pixels[1])
    (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(pack(images[:-1]))
    with pytest.raises(DataError, match="is not an idx file"):
        dataset(tmp_path)
    (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(pack(struct.pack(">4I", 0x803, 2, 28, 28) + bytes(1568)))
    with pytest.raises(DataError, match="holds 2 images and 3 labels"):
        dataset(tmp_path)
    damaged = bytearray(pack(images))
    damaged[20:40] = bytes(20)
    if end:
        (tmp_path / f"train-images-idx3-ubyte{end}").write_bytes(damaged)
        with pytest.raises(DataError, match="is not an idx file"):
            dataset(tmp_path)
    (tmp_path / f"train-images-idx3-ubyte{end}").unlink()
    with pytest.raises(DataError, match="has train-labels-idx but no train-images-idx"):
        dataset(tmp_path)


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("cond", ["concat", "projection"])
def test_any_power_of_two_is_a_size(size, cond):
    one = model(cond, size)
    label = torch.tensor([0, 2])
    fake = one.G(torch.randn(2, 5), label)
    assert fake.shape == (2, 3, size, size)
    assert fake.abs().max() <= 1
    assert one.D(fake, label).shape == (2, 1)
    assert not torch.equal(one.D(fake, label), one.D(fake, label.flip(0)))  # it is told the class


def test_noise_is_heard_above_the_class_before_training():
    """Else a class collapses to one picture: within a class pictures have to differ as they do between classes."""
    torch.manual_seed(0)
    G = model(size=32).G.eval()
    z, label = torch.randn(60, 5), torch.arange(60) % 3
    pictures = G(z, label).detach().flatten(1)
    within = [torch.pdist(pictures[label == c]).mean() for c in range(3)]
    assert sum(within) / 3 > 0.97 * torch.pdist(pictures).mean()


@pytest.mark.parametrize(("gan_mode", "norm", "of_D"), [("vanilla", "batch", "batch"), ("wgangp", "batch", "instance"),
    ("hinge", "batch", "batch"), ("wgangp", "none", "none"), ("hinge --penalty r1", "batch", "instance"),
    ("wgangp --penalty none", "batch", "batch")])  # fmt: skip
def test_under_a_penalty_no_norm_mixes_pictures(gan_mode, norm, of_D):
    o = options("--model", "cgan", "--gan_mode", *gan_mode.split(), "--norm", norm)
    one = find("model", "cgan")(o, Spec(3, 3, 32, 32, CLASSES))
    kinds = {"batch": torch.nn.BatchNorm2d, "instance": torch.nn.InstanceNorm2d}
    found = {name for name, kind in kinds.items() if any(isinstance(m, kind) for m in one.D.modules())}
    assert found == {of_D} - {"none"}


def test_other_sizes_and_data_without_classes_are_refused():
    with pytest.raises(OptionError, match="20 is not a power of two"):
        model(size=20)
    with pytest.raises(OptionError, match="with classes"):
        find("model", "cgan")(options("--model", "cgan"), Spec(3, 3, 16, 16))


@pytest.mark.parametrize("gan_mode", ["vanilla", "lsgan", "wgangp", "hinge", "relativistic"])
@pytest.mark.parametrize("cond", ["concat", "projection"])
def test_steps_stay_finite(command, labelled, gan_mode, cond):
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--gan_mode", gan_mode, "--cond", cond, "--name", "z"]
    ended = command("train", *argv, "--print_freq", 4, "--n_epochs", 3, "--n_epochs_decay", 0)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in open("checkpoints/z/losses.jsonl")]
    values = [v for row in rows for v in row.get("losses", {}).values()]
    assert len(values) >= 6
    assert all(v is not None for v in values)
    assert ("D_gp" in rows[0]["losses"]) is (gan_mode == "wgangp")


def test_equal_requests_give_equal_sheets_between_their_latents():
    one = model().eval()
    request = Request("interpolation", ("dog", "bird"), 10, seed=3)
    first, again = sample_sheets(one, request), sample_sheets(one, request)
    assert list(first) == ["dog", "bird"]
    assert all(np.array_equal(a, b) for name in first for a, b in zip(first[name], again[name], strict=True))
    assert not np.array_equal(first["dog"][0], first["dog"][-1])
    samples = sample_sheets(one, Request("per_class", ("dog",), 10, seed=3))["dog"]
    assert np.array_equal(first["dog"][0], samples[0])
    assert np.array_equal(first["dog"][-1], samples[-1])
    other = sample_sheets(one, Request("interpolation", ("dog", "bird"), 10, seed=4))
    assert not np.array_equal(first["dog"][0], other["dog"][0])


def test_a_picture_depends_on_seed_class_and_number_alone():
    """Not on what else is asked for: the training page's grid shows what test.py gives."""
    one = model().eval()
    many = sample_sheets(one, Request("per_class", CLASSES, 70, seed=3))
    few = sample_sheets(one, Request("per_class", ("dog",), 2, seed=3))["dog"]
    row = sample_sheets(one, Request("grid", ("cat", "dog"), 2, seed=3))["grid"]
    for n in range(2):  # as far as sums in batches of other sizes are equal
        assert abs(many["dog"][n].astype(int) - few[n]).max() <= 1
        assert abs(many["dog"][n].astype(int) - row[2 + n]).max() <= 1
    assert not np.array_equal(many["dog"][0], many["cat"][0])


def test_a_run_with_other_classes_is_not_continued(command, labelled, tmp_path):
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--name", "z", "--n_epochs_decay", 0]
    assert command("train", *argv, "--n_epochs", 1).code == 0
    kept = (tmp_path / "checkpoints/z/options.json").read_bytes()
    (labelled / "cat").rename(labelled / "cow")
    ended = command("train", "--name", "z", "--continue_train", "--n_epochs", 2)
    assert (ended.code, ended.last.count("bird, cat, dog")) == (3, 1), ended.err
    assert "the data set has bird, cow, dog" in ended.last
    assert (tmp_path / "checkpoints/z/options.json").read_bytes() == kept


HOSTILE = ("St. Bernard", "v1.5", "v1.6", "<b>&amp;", "été 🐈", "-x", "a" * 230)


def test_class_names_of_any_kind_become_files_of_their_own(command, tmp_path):
    for n, name in enumerate(HOSTILE):
        (tmp_path / "zoo" / name).mkdir(parents=True)
        picture(n, 20, 20).save(tmp_path / "zoo" / name / "0.png")
    argv = [*TINY, "--model", "cgan", "--dataroot", "zoo", "--name", "z", "--n_epochs", 1, "--n_epochs_decay", 0]
    assert command("train", *argv).code == 0
    ended = command("test", "--name", "z", "--num_samples", 1, "--gpu_ids", "-1")
    assert ended.code == 0, ended.err
    images = tmp_path / "results/z/test_latest/images"
    assert len(list(images.iterdir())) == 1 + 2 * len(HOSTILE)
    assert {"St. Bernard_interpolation.png", "v1.5_0000_fake.png", "v1.6_0000_fake.png"} <= {
        p.name for p in images.iterdir()
    }
    page = (images.parent / "index.html").read_text()
    assert "<b>" not in page
    for link in re.findall('src="([^"]*)"', page):
        assert (images.parent / unquote(link)).is_file(), link


def test_a_foreign_run_folder_writes_only_into_the_results(command, labelled, tmp_path):
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--name", "z", "--n_epochs", 1, "--n_epochs_decay", 0]
    assert command("train", *argv).code == 0
    path = tmp_path / "checkpoints/z/options.json"
    told = json.loads(path.read_text())
    told["spec"]["classes"] = ["../../../evil", "/tmp/evil", "..\\evil"]
    path.write_text(json.dumps(told))
    before = {p for p in tmp_path.rglob("*") if "results" not in p.parts}
    ended = command("test", "--name", "z", "--num_samples", 1, "--gpu_ids", "-1")
    assert ended.code == 0, ended.err
    assert {p for p in tmp_path.rglob("*") if "results" not in p.parts} - before == {path.with_name("test_opt.txt")}
    assert len(list((tmp_path / "results/z/test_latest/images").iterdir())) == 7
    for broken in ({}, {"classes": 3}, told["spec"] | {"height": "x"}, told["spec"] | {"more": 1}):
        path.write_text(json.dumps(told | {"spec": broken or {"height": 3}}))
        assert command("test", "--name", "z").code == 4, broken


def test_test_py_draws_pictures_and_grids_without_data(command, labelled, tmp_path):
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--name", "z", "--sample_epoch_freq", 1]
    assert command("train", *argv, "--n_epochs", 2, "--n_epochs_decay", 0).code == 0
    run = tmp_path / "checkpoints" / "z"
    assert {p.name for p in (run / "web" / "images").iterdir()} == {f"epoch00{n}_grid.png" for n in (1, 2)}
    assert {p.name for p in run.glob("*_net_G.pth")} == {"1_net_G.pth", "2_net_G.pth", "latest_net_G.pth"}
    labelled.rename(tmp_path / "gone")
    ended = command("test", "--name", "z", "--num_samples", 3, "--classes", "cat,dog", "--gpu_ids", "-1")
    assert ended.code == 0, ended.err
    images = tmp_path / "results" / "z" / "test_latest" / "images"
    singles = {f"{name}_{i:04d}_fake.png" for name in ("cat", "dog") for i in range(3)}
    assert {p.name for p in images.iterdir()} == {
        "grid.png",
        "cat_interpolation.png",
        "dog_interpolation.png",
        *singles,
    }
    assert Image.open(images / "grid.png").size == (3 * 18, 2 * 18)
    assert Image.open(images / "cat_interpolation.png").size == (10 * 18, 18)
    wrong = command("test", "--name", "z", "--classes", "cow")
    assert wrong.code == 2
    assert "choose from bird, cat, dog" in wrong.last


def test_the_demo_has_four_classes(command):
    o = options("--model", "cgan", "--load_size", "16", "--crop_size", "16")
    data = find("dataset", "labeled")(o)
    assert data.classes == ("ball", "box", "cone", "ring")
    assert not torch.equal(data[0]["A"], data[1]["A"])


@pytest.mark.parametrize(("flags", "kept"), [([], {4, 5, 6, 7, 8}), (["--keep_epochs", 2], {7, 8}),
                                             (["--keep_epochs", 0], {1, 2, 3, 4, 5, 6, 7, 8})])  # fmt: skip
def test_the_newest_numbered_weights_are_kept(command, labelled, tmp_path, flags, kept):
    """cgan keeps five, unless told otherwise; files of other names in the folder are left alone."""
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--name", "z", "--save_epoch_freq", 1, "--no_html"]
    run = tmp_path / "checkpoints" / "z"
    run.mkdir(parents=True)
    others = ["1_net_other.pth", "03b_net_G.txt"]
    assert command("train", *argv, *flags, "--n_epochs", 2, "--n_epochs_decay", 0).code == 0
    for name in others:
        (run / name).write_bytes(b"mine")
    assert command("train", "--name", "z", "--continue_train", "--n_epochs", 8).code == 0
    for net in ("G", "D"):
        assert {int(p.name.partition("_")[0]) for p in run.glob(f"[0-9]_net_{net}.pth")} == kept
    assert all((run / name).read_bytes() == b"mine" for name in others)


def test_a_run_from_before_keep_epochs_keeps_all(command, labelled, tmp_path):
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--name", "z", "--save_epoch_freq", 1, "--no_html"]
    assert command("train", *argv, "--n_epochs", 1, "--n_epochs_decay", 0).code == 0
    path = tmp_path / "checkpoints" / "z" / "options.json"
    told = json.loads(path.read_text())
    del told["options"]["keep_epochs"]
    path.write_text(json.dumps(told))
    assert command("train", "--name", "z", "--continue_train", "--n_epochs", 7).code == 0
    assert len(list(path.parent.glob("[0-9]_net_G.pth"))) == 7


def test_a_word_without_flag_is_refused_for_a_model_from_noise(command, labelled, tmp_path):
    """It was a class, typed without --classes: all classes would be drawn into a folder of its name."""
    argv = [*TINY, "--model", "cgan", "--dataroot", labelled, "--name", "z", "--n_epochs", 1, "--n_epochs_decay", 0]
    assert command("train", *argv).code == 0
    ended = command("test", "--name", "z", "--num_samples", 2, "cat")
    assert ended.code == 2 and ended.last.endswith("for a class write --classes cat")
    ended = command("test", "--name", "z", "--num_samples", 2, labelled)
    assert ended.code == 2 and ended.last.endswith("reads no folder or file; omit it")  # a folder is no class
    assert not (tmp_path / "results").exists()
