"""Objectives have the published formulas' values and gradients, for tensors, scales, features and pairs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from networks import OBJECTIVES, GANLoss, discriminator
from networks.gan_loss import feature_matching
from registry.contract import check_part
from registry.lookup import entries, find
from tests.support.architectures import NAMES as ARCHITECTURES
from tests.support.architectures import OF_GAN, flags
from tests.support.runs import options
from util.errors import OptionError

ALL = [e.name for e in entries("objective")]
PAIRED = [name for name in ALL if GANLoss(name).paired]
NAMES = [name for name in ALL if name not in PAIRED]  # those that judge real and generated images one by one
PREDICTIONS = np.array([-250.0, -3.0, -1.25, -0.5, 0.0, 0.25, 0.75, 1.5, 2.0, 40.0]).reshape(2, 1, 1, 5)


def sigmoid(p):
    return np.exp(-np.logaddexp(0, -p))


def cross_entropy(p, label):
    """(value, slope) of -label log s(p) - (1 - label) log(1 - s(p)), per element."""
    return label * np.logaddexp(0, -p) + (1 - label) * np.logaddexp(0, p), sigmoid(p) - label


def square(p, target):
    return (p - target) ** 2, 2 * (p - target)


def line(p, slope):
    return slope * p, np.full_like(p, slope)


def ramp(p, sign):
    """max(0, 1 + sign p)"""
    return np.maximum(0, 1 + sign * p), np.where(1 + sign * p > 0, sign, 0.0)


FORMULAS = {  # objective: what real (with its label), fake and generator are per element, as (value, slope)
    "vanilla": (cross_entropy, lambda p: cross_entropy(p, 0), lambda p: cross_entropy(p, 1)),
    "lsgan": (square, lambda p: square(p, 0), lambda p: square(p, 1)),
    "wgangp": (lambda p, label: line(p, -1), lambda p: line(p, 1), lambda p: line(p, -1)),
    "hinge": (lambda p, label: ramp(p, -1), lambda p: ramp(p, 1), lambda p: line(p, -1)),
}


def value_and_slope(loss):
    p = torch.from_numpy(PREDICTIONS).requires_grad_()
    value = loss(p)
    assert value.shape == ()
    value.backward()
    return value.item(), p.grad.numpy()


def test_the_table_holds_the_published_objectives():
    assert set(FORMULAS) <= set(NAMES)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("player", ["real", "fake", "generator"])
@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_gradients_are_the_formulas(name, player, smoothing):
    """The mean over all predictions; label smoothing changes what real is called, for the discriminator alone."""
    gan = GANLoss(name, label_smoothing=smoothing)
    value, slope = value_and_slope(getattr(gan, player))
    real, fake, generator = FORMULAS[name]
    each, slopes = {"real": lambda p: real(p, 1 - smoothing), "fake": fake, "generator": generator}[player](PREDICTIONS)
    assert value == pytest.approx(each.mean(), rel=1e-12)
    np.testing.assert_allclose(slope, slopes / PREDICTIONS.size, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_each_player_pulls_its_own_way(name):
    """At predictions near 0: real is to rise, fake to fall, and the generator to raise fake."""
    gan = GANLoss(name)
    for player, sign in (("real", -1), ("fake", 1), ("generator", -1)):
        p = torch.full((2, 1, 3, 3), 0.1).requires_grad_()
        getattr(gan, player)(p).backward()
        assert bool((p.grad * sign > 0).all()), player


@pytest.mark.parametrize("name", NAMES)
def test_extreme_predictions_stay_finite(name):
    """Logits of ±1e4 in float32, as a diverging discriminator gives them."""
    gan = GANLoss(name)
    for player in (gan.real, gan.fake, gan.generator):
        p = torch.tensor([-1e4, 1e4], requires_grad=True)
        value = player(p)
        value.backward()
        assert value.isfinite()
        assert p.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_values_do_not_depend_on_the_shape_of_the_predictions(name):
    gan = GANLoss(name, lambda_gp=0)
    flat = torch.from_numpy(PREDICTIONS).flatten()
    for player in (gan.real, gan.fake, gan.generator):
        assert player(flat.view(2, 1, 1, 5)).item() == pytest.approx(player(flat).item(), rel=1e-14)


def test_an_unknown_objective_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"--gan_mode.*there is no objective 'vanila'; did you mean vanilla"):
        GANLoss("vanila")


@pytest.mark.parametrize("name", ["wgangp", "hinge", *PAIRED])
def test_label_smoothing_is_refused_where_nothing_is_labelled(name):
    with pytest.raises(OptionError, match="--label_smoothing"):
        options("--gan_mode", name, "--label_smoothing", "0.1")


def test_label_smoothing_is_refused_for_a_paired_objective_too(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "mine", find("objective", "relativistic"))
    with pytest.raises(OptionError, match=r"--label_smoothing.*no effect with --gan_mode mine"):
        options("--gan_mode", "mine", "--label_smoothing", "0.1")


# --- objectives that compare real with generated images -------------------------------------------------------------

REAL, FAKE = np.array([3.0, -1.0, 0.5, 40.0]), np.array([-2.0, 0.25, 1.5, -300.0])


def softplus(p):
    return np.logaddexp(0, p)


BY_HAND = {  # objective: the discriminator's and the generator's loss for predictions r and f
    "relativistic": (lambda r, f: softplus(f - r).mean(), lambda r, f: softplus(r - f).mean()),
    "ragan": (
        lambda r, f: softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean(),
        lambda r, f: softplus(r - f.mean()).mean() + softplus(r.mean() - f).mean(),
    ),
    "ralsgan": (
        lambda r, f: ((r - f.mean() - 1) ** 2).mean() + ((f - r.mean() + 1) ** 2).mean(),
        lambda r, f: ((r - f.mean() + 1) ** 2).mean() + ((f - r.mean() - 1) ** 2).mean(),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_paired_objectives_are_the_published_ones(name):
    gan, of_D, of_G = GANLoss(name), *BY_HAND[name]
    real, fake = (torch.tensor(p).view(2, 1, 1, 2).requires_grad_() for p in (REAL, FAKE))
    terms = gan.discriminator(real, fake)
    assert list(terms) == ["D_GAN"] and terms["D_GAN"].item() == pytest.approx(of_D(REAL, FAKE), rel=1e-12)
    for on_real in (real, lambda: real):
        assert gan.generator(fake, on_real).item() == pytest.approx(of_G(REAL, FAKE), rel=1e-12)


@pytest.mark.parametrize("name", PAIRED)
def test_paired_players_pull_their_own_way(name):
    """At predictions near 0: the discriminator raises real and lowers fake, the generator raises fake."""
    gan, (real, fake) = GANLoss(name), (torch.full((2, 1, 3, 3), 0.1).requires_grad_() for _ in range(2))
    gan.discriminator(real, fake)["D_GAN"].backward()
    assert bool((real.grad < 0).all() and (fake.grad > 0).all())
    fake.grad = None
    gan.generator(fake, real.detach()).backward()
    assert bool((fake.grad < 0).all())


@pytest.mark.parametrize("name", PAIRED)
def test_a_paired_objective_says_what_to_call(name):
    gan, p = GANLoss(name), torch.zeros(2, 1)
    for call in (gan.real, gan.fake, gan.generator):
        with pytest.raises(OptionError, match=r"let the model call gan.discriminator\(D\(real\), D\(fake\)\)"):
            call(p)
    with pytest.raises(OptionError, match="compares predictions of one shape"):
        gan.discriminator(p, torch.zeros(1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_other_objectives_never_ask_for_the_real_side(name):
    gan, real, fake = GANLoss(name), torch.tensor(REAL), torch.tensor(FAKE)
    assert torch.equal(gan.generator(fake, lambda: 1 / 0), gan.generator(fake))
    assert gan.discriminator(real, fake, "D_A") == {"D_A_real": gan.real(real), "D_A_fake": gan.fake(fake)}


def test_a_paired_objective_of_a_plug_in_is_checked():
    class Half:
        discriminator = staticmethod(lambda real, fake: fake.mean())

    with pytest.raises(OptionError, match=r"'half' has no generator; make it a networks.gan_loss.PairedObjective"):
        check_part("objective", Half, "half", "mine.py")
    Half.generator = staticmethod(lambda p: p.mean())
    with pytest.raises(OptionError, match=r"cannot be called as \(real, fake\)"):
        check_part("objective", Half, "half", "mine.py")


# --- scales and features --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_scales_are_averaged_and_the_last_feature_is_judged(name):
    gan, (a, b) = GANLoss(name), (torch.tensor(REAL).view(4, 1), torch.tensor(FAKE)[:3].view(3, 1))

    def values(x, y):
        return [value.item() for value in (*gan.discriminator(x, y).values(), gan.generator(y, x))]

    def feature(p):
        return torch.full((len(p), 7), 9.0)

    each = zip(values(a, a + 1), values(b, b - 1), strict=True)
    mean = [(one + other) / 2 for one, other in each]
    scales, others = [a, b], (a + 1, b - 1)
    assert values(scales, others) == pytest.approx(mean, rel=1e-12)
    features = [[feature(p), feature(p), p] for p in scales], tuple((feature(p), p) for p in others)
    assert values(*features) == pytest.approx(mean, rel=1e-12)
    assert values([[feature(a), a]], [a + 1]) == values(a, a + 1)


@pytest.mark.parametrize("output", [None, {"a": torch.zeros(1)}, [], [[]], [torch.zeros(1), [torch.zeros(1)]], [[1.0]]])
@pytest.mark.parametrize("name", ["lsgan", "relativistic"])
def test_what_else_a_discriminator_returns_is_refused(name, output):
    with pytest.raises(OptionError, match=f"objective '{name}': judges a tensor of predictions, a list of them"):
        GANLoss(name).discriminator(output, output)


def test_feature_matching_is_the_papers():
    """Equation 3: the sum over layers of the mean absolute difference; scales are averaged, predictions left out."""
    real = [[torch.tensor([1.0, 2.0]), torch.tensor([[3.0]]), torch.tensor([9.0])], [torch.tensor([4.0])] * 2]
    fake = [[torch.tensor([1.5, 0.0]), torch.tensor([[7.0]]), torch.tensor([0.0])], [torch.tensor([1.0])] * 2]
    assert feature_matching(real, fake).item() == pytest.approx(((0.5 + 2) / 2 + 4 + 3) / 2)
    for wrong in (torch.zeros(1), [torch.zeros(1)] * 2, [[torch.zeros(1)]]):
        with pytest.raises(OptionError, match="returns predictions without features"):
            feature_matching(wrong, wrong)


@pytest.mark.parametrize("netD", ARCHITECTURES["discriminator"])
def test_features_leave_the_predictions_as_they_are(netD):
    nets = []
    for features in (False, True):
        torch.manual_seed(0)
        nets.append(discriminator(flags(netD=netD, ndf=2), 3, features=features))
    x = torch.rand(2, 3, 64, 48)
    plain, full = nets[0](x), nets[1](x)
    plain = plain if isinstance(plain, list) else [plain]
    assert len(plain) == len(full) and all(torch.equal(p, scale[-1]) for p, scale in zip(plain, full, strict=True))
    assert all(len(scale) > 1 and scale[0].shape[1] == 2 for scale in full)
    assert feature_matching(full, nets[1](x.flip(0))) > 0


@pytest.mark.parametrize("netD", ["plain", *OF_GAN])
def test_a_discriminator_without_features_is_named(monkeypatch, netD):
    monkeypatch.setitem(__import__("networks").DISCRIMINATORS, "plain", lambda o, input_nc: torch.nn.Conv2d(3, 1, 1))
    with pytest.raises(OptionError, match=rf"--netD.*{netD} does not return its features; use basic or multiscale"):
        discriminator(flags(netD=netD, crop_size=32), 3, features=True)


def test_the_options_of_a_run_are_those_of_its_loss():
    o = SimpleNamespace(gan_mode="hinge", label_smoothing=0.1, lambda_gp=3.0, penalty="r1")
    gan = GANLoss.from_options(o)
    assert (gan.gan_mode, gan.label, gan.lambda_gp, gan.penalty_name) == ("hinge", 0.9, 3.0, "r1")
