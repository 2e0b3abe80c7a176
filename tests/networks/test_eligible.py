"""Fast CPU convolutions export and count FLOPs as nn.Conv2d."""

import copy
import io
from functools import partial

import pytest
import torch
from torch import nn

from inference.receptive_field import receptive_field
from networks.architectures.resnet import Resnet
from networks.cpu.kernels import apply_cpu_kernels
from tests.support.architectures import with_kernel, without_kernel

NARROW, IDS = [("narrow", (6, 3, 7)), ("narrow", (10, 3, 7))], ["columns", "rows", "halved"]


@pytest.fixture(params=[4, 16], ids=["columns", "rows"])
def net(request, always_halved):
    """A generator whose layers go their own ways however small they are."""
    torch.manual_seed(0)
    net = Resnet(3, 3, 1, request.param).double().eval()
    apply_cpu_kernels([net], None, torch.device("cpu"))
    return net


def as_plain(net, x):
    """Return what the network makes with convolutions of torch's."""
    plain = copy.deepcopy(net)
    own = [m for m in plain.modules() if "_conv_forward" in vars(m)]
    assert own
    for m in own:
        del m._conv_forward
    with torch.no_grad():
        return plain(x)


def picture(height, width):
    return torch.rand(1, 3, height, width, dtype=torch.double)


def test_traced_networks_take_other_sizes_and_can_be_saved(net):
    with torch.no_grad():
        traced = torch.jit.trace(net, picture(64, 64))
    saved = io.BytesIO()
    torch.jit.save(traced, saved)
    saved.seek(0)
    x = picture(96, 80)
    assert torch.allclose(torch.jit.load(saved)(x), as_plain(net, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "shape"), [*NARROW, ("winograd", (64, 64, 3))], ids=IDS)
def test_layers_that_are_exported_take_other_sizes(name, shape):
    conv = with_kernel(name, *shape)
    height, width = torch.export.Dim("height", min=8, max=512), torch.export.Dim("width", min=8, max=512)
    given = torch.rand(1, conv.in_channels, 96, 128)
    made = torch.export.export(conv, (given,), dynamic_shapes=({2: height, 3: width},))
    x = torch.rand(1, conv.in_channels, 50, 31)
    assert torch.allclose(made.module()(x), without_kernel(conv, x), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [*NARROW, ("winograd", (5, 6, 3))], ids=IDS)
def test_what_does_not_fit_is_told_as_by_a_plain_one(name, shape, always_halved):
    conv, before, side = with_kernel(name, *shape), shape[0], shape[-1]
    for shape in [(2, before - 1, 9, 9), (2, before + 1, 9, 9), (2, before, side - 1, 9), (2, before, 9, side - 1)]:
        told = []
        for way in (conv, partial(without_kernel, conv)):
            with pytest.raises(RuntimeError) as problem:
                way(torch.zeros(shape))
            told.append(str(problem.value))
        assert told[0] == told[1]


class Wanting(nn.Module):
    """A network that cannot do with shapes alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x + float(x.mean()))


def test_how_far_a_network_sees_does_not_depend_on_the_way(net):
    assert receptive_field(Wanting(net)) == receptive_field(net)
