"""Layers whose weight is computed from others start from the weight that --init_type draws, and resume exactly."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from networks import initialised
from tests.support.architectures import NAMES, flags

SPECTRAL = {"hook": (spectral_norm, "weight_orig"),
            "parametrised": (parametrizations.spectral_norm, "parametrizations.weight.original")}  # fmt: skip
LAYERS = {"conv": lambda: nn.Conv2d(3, 8, 3), "transposed": lambda: nn.ConvTranspose2d(3, 8, 3),
          "linear": lambda: nn.Linear(6, 5)}  # fmt: skip


def built(norm, layer, init_type="normal", gain=0.02):
    """Return a network of one layer, initialised, and the same without the norm."""
    nets = []
    for wrap in (norm, lambda layer: layer):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # weight_norm is deprecated
            net = nn.Sequential(wrap(LAYERS[layer]()))
        torch.manual_seed(1)
        nets.append(initialised(net, flags(init_type=init_type, init_gain=gain)))
    return nets


def image(layer):
    return torch.rand(4, 6) if layer == "linear" else torch.rand(2, 3, 7, 7)


@pytest.mark.parametrize("init_type", NAMES["initialiser"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", SPECTRAL)
def test_spectral_norm_divides_the_drawn_weight(kind, layer, init_type):
    norm, key = SPECTRAL[kind]
    net, plain = built(norm, layer, init_type, 0.3)
    drawn = net.state_dict()["0." + key]
    assert torch.equal(drawn, plain[0].weight)
    assert not net[0].bias.any()
    weight = (drawn if layer != "transposed" else drawn.transpose(0, 1)).flatten(1)
    by_hand = drawn / torch.linalg.matrix_norm(weight, 2)
    net.eval()(image(layer))  # the vectors fit at once: in evaluation mode nothing improves them
    assert torch.allclose(net[0].weight, by_hand, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm], ids=["hook", "parametrised"])
def test_weight_norm_starts_as_the_drawn_weight(norm, layer):
    net, plain = built(norm, layer)
    x = image(layer)
    assert torch.allclose(net(x), plain(x), atol=1e-6)
    assert all(p.requires_grad for p in net.parameters()) and len(list(net.parameters())) == 3


def test_a_constraint_is_kept():
    """An orthogonal weight stays orthogonal with every initialiser."""
    net, _ = built(parametrizations.orthogonal, "linear")
    assert torch.allclose(net[0].weight @ net[0].weight.T, torch.eye(5), atol=1e-5)


def test_a_parametrisation_without_an_inverse_gets_the_draw():
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    def twice(layer):
        return nn.utils.parametrize.register_parametrization(layer, "weight", Twice())

    net, plain = built(twice, "conv")
    assert torch.equal(net[0].weight, 2 * plain[0].weight)


@pytest.mark.parametrize("kind", SPECTRAL)
def test_a_loaded_state_continues_to_the_bit(kind):
    """The vectors are buffers: a network that loads the state in the middle ends as the one that went on."""
    net, _ = built(SPECTRAL[kind][0], "conv")
    x, other = image("conv"), built(SPECTRAL[kind][0], "conv")[0]

    def train(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
        return net.state_dict()

    train(net)
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    one, two = train(net), train(other)
    assert all(torch.equal(one[key], two[key]) for key in one)
