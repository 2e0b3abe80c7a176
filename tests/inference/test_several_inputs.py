"""A run with several inputs is tested without a flag, on data of any layout, and shows each input."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from inference.visuals import collect_visuals
from models.base import BaseModel
from tests.support.runs import SMALL
from tests.support.tested_runs import pixels

TRAIN = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--n_epochs", 1, "--n_epochs_decay", 0,
         "--load_size", 32, "--crop_size", 32]  # fmt: skip


def image_of(side, number):
    rng = np.random.default_rng([ord(side[-1]), number])
    if side == "A2":
        return Image.fromarray((rng.random((32, 32)) > 0.5).astype(np.uint8) * 255)
    if side == "A3":
        return Image.fromarray(rng.integers(0, 4096, (32, 32)).astype(np.uint16))
    return Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))


def write(root, place="{phase}{side}", phases=("train", "test"), sides=("A1", "A2", "A3", "B"), count=2):
    for phase in phases:
        for side in sides:
            folder = root / place.format(phase=phase, side=side)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image_of(side, number).save(folder / f"{number}.png")
    return root


def write_manifest(file, columns, root, phase="test", count=2, **values):
    """Write a manifest with columns {name: side}."""
    with open(file, "w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow([*columns, *values])
        for number in range(count):
            writer.writerow(
                [*(root / f"{phase}{side}" / f"{number}.png" for side in columns.values()), *values.values()]
            )
    return file


@pytest.fixture
def trained(command, tmp_path):
    """Train the run `many` on A1 (colours), A2 (a mask) and A3 (16 bits); return its folder."""
    ended = command("train", *TRAIN, "--dataroot", write(tmp_path / "data"), "--name", "many", "--range_A", ";;0,4095")
    assert ended.code == 0, ended.err
    return tmp_path / "checkpoints" / "many"


def test_a_run_remembers_its_inputs_and_shows_each(trained, command, tmp_path):
    options = json.loads((trained / "options.json").read_text())["options"]
    assert (options["input_nc"], options["inputs"]) == (5, "A1:3,A2:1,A3:1")
    assert options["range_A"] == ";;0,4095 uint16"
    shown = {path.name for path in (trained / "web" / "images").glob("epoch001_*")}
    assert shown == {f"epoch001_{label}.png" for label in ("real_A1", "real_A2", "real_A3", "fake_B", "real_B")}
    ended = command("test", "--name", "many")
    assert ended.code == 0 and "mean over the images: L1" in ended.out, ended.err
    images = tmp_path / "results" / "many" / "test_latest" / "images"
    for number in range(2):
        for side in ("A1", "A2", "A3"):  # each as it was read, in its own type
            stored = np.asarray(image_of(side, number))
            assert np.array_equal(pixels(images / f"{number}_real_{side}.png"), stored), side
    preview = pixels(images / "0_real_A3_preview.png")
    assert preview.dtype == np.uint8 and preview.max() > 200
    assert not list(images.glob("*_real_A.*"))
    again = command("train", *TRAIN, "--name", "many", "--continue_train", "--n_epochs", 2)
    assert again.code == 0, again.err
    another = command("train", "--config", trained / "options.json", "--name", "another")
    assert another.code == 0 and "A of 5 channels" in another.out, another.err


NEW = {  # where new inputs are -> the path to give, and whether there are targets
    "testA1, testA2, testA3": (lambda p: write(p / "n", phases=["test"], sides=["A1", "A2", "A3"]), False),
    "with testB": (lambda p: write(p / "n", phases=["test"]), True),
    "nested": (lambda p: write(p / "n", "{side}/{phase}", phases=["test"]), True),
    "A1, without phases": (lambda p: write(p / "n", "{side}", phases=["test"], sides=["A1", "A2", "A3"]), False),
    "val": (lambda p: write(p / "n", phases=["val"]), True),
    "too deep": (lambda p: write(p / "n" / "deep", phases=["test"]).parent, True),
    "zip": (lambda p: shutil.make_archive(str(p / "n"), "zip", write(p / "n", phases=["test"])), True),
    "manifest": (
        lambda p: write_manifest(p / "x.csv", {"A1": "A1", "a2": "A2", "a3": "A3", "b": "B"}, write(p / "n")), True,
    ),
    "manifest without b": (
        lambda p: write_manifest(p / "x.csv", {"a3": "A3", "a2": "A2", "a1": "A1"}, write(p / "n")), False,
    ),
}  # fmt: skip


def test_new_inputs_are_found_wherever_they_are(trained, command, tmp_path):
    for place, (make, has_targets) in NEW.items():
        root = tmp_path / place
        root.mkdir()
        ended = command("test", "--name", "many", make(root), "--results_dir", root / "results")
        assert ended.code == 0, f"{place}: {ended.err}"
        assert ("mean over" in ended.out) == has_targets, place
        assert "inputs: A1 (3 channels) + A2 (1 channel) + A3 (1 channel) = A of 5 channels" in ended.out, place
        (images,) = root.glob("results/many/*/images")
        assert np.array_equal(pixels(images / "1_real_A2.png"), np.asarray(image_of("A2", 1))), place
        assert (images / "1_real_B.png").exists() == has_targets and (images / "1_fake_B.png").exists(), place


def test_what_lacks_an_input_is_refused_in_one_line(trained, command, tmp_path):
    alone = write(tmp_path / "alone", phases=["test"], sides=["A1", "A3"])
    manifest = write_manifest(tmp_path / "m.csv", {"a1": "A1", "a3": "A3"}, alone)
    cases = [
        ([alone], 3, ["the inputs A1, A2, A3", "no images in testA2", "columns a1, a2, a3"]),
        ([alone / "testA1"], 3, ["the inputs A1, A2, A3"]),
        ([alone / "testA1" / "0.png"], 3, ["the inputs A1, A2, A3"]),
        ([manifest], 3, ["has no column A2"]),
        (["--dataset_mode", "single", "--dataroot", alone], 2, ["--inputs", "omit --dataset_mode"]),
        (["--direction", "BtoA"], 2, ["--direction"]),
        (["--inputs", "A1,A2"], 2, ["--inputs", "A1:3,A2:1,A3:1"]),
        (["--inputs", "A1:1,A2,A3"], 2, ["--inputs", "A1:3,A2:1,A3:1"]),
    ]
    for flags, code, said in cases:
        ended = command("test", "--name", "many", *flags)
        last = ended.err.splitlines()[-1]
        assert ended.code == code and all(text in last for text in said), last
    assert not (tmp_path / "results").exists()


def test_inputs_of_other_names_take_the_places_of_the_first(trained, command, tmp_path):
    root = write(tmp_path / "new", phases=["test"])
    for old, new in {"A1": "photo", "A2": "mask", "A3": "depth"}.items():
        (root / f"test{old}").rename(root / f"test{new}")
    ended = command("test", "--name", "many", root, "--inputs", "photo,mask,depth")
    assert ended.code == 0, ended.err
    assert "A1 = photo (3 channels) + A2 = mask (1 channel)" in ended.out
    found = tmp_path / "results" / "many" / "new_latest" / "images" / "1_real_A2.png"
    assert np.array_equal(pixels(found), np.asarray(image_of("A2", 1)))


COND = """
import torch
from torch.nn import functional as F
from models.base import BaseModel, Phase
from networks import generator

