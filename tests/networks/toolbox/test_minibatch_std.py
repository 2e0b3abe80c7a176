"""The deviation within a batch is the mean of standard deviations, and the layer that sees it starts unchanged."""

import pytest
import torch
from torch import nn

from networks.toolbox.minibatch_std import add_minibatch_std, deviation


def test_the_deviation_by_hand():
    x = torch.tensor([[0.0, 4.0], [2.0, 4.0], [6.0, 0.0], [2.0, 2.0], [0.0, 8.0], [2.0, 6.0]])  # two groups of three
    first = (torch.tensor([0.0, 6, 0]).std(correction=0) + torch.tensor([4.0, 0, 8]).std(correction=0)) / 2
    second = (0 + torch.tensor([4.0, 2, 6]).std(correction=0)) / 2
    wanted = torch.stack([first, second] * 3)
    assert torch.allclose(deviation(x)[:, 0], wanted, atol=1e-4)
    maps = deviation(x[:, :, None, None].expand(-1, -1, 5, 7))
    assert maps.shape == (6, 1, 5, 7) and torch.allclose(maps[:, 0, 4, 6], wanted, atol=1e-4)
    assert float(deviation(x[:1]).abs().max()) < 1e-3


@pytest.mark.parametrize("last", [nn.Conv2d(4, 1, 3), nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 1))])
def test_a_network_starts_unchanged_and_learns_from_it(last):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), last)
    x = torch.randn(4, 3, 8, 8)
    before, keys = net(x), list(net.state_dict())
    assert add_minibatch_std(net) == 1 and add_minibatch_std(net) == 1
    assert torch.allclose(net(x), before, atol=1e-6) and list(net.state_dict()) == keys
    net(x).sum().backward()
    layer = last if isinstance(last, nn.Conv2d) else last[1]
    assert layer.weight.grad[:, -1].abs().min() > 0
