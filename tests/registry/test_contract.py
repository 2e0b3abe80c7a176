"""The design's example plug-in and every registered model keep each promise of the contract."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models.base import BaseModel, Phase
from registry import lookup
from registry.training_position import call_with_now
from tests.support.runs import SMALL, options
from tests.support.small_models import own_networks
from train import train_step
from training.loss_meter import LossMeter
from training.phase_optimizers import Optimizers
from training.run import Run
from training.train_state import TrainState

TINY = '''"""A small paired GAN, to show the contract."""
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from models.base import BaseModel, Phase
from networks import GANLoss, discriminator, generator
from options.fields import option


class Tiny(BaseModel):
    dataset_mode = "aligned"                        # the data it usually wants
    defaults = {"netG": "unet_128", "lr": 1e-3}     # its own defaults for flags that others own
    averaged = ("G",)                               # networks kept as EMA when --ema is on, and used by test

    @dataclass
    class Options:
        lambda_pixel: float = option(50.0, "weight of the L1 term", at_least=0.0)

    def __init__(self, o, spec):                    # o: all flags, typed; spec: what the data set says of its images
        super().__init__()
        self.o = o
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = discriminator(o, spec.output_nc)
        self.gan = GANLoss(o.gan_mode)

    def phases(self):
        return [Phase("D", [self.D], self.loss_d, weight=0.5, every=1), Phase("G", [self.G], self.loss_g)]

    def forward(self, batch):                       # {"A": (N,C,H,W), "B": ..., "label": (N,), "path_A": [...]}
        out = {"real_A": batch["A"], "fake_B": self.G(batch["A"])}
        return out | ({"real_B": batch["B"]} if "B" in batch else {})

    def loss_d(self, batch, out):
        return {"D_real": self.gan.real(self.D(out["real_B"])), "D_fake": self.gan.fake(self.D(out["fake_B"].detach()))}

    def loss_g(self, batch, out):
        return {"G_GAN": self.gan.generator(self.D(out["fake_B"])), "G_L1": self.o.lambda_pixel * F.l1_loss(out["fake_B"], out["real_B"])}
'''  # noqa: E501
LAZY = TINY.replace('"""A small paired GAN, to show the contract."""', '"""Tiny with lazy R1 and its own pictures."""')
LAZY = (
    LAZY.replace('netG": "unet_128"', 'netG": "unet_32"')
    .replace("class Tiny", "class Lazy")
    .replace('[Phase("D",', '[Phase("R1", [self.D], self.loss_r1, every=2, lr=1e-5), Phase("D",')
    + """
    def loss_r1(self, batch, out):
        real = out["real_B"].detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.D(real).sum(), real, create_graph=True)
        return {"R1": slope.square().sum((1, 2, 3)).mean()}

    def show(self, out):
        return {"negative": -out["fake_B"]}
"""
)
TRAINABLE = [e.name for e in lookup.entries("model") if e.load().phases is not BaseModel.phases]
SHORT = ["--n_epochs", "1", "--n_epochs_decay", "0", "--print_freq", "1"]


@pytest.fixture
def plug_in(tmp_path):
    """Write TINY and LAZY into a folder outside the project; return that folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    (folder / "lazy.py").write_text(LAZY)
    return folder


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in Path(f"checkpoints/{name}/losses.jsonl").read_text().splitlines()]


def test_tiny_is_the_designs(shared):
    blocks = re.findall(r"```python\n(.*?)```", (shared / "DESIGN.md").read_text(encoding="utf-8"), re.DOTALL)
    assert TINY in blocks


