"""gan: any network, objective, penalty and conditioning make a GAN that draws images from noise."""

from itertools import product
from math import isfinite

import pytest
import torch

from inference.sampling import Request
from models.base import Now
from networks import OBJECTIVES, PENALTIES
from networks.architectures.sngan import SNGANDiscriminator, SNGANGenerator
from networks.conditioning import ConditionalDiscriminator
from options.recipe import RECIPES
from registry.lookup import find
from tests.support.steps import trained
from util.errors import OptionError

NETS = ("dcgan", "sngan_resnet")
SMALL = ["--batch_size", "4", "--latent_dim", "5", "--embedding_dim", "3"]
BOTH = frozenset("DG")


def nets(name):
    return ["--netG", name, "--netD", name]


def losses_of(*flags, steps=2):
    """Return the names of the losses of the last step, which are finite."""
    _, losses, _ = trained("gan", *SMALL, *flags, steps=steps)
    assert all(isfinite(value) for value in losses[-1].values())
    return set(losses[-1])


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("cond", ["none", "concat", "projection", "acgan"])
def test_every_conditioning_trains_with_every_network(net, cond):
    classed = {"D_class", "G_class"} if cond == "acgan" else set()
    assert losses_of(*nets(net), "--cond", cond) == {"D_real", "D_fake", "G_GAN"} | classed


@pytest.mark.parametrize(("objective", "penalty"), list(product(OBJECTIVES, PENALTIES)))
def test_every_objective_trains_with_every_penalty(objective, penalty):
    paired = hasattr(find("objective", objective), "discriminator")
    judged = {"D_GAN"} if paired else {"D_real", "D_fake"}
    names = losses_of(*nets("dcgan"), "--gan_mode", objective, "--penalty", penalty, "--cond", "acgan", steps=1)
    assert names == judged | {"G_GAN", "D_class", "G_class"} | ({"D_gp"} if penalty != "none" else set())


def test_the_generator_steps_and_has_a_graph_once_in_n_critic():
    run, losses, out = trained("gan", *SMALL, *nets("dcgan"), "--n_critic", "3", steps=5)
    assert [list(terms) for terms in losses] == [["D_real", "D_fake", "G_GAN"]] + [["D_real", "D_fake"]] * 2 + [
        ["D_real", "D_fake", "G_GAN"], ["D_real", "D_fake"],
    ]  # fmt: skip
    assert not out["fake"].requires_grad
    batch = {"A": torch.zeros(2, 3, 32, 32), "label": torch.tensor([0, 1])}
    assert run.model(batch, Now(0, 1, 0.0, BOTH))["fake"].requires_grad


@pytest.mark.parametrize("classed", [True, False])
def test_a_sample_depends_on_seed_class_and_number_alone(classed):
    where = [] if classed else ["--dataroot", "demo/trainA"]
    model = trained("gan", *SMALL, *nets("dcgan"), "--init_gain", "0.5", *where, steps=1)[0].model.eval()
    classes = model.classes if classed else ()
    few, many = (model.sheets(Request("per_class", classes, number, 7)) for number in (2, 5))
    late = model.sheets(Request("per_class", classes, 2, 7, start=3))
    assert list(few) == list(many) == (list(classes) or ["samples"])
    for name, (images, labels) in many.items():
        assert images.shape == (5, 3, 32, 32) and labels.tolist() == [labels[0]] * 5
        assert torch.allclose(images[:2], few[name][0], atol=1e-5)
        assert torch.allclose(images[3:], late[name][0], atol=1e-5)
        assert not torch.allclose(images[0], images[1], atol=1e-3)
    grid, labels = model.sheets(Request("grid", classes, 2, 7))["grid"]
    assert len(grid) == len(labels) == 2 * max(1, len(classes))


def test_without_conditioning_images_have_no_class():
    model = trained("gan", *SMALL, *nets("dcgan"), "--cond", "none", steps=1)[0].model.eval()
    sheets = model.sheets(Request("per_class", ("ball", "cone"), 2, 7))
    assert model.classes == () and list(sheets) == ["samples"] and len(sheets["samples"][0]) == 2


