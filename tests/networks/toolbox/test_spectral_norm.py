"""Spectral norm divides by the largest singular value, keeps keys, and is undone for nothing when exported."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as torchs

from networks.toolbox import tool_state
from networks.toolbox.spectral_norm import add_spectral_norm, normalised

LAYERS = {
    "conv": lambda: nn.Conv2d(3, 5, 4),
    "transposed": lambda: nn.ConvTranspose2d(3, 5, 4),
    "linear": lambda: nn.Linear(6, 4),
    "embedding": lambda: nn.Embedding(7, 3),
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)  # the power method takes longer for some weights than for others


def matrix(layer, weight):
    return weight.transpose(0, 1).flatten(1) if isinstance(layer, nn.ConvTranspose2d) else weight.flatten(1)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_weight_is_divided_by_its_largest_singular_value(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind]().double()
    plain = layer.weight.detach().clone()
    keys = list(layer.state_dict())
    assert add_spectral_norm(layer) == 1 and add_spectral_norm(layer) == 0
    for _ in range(1000):  # the power method, a step for each use
        _ = layer.weight
    wanted = plain / torch.linalg.svdvals(matrix(layer, plain))[0]
    assert torch.allclose(layer.weight, wanted, rtol=1e-6)
    assert list(layer.state_dict()) == keys and torch.equal(layer.state_dict()["weight"], plain)


def test_the_gradient_is_that_of_the_paper():
    """Miyato et al. 2018, eq. 12: (g - <g, W_sn> u v^T) / sigma, of a loss with the slope g at W_sn = W / sigma."""
    layer = nn.Linear(2, 2, bias=False).double()
    layer.weight.data = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).double()  # u = v = (1, 0), sigma = 3
    add_spectral_norm(layer)
    for _ in range(40):
        _ = layer.weight
    slope = torch.tensor([[2.0, 5.0], [7.0, 11.0]]).double()
    (layer.weight * slope).sum().backward()
    normed = torch.tensor([[1.0, 0.0], [0.0, 1 / 3]]).double()
    wanted = (slope - (slope * normed).sum() * torch.tensor([[1.0, 0.0], [0.0, 0.0]])) / 3
    assert torch.allclose(layer.parametrizations.weight.original.grad, wanted, atol=1e-9)


def test_only_training_moves_the_vector_of_this_copy():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), torchs(nn.Conv2d(4, 1, 3)))
    assert add_spectral_norm(net) == 1
    x, twin = torch.randn(2, 1, 8, 8), copy.deepcopy(net)
    (before,) = [value.clone() for value in tool_state.state_dict(net).values()]
    net.eval()(x)
    assert torch.equal(*tool_state.state_dict(net).values(), before)
    _ = net.train()[0].weight
    (own,), (other,) = (list(tool_state.state_dict(each).values()) for each in (net, twin))
    assert not torch.equal(own, before) and torch.equal(other, before)


def test_exported_weights_work_without_the_norm():
    net, plain = (
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3)),
    )
    add_spectral_norm(net)
    x, raw = torch.randn(2, 1, 8, 8), net.state_dict()["0.weight"].clone()
    for _ in range(1000):
        net(x)  # a step of the power method each
    with normalised(net):
        plain.load_state_dict({key: value.clone() for key, value in net.state_dict().items()})
    assert torch.equal(net.state_dict()["0.weight"], raw)
    assert torch.allclose(net.eval()(x), plain(x), atol=1e-6)
    net.load_state_dict(plain.state_dict())  # such files are loaded into a normed network, which fits its vectors
    assert torch.allclose(net(x), plain(x), atol=1e-4)


def test_a_state_is_of_plain_tensors():
    net = nn.Sequential(nn.Conv2d(1, 4, 3))
    add_spectral_norm(net)
    for buffer in net.buffers():
        buffer.mark = 1  # torch.compile does so, and torch.save would keep it
    assert not any(hasattr(value, "mark") for value in tool_state.state_dict(net).values())


def test_the_state_goes_round():
    net, other = (nn.Sequential(nn.Conv2d(1, 4, 3)) for _ in range(2))
    for each in (net, other):
        add_spectral_norm(each)
    net(torch.randn(1, 1, 4, 4))
    other.load_state_dict(net.state_dict())
    assert tool_state.load_state_dict(other, tool_state.state_dict(net)) == []
    assert torch.equal(net.eval()[0].weight, other.eval()[0].weight)
    assert "starts afresh" in tool_state.load_state_dict(other, {})[0]
    assert "is dropped" in tool_state.load_state_dict(nn.Linear(1, 1), tool_state.state_dict(net))[0]
    with pytest.raises(ValueError, match=r"is \(3,\), not \(4,\)"):
        tool_state.load_state_dict(other, dict.fromkeys(tool_state.state_dict(net), torch.zeros(3)))