def test_tiny_trains_resumes_and_tests(command, plug_in, paired, tmp_path, monkeypatch):
    argv = ["--plugin", "mine/tiny.py", "--model", "tiny", "--dataset_mode", "aligned"]
    small = ["--gpu_ids", "-1", "--ngf", "2", "--ndf", "2", "--load_size", "128", "--crop_size", "128"]
    trained = command("train", *argv, *small, *SHORT, "--dataroot", paired, "--name", "t", "--max_dataset_size", "2")
    assert trained.code == 0, trained.err
    run = tmp_path / "checkpoints" / "t"
    assert {p.name for p in run.glob("latest_net_*.pth")} == {"latest_net_G.pth", "latest_net_D.pth"}
    kept = json.loads((run / "options.json").read_text())["options"]
    assert [kept[name] for name in ("netG", "lr", "lambda_pixel")] == ["unet_128", 1e-3, 50.0]
    assert kept["plugin"] == [str(plug_in / "tiny.py")]
    assert [set(row["losses"]) for row in rows("t")[:2]] == [{"D_real", "D_fake", "G_GAN", "G_L1"}] * 2
    shown = {p.name for p in (run / "web" / "images").iterdir()}
    assert shown == {f"epoch001_{label}.png" for label in ("real_A", "fake_B", "real_B")}

    monkeypatch.chdir(plug_in)  # from anywhere, and with nothing repeated
    elsewhere = ["--name", "t", "--checkpoints_dir", "../checkpoints"]
    again = command("train", *elsewhere, "--continue_train", "--n_epochs", "2")
    assert again.code == 0, again.err
    assert "continuing at epoch 2, image 0 of it, step 2" in again.out
    monkeypatch.chdir(tmp_path)
    assert [(row["step"], row["epoch"]) for row in rows("t") if "losses" in row] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    monkeypatch.chdir(plug_in)
    tested = command("test", *elsewhere, "--dataroot", paired, "--results_dir", tmp_path / "results")
    assert tested.code == 0, tested.err
    found = sorted(p.name for p in (tmp_path / "results" / "t" / "test_latest" / "images").iterdir())
    assert found == sorted(f"{i}_{label}.png" for i in range(3) for label in ("real_A", "fake_B", "real_B"))


def test_test_with_the_name_alone_tests_the_runs_own_data(command, plug_in, paired):
    """What train.py tells people to type at its end gives results for the pictures it was trained beside."""
    argv = [*SMALL, *SHORT, "--plugin", "mine/lazy.py", "--model", "lazy", "--dataroot", paired, "--name", "t"]
    trained = command("train", *argv)
    assert "then python test.py --name t\n" in trained.out
    ended = command("test", "--name", "t")
    assert ended.code == 0, ended.err
    stems = {p.stem.removesuffix("_negative") for p in Path("results/t/test_latest/images").iterdir()}
    assert stems == {"0", "1", "2"}


def test_tinys_flag_stands_in_help(command, plug_in):
    out = command("train", "--plugin", "mine/tiny.py", "--model", "tiny", "--help").out
    assert re.search(r"^tiny:\n  --lambda_pixel X +weight of the L1 term \[50\.0\]$", out, re.MULTILINE)
    assert "  --lr X " in out.partition("training:")[2].partition("tiny:")[0]


@pytest.mark.parametrize(("argv", "promised"), [
    (["--model", "tinny"], "there is no model 'tinny'; did you mean tiny? choose one of "),
    (["--model", "tiny", "--lambda_pixl", "3"], "--lambda_pixl is not a flag of tiny; did you mean --lambda_pixel?"),
    (["--model", "tiny", "--lambda_A", "3"], "--lambda_A is not a flag of tiny; it belongs to cycle_gan"),
    (["--lambda_pixel", "3"], "--lambda_pixel is not a flag of cycle_gan; it belongs to tiny"),
    (["--model", "tiny", "--lambda_pixel", "-1"], "'--lambda_pixel': -1.0 is out of range; give a number of at least"),
    (["--model", "tiny", "--lambda_pixel", "x"], "'--lambda_pixel': 'x' is not a number; give a number"),
    (["--model", "tiny", "--netG", "unet_129"], "there is no generator 'unet_129'; did you mean unet_128?"),
])  # fmt: skip
def test_a_wrong_model_flag_and_value_get_the_promised_line(command, plug_in, tmp_path, argv, promised):
    ended = command("train", "--plugin", "mine/tiny.py", *argv, "--dataroot", "missing")
    assert ended.code == 2
    assert promised in ended.last
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_lazy_phase_keeps_its_value_and_show_picks_pictures(command, plug_in, paired):
    """LAZY's R1 runs every second step, on the discriminator that another phase trains too."""
    argv = ["--plugin", "mine/lazy.py", "--model", "lazy", "--dataroot", paired, "--name", "l"]
    ended = command("train", *SMALL, *SHORT, *argv)
    assert ended.code == 0, ended.err
    values = [row["losses"]["R1"] for row in rows("l") if "losses" in row]
    assert len(values) == 5
    assert values[0] == values[1]
    assert values[2] == values[3]
    assert len(set(values)) == 3
    assert rows("l")[-1]["mean"]["R1"] == pytest.approx((values[0] + values[2] + values[4]) / 3, rel=1e-6)
    assert [p.name for p in Path("checkpoints/l/web/images").iterdir()] == ["epoch001_negative.png"]
    assert command("test", "--name", "l", "--dataroot", paired).code == 0
    picture = np.asarray(Image.open("results/l/test_latest/images/0_negative.png"))
    assert picture.shape == (32, 32, 3)


