"""The tools reach every model or are refused, cost nothing when they are off, and resume exactly."""

import pytest
import torch

from networks.toolbox import tool_state
from registry.lookup import find
from serialization import checkpoint
from tests.support.resuming import state_of, unequal
from tests.support.runs import SMALL, options
from tests.support.small_models import own_networks
from tests.support.steps import TRAINED, trained
from util.errors import OptionError

TOOLS = ("--spectral_norm", "DG", "--diffaugment", "color,translation,cutout", "--ada", "--ada_kimg", "0.02",
         "--lambda_lecam", "0.1", "--lr_D", "4e-4", "--n_critic", "2", "--clip_grad", "1", "--warmup", "3",
         "--minibatch_std")  # fmt: skip
EACH = [
    TOOLS[:2],
    TOOLS[2:4],
    TOOLS[7:9],
    TOOLS[9:11],
    TOOLS[13:15],
    TOOLS[15:],
    ("--ada", "--ada_kimg", "0.01", "--ada_target", "-0.99"),
]
WITHOUT_D = """
from torch import nn
from models.base import BaseModel, Phase
class Plain(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    def __init__(self, o, spec):
        super().__init__()
        self.G = nn.Conv2d(spec.input_nc, spec.output_nc, 1)
    def phases(self):
        return [Phase("G", [self.G], self.loss)]
    def forward(self, batch):
        return {"fake_B": self.G(batch["A"]).tanh(), "real_B": batch["B"]}
    def loss(self, batch, out):
        return {"L1": (out["fake_B"] - out["real_B"]).abs().mean()}
"""
OWN_LOSS = """
from torch import nn
from models.base import BaseModel, Phase
from networks import GANLoss, generator
class Blind(BaseModel):
    dataset_mode = "aligned"
    averaged = ("G",)
    def __init__(self, o, spec):
        super().__init__()
        self.gan = GANLoss("hinge")
        self.G = generator(o, spec.input_nc, spec.output_nc)
        self.D = nn.Sequential(nn.Flatten(), nn.Linear(spec.output_nc * spec.height * spec.width, 1))
    def phases(self):
        return [Phase("D", [self.D], self.loss_d), Phase("G", [self.G], self.loss_g)]
    def forward(self, batch):
        return {"fake_B": self.G(batch["A"]), "real_B": batch["B"]}
    def loss_d(self, batch, out):
        return {"D": self.D(out["fake_B"].detach().flatten(1)).mean() - self.D(out["real_B"].flatten(1)).mean()}
    def loss_g(self, batch, out):
        return {"G": -self.D(out["fake_B"].flatten(1)).mean()}
"""


def state_shapes(state):
    return {key: tuple(value.shape) for key, value in state.items() if torch.is_tensor(value)}


@pytest.mark.parametrize("model", TRAINED)
def test_all_tools_train_every_model_and_keep_its_keys(model):
    plain, _, _ = trained(model, steps=1)
    run, losses, _ = trained(model, *TOOLS, "--gan_mode", "vanilla", steps=5)
    shapes, plain_shapes = (state_shapes(each.model.state_dict()) for each in (run, plain))
    assert shapes.keys() == plain_shapes.keys()
    assert all(
        wide == shape or wide == (1, shape[1] + 1, *shape[2:])
        for wide, shape in zip(shapes.values(), plain_shapes.values())
    )
    assert any("lecam" in name or name in ("D_A", "D_real") for name in losses[-1])
    state = tool_state.state_dict(run.model)
    kinds = {name.rpartition(".")[2].removeprefix("tool_")[:5] for name in state}
    assert kinds == {"u", "ada_p", "ada_s", "lecam"}
    assert tool_state.state_dict(plain.model) == {}


@pytest.mark.parametrize("flags", EACH, ids=lambda flags: flags[0])
@pytest.mark.parametrize("model", ["pix2pix", "gan"])
def test_each_tool_changes_what_is_trained(model, flags):
    one, other = (trained(model, *more, steps=6) for more in ((), flags))
    assert unequal(one[0].model.state_dict(), other[0].model.state_dict(), "") != []


