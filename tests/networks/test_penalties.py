"""Gradient penalties have the published values and slopes at discriminators whose slopes are known."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm

from networks import PENALTIES, GANLoss, discriminator
from networks.gan_loss import gradient_penalty, objective_notes
from registry.lookup import entries, find
from tests.support.architectures import NAMES as ARCHITECTURES
from tests.support.runs import options
from util.errors import OptionError

OBJECTIVES = [e.name for e in entries("objective")]
NAMES = [e.name for e in entries("penalty")]
OF_NORM = {  # penalty: its value for a slope of norm n that is the same everywhere
    "none": lambda n: 0,
    "gp": lambda n: (n - 1) ** 2,
    "one_sided_gp": lambda n: max(0, n - 1) ** 2,
    "zero_centred_gp": lambda n: n**2,
    "r1": lambda n: n**2 / 2,
    "r2": lambda n: n**2 / 2,
    "r1r2": lambda n: n**2,
    "dragan": lambda n: (n - 1) ** 2,
}


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
@pytest.mark.parametrize("netD", ARCHITECTURES["discriminator"])
def test_the_penalty_reaches_every_weight_with_the_right_slope(netD, norm):
    """Against a finite difference along a random direction; only the last bias, which moves no slope, gets none."""
    torch.manual_seed(0)
    o = options("--netD", netD, "--norm", norm, "--ndf", "2", "--init_gain", "0.5",
                "--n_layers_D", "2")  # fmt: skip
    D = discriminator(o, 3).double()
    for part in D.modules():  # each call in training mode would move a spectral norm's estimate
        if isinstance(part, _SpectralNorm):
            part.eval()
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


@pytest.mark.parametrize("scale", [0.1, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_each_penalty_of_a_linear_discriminator(name, scale):
    """At several scales and with features the gradient is that of the sum of all predictions."""
    w = scale * draws(1, 3, 4, 2)
    real, fake, D = draws(2, 5, 3, 4, 2), draws(3, 5, 3, 4, 2), Linear(w)
    norm = w.norm().item()
    value = find("penalty", name)(D, real, fake)
    assert value.shape == () and value.item() == pytest.approx(OF_NORM[name](norm), rel=1e-12)
    for outputs in (lambda x: [D(x), 2 * D(x)], lambda x: [[x, D(x)], (D(x), x, 2 * D(x))]):
        assert find("penalty", name)(outputs, real, fake).item() == pytest.approx(OF_NORM[name](3 * norm), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_each_penalty_looks_where_it_says(name):
    """D's slope is x: real ones, fakes, or points between or near them."""
    real, fake, D = draws(2, 4, 1, 2, 3), draws(3, 4, 1, 2, 3), Quadratic(torch.ones(1, 2, 3, dtype=torch.double))
    seen = []
    torch.manual_seed(0)
    value = find("penalty", name)(lambda x: seen.append(x.detach()) or D(x), real, fake)
    if name in ("r1", "r2", "r1r2"):
        points = {"r1": [real], "r2": [fake], "r1r2": [real, fake]}[name]
        assert all(torch.equal(a, b) for a, b in zip(seen, points, strict=True))
        assert value.item() == pytest.approx(sum(x.square().sum((1, 2, 3)).mean() / 2 for x in points).item())
    elif name == "dragan":
        share = (seen[0] - real) / (0.5 * real.std())
        assert 0 <= share.min() < share.max() <= 1 and share.unique().numel() == share.numel()
    elif name != "none":
        share = ((seen[0] - fake) / (real - fake)).flatten(1)
        assert torch.allclose(share, share[:, :1].expand_as(share)) and 0 <= share.min() < share.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_conditions_are_bound_to_the_discriminator(name):
    """A class, or the other half of a pair: each sample meets its own, and its gradient is that of the image alone."""
    real, fake, A = (draws(n, 4, 1, 2, 3) for n in (2, 3, 4))
    label, table = torch.tensor([0, 2, 1, 0]), draws(5, 3, 6)
    slopes = [table[label], A.flatten(1)]  # D(x) = <table[label], x>, D(A, x) = <A, x>
    for D, slope in zip(
        (
            partial(lambda x, label: (table[label] * x.flatten(1)).sum(1), label=label),
            lambda x: (lambda pair: (pair[:, :1] * pair[:, 1:]).sum((1, 2, 3)))(torch.cat([A, x], 1)),
        ),
        slopes,
        strict=True,
    ):
        expected = np.mean([OF_NORM[name](float(s.norm())) for s in slope])
        assert find("penalty", name)(D, real, fake).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_each_penalty_trains_the_discriminator_alone(name):
    real, latent = draws(2, 5, 3, 4, 2).requires_grad_(), draws(3, 5, 3, 4, 2).requires_grad_()
    D = Quadratic(draws(1, 3, 4, 2))
    find("penalty", name)(D, real, latent.tanh()).backward()
    assert D.a.grad.isfinite().all() and D.a.grad.abs().sum() > 0
    assert latent.grad is None and real.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_a_flat_discriminator_has_finite_slopes(name):
    """Where the gradient is 0, as right after an initialisation with zeros."""
    D = Quadratic(torch.zeros(3, 4, 2, dtype=torch.double))
    value = find("penalty", name)(D, draws(2, 5, 3, 4, 2), draws(3, 5, 3, 4, 2))
    if value.requires_grad:
        value.backward()
        assert D.a.grad.isfinite().all()


