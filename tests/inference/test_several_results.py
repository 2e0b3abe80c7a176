"""--num_results: results of one image differ, and depend on the seed, their number and the image alone."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inference.batch_translator import Translator
from tests.support.runs import SMALL
from tests.support.tested_runs import pictures
from tests.support.training_runs import run_in

CPU = torch.device("cpu")
NOISY = '''"""noisy: translates, and generates; its noise counts for an image, its memory for the next."""
import numpy
import torch
from torch import nn
from torch.nn import functional as F
from models.base import BaseModel, Phase
class Noisy(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(spec.input_nc, spec.output_nc, 1)
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        A = batch["A"]
        noise = torch.randn(len(A), 3, 1, 1) + numpy.random.rand()
        out = {"real_A": A, "fake_B": (self.G(A) + noise).tanh()}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})
    def loss(self, batch, out):
        return {"L1": F.l1_loss(out["fake_B"], out["real_B"])}
    def sheets(self, request):
        images = torch.rand(request.number, 3, 8, 8, generator=torch.Generator().manual_seed(request.seed))
        return {"noisy": (self.G(images).tanh(), torch.zeros(request.number))}
'''
DEAF = NOISY.replace("noisy", "deaf").replace("Noisy", "Deaf").replace("self.G(A) + noise", "self.G(0 * A) + noise")


class Model(torch.nn.Module):
    """Adds noise and what it remembers of earlier images."""

    def __init__(self, noise=torch.randn):
        super().__init__()
        self.noise, self.memory = noise, 0.0
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        z = self.noise(len(batch["A"]), 1, 1, 1)
        fake = batch["A"] * self.weight + z + self.memory
        self.memory += float(z.sum())
        return {"real_A": batch["A"], "fake_B": fake}

    def show(self, out):
        return out


def image(number, size=8):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(number))


def run(numbers, model=None, way="__call__", **flags):
    """Translate images of these numbers; return the shown images of each."""
    usual = {"eval": True, "batch_size": 1, "tile": 0, "input_nc": 3, "output_nc": 3, "seed": 0, "num_results": 3}
    batches = [{"A": image(n), "path_A": [f"{n}.png"]} for n in numbers]
    translator = Translator(SimpleNamespace(**usual | flags), model or Model(), CPU)
    return {int(files[0][0][:-4]): shown for shown, files in getattr(translator, way)(batches)}


def fakes(shown, first=None):
    return [shown[f"fake_B_{n + 1}"] for n in range(first or len(shown) - 1)]


def test_results_are_numbered_and_inputs_shown_once():
    shown = run([5])[5]
    assert list(shown) == ["real_A", "fake_B_1", "fake_B_2", "fake_B_3"]
    assert len({fake.numpy().tobytes() for fake in fakes(shown)}) == 3


@pytest.mark.parametrize("way", ["translate_parallel", "translate_batched", "__call__"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_result_depends_on_seed_number_and_image_alone(way, threads):
    def forget(*shape):
        model.memory = 0.0
        return torch.randn(*shape)

    model, before = Model(forget), torch.get_num_threads()
    torch.manual_seed(1)
    alone = fakes(run([5], model)[5])
    torch.manual_seed(2)  # nor on where the generators of the process stand
    torch.set_num_threads(threads)
    try:
        among = run([7, 5, 6, 8, 5], model, way, num_results=5)
    finally:
        torch.set_num_threads(before)
    model.memory = 0.0
    assert all(map(torch.equal, alone, fakes(among[5], 3)))
    for n in (1, 2, 3):  # other images have other draws
        assert not torch.allclose(among[7][f"fake_B_{n}"] - image(7), among[5][f"fake_B_{n}"] - image(5), atol=1e-3)
    assert not torch.equal(fakes(run([5], model, seed=1)[5])[0], alone[0])


def test_a_memory_holds_the_first_result_of_each_image():
    shown = run([1, 2])
    assert all(map(torch.equal, fakes(shown[1]), fakes(run([1], num_results=5)[1], 3)))
    (first,) = {round(float(x), 4) for x in (shown[1]["fake_B_1"] - image(1)).flatten()}
    without = fakes(run([2])[2])
    for fake, plain in zip(fakes(shown[2]), without):
        assert torch.allclose(fake - plain, torch.tensor(first), atol=1e-4)


def test_one_result_is_as_before():
    torch.manual_seed(3)
    shown = run([1, 2], num_results=1)
    torch.manual_seed(3)
    assert torch.equal(shown[1]["fake_B"], image(1) + (z := torch.randn(1, 1, 1, 1)))
    assert torch.equal(shown[2]["fake_B"], image(2) + torch.randn(1, 1, 1, 1) + float(z.sum()))


@pytest.mark.parametrize("draw", [torch.zeros, lambda *shape: torch.randn(*shape) * 0])
def test_results_that_do_not_differ_are_shown_once_with_a_note(capsys, draw):
    assert [list(shown) for shown in run([1, 2], Model(draw)).values()] == [["real_A", "fake_B"]] * 2
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "do not differ" in line]
    assert note.startswith("note: the 3 results of an image do not differ")


@pytest.mark.parametrize(("flags", "dropout", "end"), [
    ({}, False, "draws no random numbers"), ({}, True, "(with --no_eval, dropout does)"),
    ({"use_vae": False}, False, "(a run of --use_vae does)"),
])  # fmt: skip
def test_the_note_names_what_would_draw(capsys, flags, dropout, end):
    model = Model(torch.zeros)
    model.part = torch.nn.Dropout() if dropout else torch.nn.Identity()
    run([1], model.eval(), **flags)
    assert capsys.readouterr().out.rstrip().endswith(end)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the runs noisy and deaf."""
    where = tmp_path_factory.mktemp("several")
    for name, text in (("noisy", NOISY), ("deaf", DEAF)):
        (where / f"{name}.py").write_text(text)
        short = ["--max_dataset_size", 4, "--n_epochs", 1, "--n_epochs_decay", 0, "--displays", "console"]
        ended = run_in(where, "train", *SMALL, *short, "--plugin", f"{name}.py", "--model", name, "--name", name)
        assert ended.code == 0, ended.err
    return where


