"""What cannot train is refused before the first step, in terms of the plug-in's author; what can is accepted."""

import re

import pytest

from tests.support.plugins import SMALLEST
from tests.support.runs import ROOT, SMALL
from tests.support.training_runs import rows

pytestmark = pytest.mark.usefixtures("tables_as_they_were")
RUN = [*SMALL, "--dataroot", "demo", "--max_dataset_size", 3, "--name", "run", "--n_epochs", 1, "--n_epochs_decay", 0,
       "--print_freq", 1]  # fmt: skip
FORWARD = '        return {"real_A": batch["A"], "fake_B": self.G(batch["A"]).tanh()}\n'
LOSS = '        return {"L1"'


def spoilt(place, *lines):
    assert SMALLEST.count(place) == 1
    return SMALLEST.replace(place, "".join(f"        {line}\n" for line in lines) + place)


LAYERS = {
    "kept on the CPU": (spoilt(FORWARD, "if not hasattr(self, 'late'):", "    self.late = nn.Conv2d(3, 3, 1)",
                               "self.late(batch['A'])"), "'late.weight' was added after __init__"),
    "kept on the device": (spoilt(FORWARD, "if not hasattr(self, 'late'):",
                                  "    self.late = nn.Conv2d(3, 3, 1).to(batch['A'].device)"),
                           "'late.weight' was added after __init__"),
    "kept by a loss": (spoilt(LOSS, "self.late = nn.Conv2d(3, 3, 1)", "self.late(out['fake_B'])"),
                       "'late.weight' was added after __init__"),
    "made anew": (spoilt(FORWARD, "nn.Conv2d(3, 3, 1)(batch['A'])"), "a training step makes a layer Conv2d"),
    "made anew on the device": (spoilt(FORWARD, "nn.Conv2d(3, 3, 1).to(batch['A'].device)(batch['A'])"),
                                "a training step makes a layer Conv2d"),
    "a buffer": (spoilt(FORWARD, "self.register_buffer('late', batch['A'].mean())"), "'late' was added after __init__"),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_made_in_a_step_is_refused_at_once(command, write, tmp_path, layer):
    text, why = LAYERS[layer]
    write("smallest.py", text)
    ended = command("train", "--plugin", "smallest.py", "--model", "smallest", *RUN)
    assert ended.code == 2, ended.err
    assert ended.last.startswith("error: plug-in 'smallest': ") and why in ended.last
    assert not (tmp_path / "checkpoints").exists()


def test_a_frozen_layer_made_in_a_step_trains(command, write):
    fixed = spoilt(FORWARD, "nn.Conv2d(3, 3, 1, device=batch['A'].device).requires_grad_(False)(batch['A'])")
    write("smallest.py", fixed)
    ended = command("train", "--plugin", "smallest.py", "--model", "smallest", *RUN)
    assert ended.code == 0, ended.err


LISTS = {
    "discriminator": ("from torch import nn\nfrom networks import DISCRIMINATORS\n\n\nclass Two(nn.Conv2d):\n"
                      "    def forward(self, x):\n        return {'y': super().forward(x)}\n\n\n"
                      "DISCRIMINATORS['mine'] = lambda o, input_nc: Two(input_nc, 1, 4)\n", ["--netD", "mine"],
                      "objective 'vanilla': judges a tensor of predictions, a list of them (one for each scale) or a "
                      "list of lists of features, and the discriminator returns a dict of 1; let it return"),
    "paired objective": ("from networks import OBJECTIVES\nfrom networks.gan_loss import Objective\n"
                         "OBJECTIVES['mine'] = Objective(lambda real, fake, label: real.mean(), lambda real, fake: "
                         "fake.mean(), lambda real, fake: -fake.mean())\n", ["--gan_mode", "mine"],
                         "its real of objective 'mine'(real, fake, label) cannot be called as (p, label)"),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_parts_that_are_not_supported_are_no_bugs_of_ours(command, write, case):
    text, flags, why = LISTS[case]
    write("parts.py", text)
    ended = command("train", "--plugin", "parts.py", "--model", "pix2pix", "--netG", "unet_32", *RUN, *flags)
    assert ended.code == 2 and why in ended.last, ended.last


def test_a_plug_in_of_one_side_is_told_what_to_call(command, write, tmp_path):
    """It calls gan.real and gan.fake by themselves: one line before the first step; nothing is written."""
    path = ROOT / "tests" / "support" / "gans" / "scales.py"
    ended = command("train", "--plugin", path, "--model", "scales", *RUN, "--gan_mode", "relativistic")
    assert ended.code == 2 and "let the model call gan.discriminator(D(real), D(fake))" in ended.last
    assert ended.last.startswith("error: objective 'relativistic': compares ")
    assert not (tmp_path / "checkpoints").exists()
    ended = command("train", "--plugin", path, "--model", "scales", *RUN, "--penalty", "r1")
    assert ended.code == 0 and "note: --penalty r1 has no effect on GANLoss" in ended.out, ended.err


@pytest.mark.parametrize("loss", ["{'L1': 0.0}", "None"])
def test_a_loss_that_is_empty_in_a_later_step_is_named(command, write, loss):
    write("smallest.py", spoilt(LOSS, "self.n = getattr(self, 'n', 0) + 1", f"if self.n == 2: return {loss}"))
    ended = command("train", "--plugin", "smallest.py", "--model", "smallest", *RUN)
    assert ended.code == 2
    assert re.match("error: plug-in 'smallest': the loss of its phase G must return a dictionary of sc", ended.last)


SAMPLES = {
    "boxes": ("torch.zeros(index + 1, 4)", "its 'extra' has the shape (2, 4), that of another sample (1, 4)"),
    "lists": ("[0] * (index + 1)", "its 'extra' cannot be batched (that of another sample has other entries)"),
    "nothing": ("None", "its 'extra' cannot be batched ("),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("case", SAMPLES)
def test_samples_that_form_no_batch_are_named(command, write, case, workers):
    value, why = SAMPLES[case]
    write("smallest.py", SMALLEST)
    write("odd.py", "import torch\nfrom data.base import BaseDataset\n\n\nclass Odd(BaseDataset):\n"
          "    def __len__(self):\n        return 4\n\n    def __getitem__(self, index):\n"
          "        A = torch.zeros(3, 8, 8)\n"
          f"        return {{'A': A, 'B': A, 'extra': {value}, 'path_A': str(index)}}\n")  # fmt: skip
    flags = ["--plugin", "smallest.py", "--plugin", "odd.py", "--model", "smallest", "--dataset_mode", "odd"]
    ended = command("train", *RUN, *flags, "--batch_size", 2, "--serial_batches", "--num_threads", workers)
    assert ended.code == 3, ended.err
    assert ended.last.startswith("error: sample '") and why in ended.last


def test_a_discriminator_is_judged_by_what_it_is_given(command, tmp_path):
    """A is 9x9 and too small for D, which sees B; images of B that are too small are refused."""
    gans = ROOT / "tests" / "support" / "gans"
    flags = ["--plugin", gans / "enlarge.py", "--plugin", gans / "shrunk.py", "--model", "enlarge", *RUN]
    ended = command("train", *flags, "--dataroot", "demo/trainA")  # 32x32
    assert ended.code == 0, ended.err
    ended = command("train", *flags, "--dataroot", "demo/trainA", "--load_size", 20, "--crop_size", 20, "--overwrite")
    assert ended.code == 2
    assert ended.last.startswith("error: option '--crop_size': images are 20x20; this discriminator needs sides of at")


CROPS = """
from torch import nn
from enlarge import Enlarge


class Cut(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.D = D

    def forward(self, x):
        return self.D(x[..., :{0}, :{0}])


class Crops(Enlarge):
    def __init__(self, o, spec):
        super().__init__(o, spec)
        self.D = Cut(self.D)
"""


@pytest.mark.parametrize(("side", "code"), [(12, 0), (8, 2)])
def test_a_discriminator_of_crops_is_judged_by_the_crop(command, write, side, code):
    sources = {name: (ROOT / f"tests/support/gans/{name}.py").read_text() for name in ("enlarge", "shrunk")}
    files = [write(f"{name}.py", text) for name, text in (sources | {"crops": CROPS.format(side)}).items()]
    plugins = [word for file in files for word in ("--plugin", file)]
    flags = ["--model", "crops", "--netD", "n_layers", "--n_layers_D", 2, "--dataroot", "demo/trainA"]
    ended = command("train", *plugins, *RUN, *flags)
    assert ended.code == code, ended.err
    assert code == 0 or f"images are {side}x{side}; this discriminator needs sides of at least 12" in ended.last


PENALISED = {
    "pix2pix": ["--netG", "unet_32"],
    "cycle_gan": ["--netG", "resnet_4blocks", "--lambda_identity", 0],
    "cgan": ["--dataroot", "classes"],
}


@pytest.mark.parametrize("model", PENALISED)
def test_a_penalty_works_with_every_flag_and_recomputing(command, tmp_path, model):
    """--grad_checkpoint changes no number of a model with a gradient penalty; --dry_run counts its operations."""
    from tests.support.images import picture

    for label in "ab":
        (tmp_path / "classes" / "train" / label).mkdir(parents=True)
        for number in range(2):
            picture(number).save(tmp_path / "classes" / "train" / label / f"{number}.png")
    flags = [*RUN, "--model", model, *PENALISED[model], "--gan_mode", "wgangp", "--batch_size", 2]
    numbers = []
    for more in ([], ["--grad_checkpoint"]):
        ended = command("train", *flags, *more, "--overwrite")
        assert ended.code == 0, ended.err
        numbers.append([row["losses"] for row in rows(tmp_path / "checkpoints" / "run")[0]])
    assert numbers[0] == numbers[1] and any("gp" in name for name in numbers[0][0])
    ended = command("train", *flags, "--overwrite", "--dry_run")
    assert ended.code == 0 and "GFLOP a step" in ended.out, ended.out
    more = ["--grad_checkpoint", "--amp", "bf16", "--accumulate", 2, "--memory_format", "channels_last", "--overwrite"]
    ended = command("train", *flags, *more)
    assert ended.code == 0, ended.err


DATA_SET = """from data.unaligned import Unaligned


class Mine(Unaligned):
    paired = {}
"""
UNALIGNED = "note: {} is made for pairs (--dataset_mode aligned), and {} gives none: B is not the counterpart of A\n"


@pytest.mark.parametrize(("model", "data", "note"), [
    ("pix2pix", "unaligned", True), ("smallest", "unaligned", True), ("smallest", "mine", True),
    ("smallest", "mine of pairs", False), ("smallest", "aligned", False), ("pix2pix", "aligned", False),
    ("cycle_gan", "unaligned", False), ("cycle_gan", "aligned", False), ("free", "unaligned", False),
])  # fmt: skip
def test_a_model_of_pairs_says_that_the_data_are_none(command, write, model, data, note):
    """The classes of model and data set decide, a plug-in's too; a model without a data set of its own takes any."""
    write("smallest.py", SMALLEST)
    write("free.py", SMALLEST.replace('    dataset_mode = "aligned"\n', ""))
    write("mine.py", DATA_SET.format(data == "mine of pairs"))
    plugins = [word for name in ("smallest", "free", "mine") for word in ("--plugin", f"{name}.py")]
    mode = data.partition(" ")[0]
    ended = command("train", *RUN, *plugins, "--model", model, "--dataset_mode", mode, "--dry_run")
    assert ended.code == 0, ended.err
    assert (UNALIGNED.format(model, mode) in ended.out) == note and ("made for pairs" in ended.out) == note


@pytest.mark.parametrize("data", ["aligned", "unaligned"])
def test_colorization_refuses_what_is_not_lightness_and_colour(command, data):
    ended = command("train", *RUN, "--model", "colorization", "--dataset_mode", data)
    assert ended.code == 2
    assert ended.last == (
        f"error: option '--dataset_mode': {data} does not give lightness as 'A' (1 channel) and colour as 'B' "
        "(2 channels); use colorization"
    )


LABELS = {  # the lines of forward and of the loss: whether the label is used
    "never": ("", "", False),
    "in forward": ("batch['label']", "", True),
    "in a loss": ("", "batch['label']", True),
    "where there is one": ("batch.get('label')", "", True),
    "from a copy": ("dict(batch)['label']", "", True),
}


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("case", LABELS)
def test_a_model_that_ignores_the_classes_is_noted(command, write, tmp_path, case, classes):
    from tests.support.images import picture

    for label in "ab"[:classes]:
        (tmp_path / "classes" / "train" / label).mkdir(parents=True)
        picture(0).save(tmp_path / "classes" / "train" / label / "0.png")
    in_forward, in_loss, used = LABELS[case]
    text = SMALLEST.replace("batch['B']", "batch['A']").replace('batch["B"]', 'batch["A"]')
    text = text.replace(
        "    def forward(self, batch):\n", f"    def forward(self, batch):\n        {in_forward or 0}\n"
    )
    text = text.replace(
        "    def loss(self, batch, out):\n", f"    def loss(self, batch, out):\n        {in_loss or 0}\n"
    )
    write("smallest.py", text)
    flags = ["--plugin", "smallest.py", "--model", "smallest", "--dataset_mode", "labeled", "--dataroot", "classes"]
    ended = command("train", *RUN, *flags)
    assert ended.code == 0, ended.err
    said = "note: smallest does not use the classes: it learns the images of all 2 as one\n"
    assert (said in ended.out) == (not used and classes == 2), ended.out