@pytest.mark.parametrize("model", ["pix2pix", "cgan"])
def test_a_run_with_all_tools_resumes_exactly(command, tmp_path, model):
    more = ("--lambda_feat", "10", "--lambda_tv", "1") if model == "pix2pix" else ()
    argv = [*SMALL, "--model", model, "--dataroot", "demo", "--netG", "unet_32", *own_networks(model), "--netD",
            "n_layers", "--batch_size", "2", "--max_dataset_size", "6", "--n_epochs_decay", "0", "--ema", "0.9",
            "--displays", "console", *TOOLS, *more]  # fmt: skip
    assert command("train", *argv, "--name", "one", "--n_epochs", "2").code == 0
    assert command("train", *argv, "--name", "two", "--n_epochs", "1").code == 0
    ended = command("train", "--name", "two", "--continue_train", "--n_epochs", "2")
    assert ended.code == 0 and "tool" not in ended.out, ended.out + ended.err
    one, two = (state_of(tmp_path / "checkpoints" / name) for name in ("one", "two"))
    one["options"] = two["options"] = {}  # the name differs
    assert set(one) <= {*checkpoint.STATE_TYPES, "format"}  # the type of every part is checked when it is read
    assert unequal(one, two, "state") == [] and {name.rpartition("tool_")[2][:3] for name in one["tools"]} >= {"ada"}
    test = command("test", "--name", "two", "--gpu_ids", "-1", "--num_test", "1", "--num_samples", "1")
    assert test.code == 0, test.err


REFUSED = [  # (plug-in, flags, what the error says)
    (WITHOUT_D, ("--spectral_norm", "D"), "no phase that trains a discriminator"),
    (WITHOUT_D, ("--diffaugment", "color"), "no phase that trains a discriminator"),
    (WITHOUT_D, ("--n_critic", "2"), "no phase that trains a discriminator"),
    (WITHOUT_D, ("--lr_D", "1e-4"), "no phase that trains a discriminator"),
    (WITHOUT_D, ("--ada",), "judges no discriminator by GANLoss"),
    (WITHOUT_D, ("--lambda_lecam", "1"), "judges no discriminator by GANLoss"),
    (OWN_LOSS, ("--diffaugment", "color"), "never called with images"),
    (OWN_LOSS, ("--lambda_lecam", "1"), "judges by GANLoss"),
    (OWN_LOSS, ("--spectral_norm", "D"), ""),
    (WITHOUT_D, ("--spectral_norm", "G"), ""),
    (WITHOUT_D, ("--clip_grad", "1", "--warmup", "2"), ""),
]


@pytest.mark.parametrize(("source", "flags", "why"), REFUSED, ids=lambda value: str(value)[:25].replace("\n", " "))
def test_a_tool_that_reaches_nothing_in_a_plug_in_is_refused(command, write, source, flags, why):
    path = write("mine.py", source)
    ended = command("train", *SMALL, "--plugin", path, "--model", "mine", "--dataroot", "demo", "--max_dataset_size",
                    "2", "--netG", "unet_32", "--n_epochs", "1", "--n_epochs_decay", "0", "--name", "run",
                    "--displays", "console", *flags)  # fmt: skip
    if why:
        assert ended.code == 2 and "reaches nothing in mine" in ended.last and why in ended.last, ended.err
        assert not (path.parent / "checkpoints" / "run" / "options.json").exists()
    else:
        assert ended.code == 0, ended.err


def test_a_flag_of_the_models_own_replaces_the_toolboxs(write):
    own = WITHOUT_D.replace("    def __init__", '''    from dataclasses import dataclass
    from options.fields import option
    @dataclass
    class Options:
        from options.fields import option
        lambda_feat: float = option(3.0, "of the model's own")
        ada: str = option("x", "a text")
    def __init__''', 1)  # fmt: skip
    path = write("owner.py", own)
    run, _, _ = trained("owner", "--plugin", str(path), "--lambda_feat", "4", "--ada", "y", steps=1)
    assert (run.o.lambda_feat, run.o.ada, run.o.flags["ada"].owner) == (4.0, "y", "owner")