def results_of(where, *argv):
    ended = run_in(where, "test", "--gpu_ids", "-1", "--num_samples", 3, *argv)
    assert ended.code == 0, ended.err
    return ended.out


def test_the_page_and_the_figures_are_of_all_results(runs):
    out = results_of(runs, "--name", "noisy", "--translate", "--num_results", 3, "--num_test", 4)
    folder = runs / "results/noisy/test_latest"
    names = {path.partition("_")[2] for path in pictures(folder / "images")}
    assert names == {"real_A.png", "fake_B_1.png", "fake_B_2.png", "fake_B_3.png", "real_B.png"}
    figures = json.loads((folder / "metrics.json").read_text())
    assert list(figures["mean"]) == ["L1 best of 3", "PSNR best of 3", "L1 between results"]
    assert f"L1 best of 3 {figures['mean']['L1 best of 3']:.4f}" in out and figures["num_results"] == 3
    for name, found in figures["images"].items():
        made = [pictures(folder / "images")[f"{name}_{label}.png"] / 127.5 for label in
                ("real_B", "fake_B_1", "fake_B_2", "fake_B_3")]  # fmt: skip
        assert found["L1 best of 3"] == pytest.approx(min(np.abs(x - made[0]).mean() for x in made[1:]), abs=0.01)
        pairs = [np.abs(made[i] - made[j]).mean() for i, j in ((1, 2), (1, 3), (2, 3))]
        assert found["L1 between results"] == pytest.approx(np.mean(pairs), abs=0.01)
    page = (folder / "index.html").read_text()
    assert "mean absolute difference between two results of one image" in page and "PSNR best of 3" in page


def test_one_sided_images_have_the_difference_alone(runs):
    results_of(runs, "--name", "noisy", "demo/testA", "--num_results", 2, "--num_test", 2)
    figures = json.loads((runs / "results/noisy/testA_latest/metrics.json").read_text())
    assert list(figures["mean"]) == ["L1 between results"]
    assert all(list(found) == ["L1 between results"] for found in figures["images"].values())


@pytest.mark.parametrize(("flags", "translates"), [([], False), (["--generate"], False), (["--translate"], True),
    (["--dataroot", "demo"], True), (["demo/testA"], True), (["--dataroot", "demo", "--generate"], False)])  # fmt: skip
def test_a_flag_or_given_images_decide_what_a_model_does(runs, flags, translates):
    out = results_of(runs, "--name", "noisy", *flags, "--num_test", 1, "--results_dir", "decided")
    assert ("1 image ->" in out) is translates
    assert ("with --translate it translates" in out) is (flags == [])


@pytest.mark.parametrize(("argv", "why"), [
    (["--name", "noisy", "--translate", "--generate"], "'--generate': contradicts --translate"),
    (["--name", "noisy", "--model", "test", "--generate"], "'--generate': test translates images and generates none"),
    (["--name", "deaf", "--translate"], "'--translate': deaf generates images from noise: the input image does not"),
    (["--name", "noisy", "demo/testA", "--generate"], "'demo/testA': noisy generates images from noise and reads no"),
])  # fmt: skip
def test_what_a_model_cannot_do_is_refused(runs, argv, why):
    ended = run_in(runs, "test", "--gpu_ids", "-1", *argv, "--results_dir", "refused")
    assert (ended.code, why in ended.last) == (2, True), ended.err
    assert not list((runs / "refused").rglob("*.html"))