def test_a_penalty_takes_batch_norm_from_the_discriminator_alone():
    model = trained("gan", *SMALL, *nets("dcgan"), "--gan_mode", "wgangp", steps=1)[0].model
    normed = [any(isinstance(part, torch.nn.BatchNorm2d) for part in net.modules()) for net in (model.G, model.D)]
    layers = [sum(isinstance(part, torch.nn.GroupNorm) for part in net.modules()) for net in (model.G, model.D)]
    assert layers[0] == 0 < layers[1]  # layer norm, as in WGAN-GP
    assert normed == [True, False] and model.gan.penalty_notes() == []


REFUSED = {
    "a translator": (["--netG", "resnet_4blocks"], "--netG", "use dcgan or sngan_resnet"),
    "patches with classes": ([*nets("dcgan"), "--netD", "basic"], "--cond", "use --cond concat"),
    "one class": ([*nets("dcgan"), "--dataroot", "demo/trainA", "--cond", "acgan"], "--cond", "use auto or none"),
    "wide images": ([*nets("dcgan"), "--preprocess", "none", "--dataroot", "demo/trainA"], "--preprocess", "resize"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(case):
    flags, flag, remedy = REFUSED[case]
    with pytest.raises(OptionError) as refused:
        trained("gan", *SMALL, *flags, steps=1)
    assert flag in str(refused.value) and remedy in str(refused.value)


def test_a_translator_refuses_a_generator_that_starts_from_noise():
    with pytest.raises(OptionError, match=r"'dcgan' makes images from noise vectors.*--model gan"):
        trained("pix2pix", "--netG", "dcgan", "--batch_size", "1", steps=1)


@pytest.mark.parametrize("size", [8, 32, 64])
def test_sngan_doubles_and_halves_under_a_spectral_norm(size):
    G, D = SNGANGenerator(6, 3, size, ngf=2), SNGANDiscriminator(3, size, ndf=2)
    images = G(torch.randn(2, 6))
    assert images.shape == (2, 3, size, size) and images.abs().max() <= 1
    for _ in range(30):  # power iterations
        assert D(images.detach()).shape == (2, 1)
    for layer in D.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) == pytest.approx(1, abs=0.05)


def test_the_conditions_are_their_formulas():
    """For a trunk and a head that are known: features are the image's first two channels, logits their sum."""
    net = torch.nn.Module()
    net.trunk, net.head, net.features = (lambda x: x[:, :2]), (lambda f: f.sum((1, 2, 3))[:, None]), 2
    image, label = torch.arange(24.0).view(2, 3, 2, 2), torch.tensor([1, 0])
    pooled, logits = image[:, :2].mean((2, 3)), image[:, :2].sum((1, 2, 3))[:, None]
    D = ConditionalDiscriminator(net, 2, "projection", 2)
    added = (pooled * D.embedding.weight[label]).sum(1, keepdim=True)
    assert torch.allclose(D(image, label), logits + added)
    D = ConditionalDiscriminator(net, 2, "acgan", 2)
    (judged,) = D(image, label)
    assert torch.allclose(judged[0], pooled @ D.embedding.weight.T) and torch.equal(judged[1], logits)
    net.pool = lambda features: features.sum((2, 3))  # as SNGAN's, whose class embedding has a norm of at most 1
    assert torch.allclose(D(image, label)[0][0], 4 * judged[0])


@pytest.mark.parametrize("recipe", [name for name in RECIPES if "model: gan\n" in RECIPES[name].read_text()])
def test_every_recipe_trains_continues_and_generates(command, recipe):
    small = ["--dataroot", "demo", "--gpu_ids", "-1", "--ngf", 4, "--ndf", 4, "--crop_size", 32, "--batch_size", 8]
    short = ["--num_threads", 0, "--displays", "console", "--max_dataset_size", 16, "--n_epochs_decay", 0]
    assert command("train", "--recipe", recipe, "--name", "run", *small, *short, "--n_epochs", 1).code == 0
    ended = command("train", "--name", "run", "--continue_train", "--n_epochs", 2)
    assert ended.code == 0 and "continuing at epoch 2" in ended.out, ended.err
    ended = command("test", "--name", "run", "--num_samples", 2)
    assert ended.code == 0 and "-> results" in ended.out, ended.err
    assert ("classes: " in ended.out) == ("cond: none" not in RECIPES[recipe].read_text())
