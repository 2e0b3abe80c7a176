"""Objectives and the gradient penalty have the published formulas' values and gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from networks import GANLoss, discriminator
from networks.gan_loss import gradient_penalty
from registry.lookup import entries, find
from tests.support.runs import options
from util.errors import OptionError

NAMES = [e.name for e in entries("objective")]
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


@pytest.mark.parametrize("name", ["wgangp", "hinge"])
def test_label_smoothing_is_refused_where_nothing_is_labelled(name):
    with pytest.raises(OptionError, match="--label_smoothing"):
        options("--gan_mode", name, "--label_smoothing", "0.1")


# --- the gradient penalty -------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """D(x) = <w, x>, given out in several parts that have to be summed."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        return (self.w * x).flatten(1).view(len(x), 1, 2, -1)


class Quadratic(nn.Module):
    """D(x) = <a, x^2> / 2: its slope at x is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(a)
        self.seen = None

    def forward(self, x):
        self.seen = x.detach().clone()
        return 0.5 * (self.a * x * x).flatten(1).sum(1, keepdim=True)


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_a_linear_discriminators_penalty_is_that_of_its_weight():
    """Its slope is w everywhere: (|w| - 1)^2, and 2 (|w| - 1) w / |w| for w, for any images."""
    w = draws(1, 3, 4, 2)
    D = Linear(w)
    norm = np.linalg.norm(w.numpy())
    for seed in (2, 3):
        D.zero_grad()
        value = gradient_penalty(D, draws(seed, 5, 3, 4, 2), draws(seed + 10, 5, 3, 4, 2))
        assert value.item() == pytest.approx((norm - 1) ** 2, rel=1e-12)
        value.backward()
        np.testing.assert_allclose(D.w.grad.numpy(), 2 * (norm - 1) * w.numpy() / norm, rtol=1e-12)


def test_a_quadratic_discriminators_penalty_is_a_mean():
    """Where real and fake are one picture x_i the slope there is a x_i: each picture has its own norm."""
    a, x = draws(4, 3, 4, 2), draws(5, 6, 3, 4, 2)
    D = Quadratic(a)
    value = gradient_penalty(D, x, x.clone())
    slopes = (a * x).numpy()
    norms = np.sqrt((slopes**2).sum((1, 2, 3)))
    assert value.item() == pytest.approx(((norms - 1) ** 2).mean(), rel=1e-12)
    value.backward()
    by_hand = (2 * ((norms - 1) / norms)[:, None, None, None] * slopes * x.numpy()).mean(0)
    np.testing.assert_allclose(D.a.grad.numpy(), by_hand, rtol=1e-10)


def test_the_penalty_takes_one_random_point_per_real_and_fake():
    real, fake = draws(6, 2000, 1, 2, 3), draws(7, 2000, 1, 2, 3)
    D = Quadratic(torch.ones(1, 2, 3, dtype=torch.double))
    torch.manual_seed(0)
    value = gradient_penalty(D, real, fake)
    shares = ((D.seen - fake) / (real - fake)).flatten(1)
    assert torch.allclose(shares, shares[:, :1].expand_as(shares), atol=1e-9), "one share for all of a picture"
    shares = shares[:, 0]
    assert shares.min() >= 0
    assert shares.max() <= 1
    counts = torch.histc(shares, 10, 0, 1)  # uniform: 200 in each tenth, give or take 4 deviations
    assert (counts - 200).abs().max() < 4 * (2000 * 0.1 * 0.9) ** 0.5
    norms = D.seen.flatten(1).norm(dim=1)
    assert value.item() == pytest.approx((norms - 1).square().mean().item(), rel=1e-12)


def test_the_points_follow_the_seed():
    D = Quadratic(torch.ones(1, 2, 3, dtype=torch.double))
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        gradient_penalty(D, draws(6, 4, 1, 2, 3), draws(7, 4, 1, 2, 3))
        seen.append(D.seen)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("norm", [e.name for e in entries("norm")])
@pytest.mark.parametrize("netD", [e.name for e in entries("discriminator")])
def test_the_penalty_reaches_every_weight_with_the_right_slope(netD, norm):
    """Against a finite difference along a random direction; only the last bias, which moves no slope, gets none."""
    torch.manual_seed(0)
    o = options("--netD", netD, "--norm", norm, "--ndf", "2", "--init_gain", "0.5")
    D = discriminator(o, 3).double()
    real, fake = draws(8, 2, 3, 32, 32), draws(9, 2, 3, 32, 32)

    def penalty():
        torch.manual_seed(1)
        return gradient_penalty(D, real, fake)

    params = dict(D.named_parameters())
    slopes = torch.autograd.grad(penalty(), list(params.values()), allow_unused=True)
    flat = dict(zip(params, slopes, strict=True))
    used = {name: g for name, g in flat.items() if g is not None}
    assert all(name.endswith("bias") for name in flat.keys() - used.keys())
    assert all(g.abs().sum() > 0 for name, g in used.items() if name.endswith("weight"))
    direction = {name: draws(n, *p.shape) for n, (name, p) in enumerate(params.items())}
    expected = sum((used[name] * direction[name]).sum().item() for name in used)
    values, step = [], 1e-6
    with torch.no_grad():
        for sign in (1, -2):
            for name, p in params.items():
                p.add_(direction[name], alpha=sign * step)
            with torch.enable_grad():
                values.append(penalty().item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("lambda_gp", [0.0, 10.0])
@pytest.mark.parametrize("name", NAMES)
def test_only_an_objective_in_need_is_penalised_with_a_weight(name, lambda_gp):
    w = draws(1, 3, 4, 2)
    real, fake = draws(2, 5, 3, 4, 2), draws(3, 5, 3, 4, 2).requires_grad_()
    terms = GANLoss(name, lambda_gp=lambda_gp).penalty("D_gp", Linear(w), real, fake)
    if find("objective", name).penalised and lambda_gp > 0:
        assert list(terms) == ["D_gp"]
        assert terms["D_gp"].item() == pytest.approx(lambda_gp * (w.norm().item() - 1) ** 2, rel=1e-12)
    else:
        assert terms == {}


def test_wgangp_is_the_one_published_objective_with_a_penalty():
    assert [name for name in FORMULAS if find("objective", name).penalised] == ["wgangp"]


@pytest.mark.parametrize(
    ("name", "lambda_gp", "warns"), [("wgangp", 10, True), ("wgangp", 0, False), ("lsgan", 10, False)]
)
def test_a_plugin_that_forgets_a_due_penalty_is_warned(name, lambda_gp, warns, recwarn):
    gan, p, D = GANLoss(name, lambda_gp=lambda_gp), torch.zeros(2, 1, 3, 3), Linear(draws(1, 3, 4, 2))
    for _ in range(3):  # as it should be
        gan.fake(p)
        gan.penalty("D_gp", D, draws(2, 5, 3, 4, 2), draws(3, 5, 3, 4, 2))
    assert not recwarn.list
    gan.generator(p)
    assert not recwarn.list
    for _ in range(2):
        gan.fake(p)
    gan.generator(p)  # the discriminator's phase is over
    assert [("gan.penalty" in str(w.message)) for w in recwarn.list] == [True] * warns


def test_the_penalty_leaves_generator_and_pictures_alone():
    real, latent = draws(2, 5, 3, 4, 2).requires_grad_(), draws(3, 5, 3, 4, 2).requires_grad_()
    D = Quadratic(draws(1, 3, 4, 2))
    GANLoss("wgangp").penalty("D_gp", D, real, latent.tanh())["D_gp"].backward()
    assert D.a.grad.abs().sum() > 0
    assert latent.grad is None
    assert real.grad is None