def test_tools_that_a_network_or_objective_cannot_use():
    with pytest.raises(OptionError, match=r"--ada.*sign of a prediction says nothing with --gan_mode wgangp"):
        trained("pix2pix", "--ada", "--gan_mode", "wgangp", steps=1)
    with pytest.raises(OptionError, match=r"--minibatch_std.*one channel, without a spectral norm"):
        trained("gan", "--netD", "sngan_resnet", "--minibatch_std", steps=1)
    with pytest.raises(OptionError, match=r"--minibatch_std.*--accumulate 8 computes one"):
        trained("pix2pix", "--minibatch_std", "--accumulate", "8", steps=1)
    with pytest.raises(OptionError, match="SNGANDiscriminator has no layers without one"):
        trained("gan", "--netD", "sngan_resnet", "--cond", "none", "--spectral_norm", "D", steps=1)


def test_discriminator_checks_its_channels():
    from networks import discriminator

    o = options("--netD", "basic")
    assert find("discriminator", "basic") and discriminator(o, 4, channels=(1, 3)).toolbox_channels == (1, 3)
    with pytest.raises(ValueError, match="do not add up to input_nc, 5"):
        discriminator(o, 5, channels=(1, 3))


def test_rates_of_discriminators_and_warm_up_by_hand():
    rates = []
    trained("pix2pix", "--lr_D", "4e-4", "--warmup", "4", steps=5,
                        prepare=lambda run: _spy(run, rates))  # fmt: skip
    assert rates == [pytest.approx([n * 1e-4, n * 0.5e-4]) for n in (1, 2, 3, 4, 4)]


def test_a_warm_up_longer_than_the_run_is_noted(command):
    argv = [*SMALL, "--model", "pix2pix", "--netG", "unet_32", "--netD", "pixel", "--dataroot", "demo",
            "--max_dataset_size", "2", "--n_epochs", "1", "--n_epochs_decay", "0", "--displays", "console"]  # fmt: skip
    ended = command("train", *argv, "--warmup", "3", "--name", "long")
    assert "note: --warmup 3: the run has 2 steps, so the learning rates never reach their values" in ended.out
    assert "--warmup" not in command("train", *argv, "--warmup", "2", "--name", "short").out
    again = ["train", "--name", "short", "--continue_train", "--n_epochs"]
    ended = command(*again, "2", "--warmup", "1")
    assert "note: --warmup has no effect: 2 steps are done already" in ended.out
    assert "because of" not in ended.out
    assert "because of --warmup" in command(*again, "3", "--warmup", "9").out


def test_a_model_that_rests_its_generator_is_not_slowed_twice(command):
    """D had four steps for each of G, and neither flag said so."""
    argv = [*SMALL, "--model", "spade", "--netG", "spade", "--no_vgg_loss", "--dataroot", "demo", "--batch_size", "2",
            "--max_dataset_size", "2", "--displays", "console"]  # fmt: skip
    ended = command("train", *argv, "--D_steps_per_G", "2", "--n_critic", "2")
    assert ended.code == 2 and "'--n_critic': SPADE trains its generators once in 2 steps already" in ended.last


def _spy(run, rates):
    def end_step(now, plain=run.train_state.end_step):
        rates.append([run.optimizers[name].param_groups[0]["lr"] for name in "DG"])
        plain(now)

    run.train_state.end_step = end_step


def test_gradients_are_clipped_to_a_norm():
    run, _, _ = trained("pix2pix", "--optimizer", "sgd", "--beta1", "0", "--lr", "1", "--clip_grad", "0.01", steps=1)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for p in run.model.D.parameters():
        p.grad = torch.full_like(p, 7.0)
    run.optimizers.step("D")
    moved = torch.cat([(p - before[f"D.{name}"]).flatten() for name, p in run.model.D.named_parameters()])
    assert moved.detach().norm() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("model", ["pix2pix", "cycle_gan", "gan", "cut"])
def test_generators_step_once_in_n_critic(model):
    run, _, _ = trained(model, "--n_critic", "3", steps=5)
    steps = {p.name: {int(s["step"]) for s in run.optimizers[p.name].state.values()} for p in run.phases}
    assert steps == {"D": {5}, "G": {2}}
