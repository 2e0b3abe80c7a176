"""The deviation within a batch is the mean of standard deviations, and the layer that sees it starts unchanged."""

import pytest
import torch
from torch import nn

from networks.toolbox.minibatch_std import add_minibatch_std, deviation
from registry.lookup import find


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


def test_halves_of_one_batch_have_a_deviation_each():
    """SPADE's discriminator sees generated and real images together; one number for both told it nothing."""
    net, seen = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)), []
    assert add_minibatch_std(net, in_one_batch=True) == 1 == add_minibatch_std(net, in_one_batch=True)
    net[1].register_forward_pre_hook(lambda layer, args: seen.append(args[0][:, 4, 0, 0]))
    x = torch.randn(8, 3, 5, 5)
    net(torch.cat([x[:4], x[4:5].expand(4, -1, -1, -1)]))
    (values,) = seen
    assert (
        torch.allclose(values[:4], deviation(net[0](x[:4]))[:, 0, 0, 0]) and values[0] > 0.1 > 1e-3 > values[4:].max()
    )


def test_spade_asks_for_it():
    assert find("model", "spade").judges_one_batch