# --- as GANLoss applies them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lambda_gp", [0.0, 10.0])
@pytest.mark.parametrize("penalty", ["", *NAMES])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_penalty_is_the_flags_or_else_the_objectives(name, penalty, lambda_gp):
    w = draws(1, 3, 4, 2)
    real, fake = draws(2, 5, 3, 4, 2), draws(3, 5, 3, 4, 2).requires_grad_()
    gan = GANLoss(name, lambda_gp=lambda_gp, penalty=penalty)
    terms = gan.penalty("D_gp", Linear(w), real, fake)
    meant = penalty or ("gp" if name == "wgangp" else "none")
    assert gan.penalty_name == meant
    if meant == "none" or not lambda_gp:
        assert terms == {}
    else:
        assert list(terms) == ["D_gp"]
        assert terms["D_gp"].item() == pytest.approx(lambda_gp * OF_NORM[meant](w.norm().item()), rel=1e-12)


def test_an_unknown_penalty_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"--penalty.*there is no penalty 'dragon'; did you mean dragan"):
        GANLoss("lsgan", penalty="dragon")


class Holder(nn.Module):
    """A model with a GANLoss and a discriminator."""

    def __init__(self, gan, norm=nn.Identity):
        super().__init__()
        self.gan, self.D = gan, nn.Sequential(nn.Conv2d(1, 2, 1), norm(2), nn.Conv2d(2, 1, 1))


def notes(model, given=(), penalty="", accumulate=1):
    o = SimpleNamespace(given=set(given), penalty=penalty, accumulate=accumulate, gan_mode="x")
    return objective_notes(model, o)


def test_a_penalty_that_a_plug_in_forgets_is_noted():
    for gan, forgotten in (
        (GANLoss("wgangp"), True),
        (GANLoss("wgangp", lambda_gp=0), False),
        (GANLoss("wgangp", penalty="none"), False),
        (GANLoss("lsgan"), False),
        (GANLoss("relativistic", penalty="r1"), True),
    ):
        model, x = Holder(gan), torch.rand(2, 1, 3, 3)
        assert notes(model) == []  # it may have nothing to judge
        gan.discriminator(model.D(x), model.D(x))
        told = notes(model)
        assert ["is not applied: add `| self.gan.penalty(" in note for note in told] == [True] * forgotten
        gan.penalty("D_gp", model.D, x, x)
        assert notes(model) == []


@pytest.mark.parametrize("D", [lambda D: D, lambda D: partial(D), lambda D: lambda x: D(x)])
def test_batch_norm_under_a_penalty_is_noted(D):
    """In a batch of several images, for every function that calls the network."""
    for norm, samples, noted in ((nn.BatchNorm2d, 2, True), (nn.BatchNorm2d, 1, False), (nn.InstanceNorm2d, 2, False)):
        model, x = Holder(GANLoss("lsgan", penalty="r1"), norm), torch.rand(samples, 1, 3, 3)
        model.gan.penalty("D_gp", D(model.D), x, x)
        assert ["batch norm lets the images" in note for note in notes(model)] == [True] * noted


def test_batch_norm_without_gradients_of_images_is_not_noted(monkeypatch):
    monkeypatch.setitem(PENALTIES, "drift", lambda D, real, fake: D(real).square().mean())
    model, x = Holder(GANLoss("lsgan", penalty="drift"), nn.BatchNorm2d), torch.rand(2, 1, 3, 3)
    assert model.gan.penalty("D_gp", model.D, x, x)["D_gp"] > 0
    assert notes(model) == []


def test_a_penalty_that_a_model_does_not_pass_on_is_noted():
    assert "--penalty r1 has no effect on GANLoss" in notes(Holder(GANLoss("lsgan")), ["penalty"], "r1")[0]
    assert notes(Holder(GANLoss("lsgan", penalty="r1")), ["penalty"], "r1") == []
    assert notes(nn.Identity(), ["penalty"], "r1") == []


@pytest.mark.parametrize(
    ("name", "noted"), [("ragan", True), ("ralsgan", True), ("relativistic", False), ("hinge", False)]
)
def test_means_over_the_parts_of_a_batch_are_noted(name, noted):
    assert ["each of its 2 parts" in note for note in notes(Holder(GANLoss(name)), accumulate=2)] == [True] * noted
    assert notes(Holder(GANLoss(name))) == []


def test_a_penalty_with_statistics_of_the_batch_is_noted(monkeypatch):
    own = lambda D, real, fake: D(real).mean()  # noqa: E731
    own.of_batch = True
    monkeypatch.setitem(PENALTIES, "own", own)
    for name, weight, noted in (("dragan", 1, True), ("own", 1, True), ("dragan", 0, False), ("r1", 1, False)):
        model = Holder(GANLoss("lsgan", lambda_gp=weight, penalty=name))
        assert [f"penalty {name} uses" in note for note in notes(model, accumulate=2)] == [True] * noted
        assert notes(model) == []