def prepared(name: str, folder: Path) -> tuple[Run, dict]:
    """Return a run of a registered model on generated pictures, and one batch."""
    from data.loading.loader import Loader

    o = options(
        "--model", name, "--dataroot", "demo", "--netG", "resnet_4blocks", "--batch_size", "2", *own_networks(name)
    )
    dataset = lookup.find("dataset", o.dataset_mode)(o)
    torch.manual_seed(0)
    run = Run(o, folder, lookup.find("model", name)(o, dataset.spec()), torch.device("cpu"), len(dataset))
    return run, next(iter(Loader(dataset, o, shuffle=True).epoch(1)))


def snapshot(model: nn.Module) -> dict[str, tuple]:
    """Return {name: (value, gradient)} of all parameters, as they are now."""
    return {n: (p.detach().clone(), None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()}


@pytest.mark.parametrize("name", TRAINABLE)
def test_forward_runs_once_and_phases_train_their_networks_alone(name, tmp_path):
    run, batch = prepared(name, tmp_path)
    model, events, states = run.model, [], []
    own = {phase.name: {id(p) for net in phase.nets for p in net.parameters()} for phase in run.phases}

    def opened() -> set[int]:
        return {id(p) for p in model.parameters() if p.requires_grad}

    def spied(phase: Phase) -> Phase:
        def loss(batch, out):
            events.append((phase.name, opened()))
            states.append(snapshot(model))
            return phase.loss(batch, out)

        return replace(phase, loss=loss)

    model.register_forward_pre_hook(lambda *_: events.append(("forward", opened())))
    phases = [spied(phase) for phase in run.phases]
    _, losses = train_step(replace(run.train_state, phases=phases), batch, run.train_state.now(0))
    states.append(snapshot(model))

    assert [event for event, _ in events] == ["forward", *(phase.name for phase in model.phases())]
    assert events[0][1] == set().union(*own.values())
    assert list(losses) == [phase.name for phase in phases]
    for (event, trained), before, after in zip(events[1:], states[:-1], states[1:], strict=True):
        assert trained == own[event]
        for key, parameter in model.named_parameters():
            changed = not torch.equal(before[key][0], after[key][0])
            assert changed is (id(parameter) in own[event]), f"{key} in phase {event}"
            if id(parameter) not in own[event]:
                assert after[key][1] is before[key][1] is None or torch.equal(after[key][1], before[key][1])
    for terms in losses.values():
        assert all(np.isfinite(float(torch.as_tensor(value).detach())) for value in terms.values())


@pytest.mark.parametrize("name", TRAINABLE)
def test_what_a_model_shows_are_pictures_of_the_batch_in_order(name, tmp_path):
    run, batch = prepared(name, tmp_path)
    out = call_with_now(run.model, batch)
    shown = run.model.show(out)
    assert len(shown) >= 2
    assert all(image.dim() == 4 and len(image) == 2 and image.shape[1] in (1, 3) for image in shown.values())
    if type(run.model).show is BaseModel.show:
        assert list(shown) == [
            k for k, v in out.items() if torch.is_tensor(v) and v.dim() == 4 and v.shape[1] in (1, 3)
        ]


def test_shown_by_default_is_every_4d_tensor_of_1_or_3_channels():
    out = {"b": torch.zeros(2, 3, 4, 4), "code": torch.zeros(2, 8), "grey": torch.zeros(2, 1, 4, 4), "n": 3, "l": [1],
           "two": torch.zeros(2, 2, 4, 4), "a": torch.zeros(1, 3, 8, 8), "flat": torch.zeros(3, 4, 4), "none": None,
           "wide": torch.zeros(2, 4, 4, 3), "video": torch.zeros(2, 3, 4, 4, 4)}  # fmt: skip
    assert list(BaseModel().show(out).items()) == [(name, out[name]) for name in ("b", "grey", "a")]


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_averaged_networks_are_what_test_loads(command, name):
    argv = [*SMALL, *SHORT, "--dataroot", "demo", "--netG", "resnet_4blocks", "--max_dataset_size", "1", "--name", "x"]
    assert command("train", "--model", name, *argv, *own_networks(name)).code == 0
    averaged = lookup.find("model", name).averaged
    assert averaged
    files = {path.stem.removeprefix("latest_net_"): path for path in Path("checkpoints/x").glob("latest_net_*.pth")}
    assert set(averaged) < set(files)
    for other in set(files) - set(averaged):
        files[other].unlink()
    test = ["--name", "x", "--dataroot", "demo", "--gpu_ids", "-1", "--num_test", "1"]
    ended = command("test", *test)
    assert ended.code == 0, ended.err
    for needed in averaged:
        kept = files[needed].rename(f"{needed}.kept")
        ended = command("test", *test)
        assert (ended.code, files[needed].name in ended.last) == (4, True)
        kept.rename(files[needed])


def test_a_model_without_phases_is_not_trained(command, tmp_path):
    ended = command(
        "train",
        *SMALL,
        *SHORT,
        "--max_dataset_size",
        "1",
        "--model",
        "test",
        "--dataroot",
        "demo",
        "--netG",
        "resnet_4blocks",
    )
    assert (ended.code, list(tmp_path.iterdir())) == (2, [])
    assert "option '--model': test only translates and cannot be trained" in ended.last


class Toy(BaseModel):
    """Networks x, y, z of one weight each, to watch what a training step does to them."""

    def __init__(self, *phases: tuple):
        super().__init__()
        self.x, self.y, self.z = (nn.Linear(1, 1, bias=False) for _ in range(3))
        self.order: list[str] = []
        self.declared = [
            Phase(name, [getattr(self, net) for net in nets], self._loss(name, nets), **more)
            for name, nets, more in phases
        ]

    def _loss(self, name, nets):
        def loss(batch, out):
            self.order.append(name)
            return {f"{name}_{net}": 3.0 * getattr(self, net).weight.sum() for net in "xyz"}  # all three, on purpose

        return loss

    def phases(self):
        return self.declared

    def forward(self, batch):
        return {}


def toy_state(toy: Toy, lr: float = 0.01) -> TrainState:
    """Return what a step works on."""
    return TrainState.from_options(toy, options("--lr", str(lr)))


def stepped(*phases: tuple, steps: int = 1, share: float = 1.0, lr: float = 0.01) -> tuple[Toy, Optimizers, list]:
    """Train a Toy for some steps; return it, its optimisers, and what each step reported."""
    toy = Toy(*phases)
    state = toy_state(toy, lr)
    state.optimizers.set_lr(share)
    return toy, state.optimizers, [train_step(state, {}, state.now(step))[1] for step in range(steps)]


def test_weight_scales_what_is_minimised_and_not_what_is_logged():
    toy = Toy(("half", "x", {"weight": 0.5}), ("whole", "yz", {}))
    state, gradients = toy_state(toy), []
    for phase in ("half", "whole"):  # a step frees the gradients
        state.optimizers[phase].register_step_pre_hook(
            lambda optimizer, *_: gradients.extend(float(p.grad) for g in optimizer.param_groups for p in g["params"])
        )
    reports = [train_step(state, {}, state.now(0))[1]]
    assert gradients == [1.5, 3.0, 3.0] and toy.x.weight.grad is None
    before = float(toy.x.weight.detach()) + 0.01  # Adam's first step is the learning rate, against the gradient
    assert float(reports[0]["half"]["half_x"].detach()) == pytest.approx(3 * before, rel=1e-4, abs=1e-4)


def test_phases_that_share_a_network_share_its_optimiser():
    _, optimizers, _ = stepped(("D", "x", {}), ("R1", "x", {}), ("G", "y", {}))
    assert optimizers["D"] is optimizers["R1"]
    assert optimizers["D"] is not optimizers["G"]
    _, chained, _ = stepped(("one", "x", {}), ("two", "y", {}), ("both", "xy", {}), ("other", "z", {}))
    assert chained["one"] is chained["two"] is chained["both"]
    assert chained["one"] is not chained["other"]
    ids = [id(p) for group in chained.param_groups() for p in group["params"]]
    assert len(ids) == len(set(ids)) == 3


def test_a_phase_sharing_an_optimiser_trains_its_networks_alone():
    toy = Toy(("D", "x", {}), ("both", "xy", {"every": 2}))
    state = toy_state(toy)
    train_step(state, {}, state.now(0))  # both: y has a gradient and Adam a momentum for it
    before = snapshot(toy)
    train_step(state, {}, state.now(1))  # D alone
    assert toy.order == ["D", "both", "D"]
    assert [bool(before[f"{n}.weight"][0] != toy.get_submodule(n).weight) for n in "xyz"] == [True, False, False]


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_phases_learning_rate_is_scaled_by_the_schedule(share):
    def moved(*phases):
        toy = Toy(*phases)
        before = snapshot(toy)
        state = toy_state(toy)
        state.optimizers.set_lr(share)
        train_step(state, {}, state.now(0))
        return [float(before[f"{n}.weight"][0] - toy.get_submodule(n).weight.detach()) / share for n in "xyz"]

    assert moved(("a", "x", {}), ("b", "y", {"lr": 0.002})) == pytest.approx([0.01, 0.002, 0.0], rel=1e-3)
    assert moved(("a", "x", {"lr": 0.5}), ("b", "xy", {"every": 1})) == pytest.approx([1.0, 0.01, 0.0], rel=1e-3)
    assert moved(("still", "x", {"lr": 0.0})) == [0.0, 0.0, 0.0]


def test_every_counts_steps_and_the_last_value_is_kept():
    _, _, reports = stepped(("often", "x", {}), ("seldom", "y", {"every": 3}), steps=7)
    assert [list(report) for report in reports] == [
        ["often", "seldom"] if step % 3 == 0 else ["often"] for step in range(7)
    ]
    means, seen = LossMeter(), []
    for report in reports:
        means.add(report)
        seen.append(float(means.latest["seldom_y"]))
    assert seen == [seen[0]] * 3 + [seen[3]] * 3 + [seen[6]]
    assert len(set(seen)) == 3
    assert means.epoch_means()["seldom_y"] == pytest.approx((seen[0] + seen[3] + seen[6]) / 3, rel=1e-6)
    means.clear()
    assert means.epoch_means() == {}
    assert float(means.latest["seldom_y"]) == seen[6]  # over the end of an epoch, too


def test_what_a_plug_in_froze_stays_frozen():
    toy = Toy(("G", "xy", {}))
    toy.y.weight.requires_grad_(False)
    before = snapshot(toy)
    state = toy_state(toy)
    for step in range(2):
        train_step(state, {}, state.now(step))
    assert [bool(before[f"{n}.weight"][0] != toy.get_submodule(n).weight) for n in "xyz"] == [True, False, False]
    assert [toy.get_submodule(n).weight.requires_grad for n in "xyz"] == [True, False, True]


@pytest.mark.parametrize("second", ["part", "whole"])
def test_phases_over_parts_export_the_whole_network(tmp_path, second):
    model = BaseModel()
    model.G = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    phases = [Phase("a", [model.G[0]], dict), Phase("b", [model.G[1] if second == "part" else model.G], dict)]
    model.phases = lambda: phases
    run = Run(options(), tmp_path, model, torch.device("cpu"), 1)
    assert run.networks() == {"G": model.G}
    assert (run.optimizers["a"] is run.optimizers["b"]) is (second == "whole")