class Cond(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    def __init__(self, o, spec):
        super().__init__()
        self.G = generator(o, spec.input_nc + 3, spec.output_nc)
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        A = batch["A"]
        assert isinstance(batch["caption"], list) and len(batch["caption"]) == len(A)
        more = torch.cat([batch["attr"], batch["age"][:, None].float()], 1)
        fake = self.G(torch.cat([A, more[:, :, None, None].expand(-1, -1, *A.shape[2:])], 1))
        return {"real_A": A, "fake_B": fake} | ({"real_B": batch["B"]} if "B" in batch else {})
    def loss(self, batch, out):
        return {"L1": F.l1_loss(out["fake_B"], batch["B"])}
"""


def test_a_plug_in_gets_the_columns_in_training_and_in_test(command, tmp_path):
    root = write(tmp_path / "data", sides=("A1", "A2", "B"), count=4)
    values = {"age": 3, "attr_x": 1, "attr_y": 0.5, "caption": "words"}
    sides = {"a1": "A1", "a2": "A2", "b": "B"}
    file = write_manifest(tmp_path / "train.csv", sides, root, "train", 4, **values)
    (tmp_path / "cond.py").write_text(COND)
    more = ["--plugin", "cond.py", "--batch_size", 2, "--accumulate", 2, "--num_threads", 1, "--name", "cond"]
    ended = command("train", *TRAIN, "--model", "cond", "--dataroot", file, *more)
    assert ended.code == 0, ended.err
    assert (
        "columns in each batch: age (whole numbers), caption (texts), attr (vectors of 2: attr_x, attr_y)" in ended.out
    )
    for test_sides in (sides, {"a1": "A1", "a2": "A2"}):
        new = write_manifest(tmp_path / "new.csv", test_sides, root, **values | {"age": 7})
        ended = command("test", "--name", "cond", new)
        assert ended.code == 0 and "4 images" not in ended.out and "2 images" in ended.out, ended.err
    ended = command(
        "test", "--name", "cond", write_manifest(tmp_path / "bad.csv", sides, root, **values | {"age": "x"})
    )
    assert ended.code == 3 and "column age of texts; the run was trained with age as whole numbers" in ended.err
    ended = command("test", "--name", "cond", root)
    assert ended.code == 2 and "batches have no age, attr, caption, columns of the manifest" in ended.out


def test_inputs_take_the_place_of_their_stack():
    class Model(BaseModel):
        def forward(self, batch):
            return batch

    o = SimpleNamespace(input_nc=4, output_nc=3, inputs="A1:3,A2:1")
    out = {"real_A": torch.zeros(1, 4, 2, 2), "fake_B": torch.zeros(1, 3, 2, 2)}
    assert list(collect_visuals(Model(), out, o)) == ["real_A1", "real_A2", "fake_B"]
    o.inputs = ""
    assert list(collect_visuals(Model(), out, o)) == ["fake_B", "real_A"]


def test_a_run_with_one_input_asks_which_of_several(tested, command, runs, tmp_path):
    root = write(tmp_path / "new", phases=["test"])
    ended = command("test", "--checkpoints_dir", runs / "checkpoints", "--name", "p2p", root)
    assert ended.code == 3 and "has the inputs A1, A2, A3, but the run takes one" in ended.err
    assert f"{root / 'testA1'}" in ended.err
    assert tested("--name", "p2p", root / "testA1").page.exists()
