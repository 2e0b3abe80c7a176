"""CUT and FastCUT: their terms, their networks, what is shown, and what they refuse."""

import pytest
import torch

from data.base import Spec
from registry.lookup import find
from tests.support.runs import options
from tests.support.small_models import TINY
from train import train_step
from training.run import Run
from util.errors import OptionError


@pytest.fixture
def make(tmp_path):
    def run(*argv):
        flags = ("--netF_nc", "4", "--checkpoints_dir", str(tmp_path), "--dataroot", "demo")
        o = options("--model", "cut", *TINY, *flags, *map(str, argv))
        torch.manual_seed(0)
        model = find("model", "cut")(o, Spec(o.input_nc, o.output_nc, 32, 32))
        made = Run(o, tmp_path, model, torch.device("cpu"), 1000)
        made.set_learning_rates()
        return made

    return run


BATCH = {side: torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(n)) for n, side in enumerate("AB")}


def step(run, batch=BATCH):
    out, losses = train_step(run.train_state, batch, run.train_state.now(0))
    return out, {name: float(x.detach()) for terms in losses.values() for name, x in terms.items()}


def test_the_total_is_the_adversarial_loss_and_mean_contrast(make):
    _, terms = step(make("--lambda_GAN", 2, "--lambda_NCE", 3))
    assert terms.keys() == {"D_fake", "D_real", "G", "G_GAN", "NCE", "NCE_Y"}
    assert terms["G"] == pytest.approx(terms["G_GAN"] + (terms["NCE"] + terms["NCE_Y"]) / 2, rel=1e-6)
    _, terms = step(make("--CUT_mode", "FastCUT"))
    assert terms.keys() == {"D_fake", "D_real", "G", "G_GAN", "NCE"}
    assert terms["G"] == pytest.approx(terms["G_GAN"] + terms["NCE"], rel=1e-6)


@pytest.mark.parametrize(("flags", "networks"), [
    ("", {"G", "D", "F"}), ("--netF sample", {"G", "D"}), ("--netF reshape", {"G", "D"}),
    ("--lambda_NCE 0", {"G", "D"}), ("--lambda_GAN 0", {"G", "D", "F"}), ("--gan_mode wgangp", {"G", "D", "F"}),
    ("--normG batch --normD none --netG resnet_4blocks", {"G", "D", "F"}), ("--num_patches 1", {"G", "D", "F"}),
    ("--nce_includes_all_negatives_from_minibatch --num_patches 1", {"G", "D", "F"}),
])  # fmt: skip
def test_every_choice_trains_its_networks(make, flags, networks):
    run = make(*flags.split())
    assert run.networks().keys() == networks
    before = {name: [p.clone() for p in net.parameters()] for name, net in run.networks().items()}
    _, terms = step(run)
    assert all(map(torch.isfinite, map(torch.tensor, terms.values())))
    still = [n for n, net in run.networks().items() if all(map(torch.equal, before[n], net.parameters()))]
    assert still == (["F"] if flags == "--num_patches 1" else []), "one patch has no other to differ from"


def test_norms_of_each_network_are_chosen_alone(make):
    model = make("--norm", "none", "--normG", "batch", "--netD", "basic").model
    kinds = {name: {type(layer).__name__ for layer in net.modules()} for name, net in model.networks().items()}
    assert "BatchNorm2d" in kinds["G"]
    assert not {"BatchNorm2d", "InstanceNorm"} & kinds["D"]


def test_shown_images_have_the_authors_names_and_order(make):
    model = make("--CUT_mode", "CUT").model
    assert list(model.show(model(BATCH))) == ["real_A", "fake_B", "real_B", "idt_B"]
    model.eval()
    assert list(model.show(model(BATCH))) == ["real_A", "fake_B", "real_B"]
    assert list(model.show(model({"A": BATCH["A"]}))) == ["real_A", "fake_B"]


def test_flips_mirror_the_input_at_random_in_training_only(make):
    model = make("--flip_equivariance", "--no_nce_idt").model
    found = [model(BATCH) for _ in range(20)]
    assert {out["flipped"] for out in found} == {True, False}
    for out in found:
        source = BATCH["A"].flip(3) if out["flipped"] else BATCH["A"]
        assert torch.allclose(out["fake_B"], model.G(source), atol=1e-6)
    model.eval()
    assert not any(model(BATCH)["flipped"] for _ in range(20))


def test_sides_of_unequal_sizes_are_translated_one_by_one(make):
    run = make()
    out, terms = step(run, {"A": BATCH["A"], "B": torch.rand(2, 3, 32, 40)})
    assert out["idt_B"].shape == (2, 3, 32, 40)
    assert terms["NCE_Y"] > 0


@pytest.mark.parametrize(("flags", "why"), [
    ("--input_nc 1", "--lambda_NCE': G's features of A and G(A) are compared, which have 1 and 3 channels"),
    ("--lambda_GAN 0 --lambda_NCE 0", "--lambda_GAN': is 0, and so is --lambda_NCE"),
    ("--nce_layers 0,99", "--nce_layers': the generator has no layer 'model.0'"),
])  # fmt: skip
def test_what_cannot_work_is_refused_by_option(make, flags, why):
    with pytest.raises(OptionError) as caught:
        make(*flags.split())
    assert why in str(caught.value)


def test_channels_may_differ_without_the_contrastive_loss(make):
    _, terms = step(make("--input_nc", 1, "--lambda_NCE", 0), {"A": BATCH["A"][:, :1], "B": BATCH["B"]})
    assert terms["G"] == terms["G_GAN"]
