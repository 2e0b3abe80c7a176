"""A convolution to few channels by rows or columns has nn.Conv2d's values, gradients and keys."""

import pytest
import torch
from torch import nn

from networks.architectures.resnet import Resnet
from networks.cpu import narrow_conv
from networks.norm import InstanceNorm
from tests.support.architectures import with_kernel


def pair(before, after, side, bias=True):
    """Return one and the plain convolution of the same weights, in 64 bits."""
    torch.manual_seed(0)
    plain = nn.Conv2d(before, after, side, bias=bias).double()
    ours = with_kernel("narrow", before, after, side, bias=bias).double()
    ours.load_state_dict(plain.state_dict())
    return ours, plain


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("width", [12, 13])
@pytest.mark.parametrize("before", [3, 10])
@pytest.mark.parametrize(("after", "side"), [(1, 7), (2, 7), (3, 7), (3, 3), (4, 5), (8, 7), (20, 3)])
def test_values_and_gradients_are_those_of_a_plain_convolution(after, side, before, width, bias, last):
    ours, plain = pair(before, after, side, bias)
    x = torch.randn(2, before, 15, width, dtype=torch.double)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    found = []
    for conv in (ours, plain):
        of = x.clone().requires_grad_()
        made = conv(of)
        slopes = torch.autograd.grad(made.square().sum(), [of, *conv.parameters()], create_graph=True)
        second = torch.autograd.grad(sum(s.square().sum() for s in slopes), [of, *conv.parameters()])
        found.append([made, *slopes, *second])
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-9) for a, b in zip(*found, strict=True))


def test_a_picture_without_a_batch_is_taken_too():
    ours, plain = pair(6, 3, 7)
    x = torch.randn(6, 15, 12, dtype=torch.double)
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(InstanceNorm(6)(x), nn.InstanceNorm2d(6)(x))


@pytest.mark.parametrize("before", [6, 10])
def test_a_weight_made_anew_at_each_look_is_read_once(before):
    """Spectral norm goes a step further at each look, in training."""
    torch.manual_seed(0)
    ours, plain = pair(before, 3, 7)
    torch.manual_seed(0)
    ours = nn.utils.parametrizations.spectral_norm(ours)
    torch.manual_seed(0)
    plain = nn.utils.parametrizations.spectral_norm(plain)
    x = torch.randn(1, before, 12, 12, dtype=torch.double)
    for _ in range(3):
        assert torch.allclose(ours(x), plain(x), rtol=1e-12, atol=1e-12)


def shapes(monkeypatch, conv, x):
    """Return the shapes of the weights that are convolved with."""
    seen = []
    real = narrow_conv.F.conv2d
    monkeypatch.setattr(
        narrow_conv.F, "conv2d", lambda x, w, *more, **how: seen.append(tuple(w.shape)) or real(x, w, *more, **how)
    )
    conv(x)
    return seen


def test_rows_become_channels_where_that_pays(monkeypatch):
    x = torch.randn(1, 10, 15, 12)
    assert shapes(monkeypatch, with_kernel("narrow", 10, 3, 7), x) == [(21, 10, 1, 7)]
    assert shapes(monkeypatch, with_kernel("narrow", 10, 16, 7), x) == [(16, 10, 7, 7)]
    with torch.autocast("cpu", torch.bfloat16):
        assert shapes(monkeypatch, with_kernel("narrow", 10, 3, 7), x) == [(3, 10, 7, 7)]
    assert shapes(monkeypatch, with_kernel("narrow", 10, 3, 7).bfloat16(), x.bfloat16()) == [(3, 10, 7, 7)]
    assert shapes(monkeypatch, with_kernel("narrow", 10, 3, 7).to("meta"), x.to("meta")) == [(3, 10, 7, 7)]


def test_columns_become_channels_from_few_to_few(monkeypatch):
    x = torch.randn(1, 8, 15, 12)
    assert shapes(monkeypatch, with_kernel("narrow", 8, 3, 7), x) == [(15, 8, 7, 11)]
    assert shapes(monkeypatch, with_kernel("narrow", 3, 8, 7), x[:, :3]) == [(16, 3, 7, 8)]
    assert shapes(monkeypatch, with_kernel("narrow", 3, 9, 7), x[:, :3]) == [(9, 3, 7, 7)]
    assert shapes(monkeypatch, with_kernel("narrow", 8, 3, 7).to("meta"), x.to("meta")) == [(3, 8, 7, 7)]


def test_a_generator_begins_and_ends_with_one_by_usual_keys():
    net = Resnet(3, 3, 4, 2)
    assert type(net.model[1]) is type(net.model[-2]) is nn.Conv2d
    assert net.model[1].former_kernel == net.model[-2].former_kernel == "narrow"
    assert [key for key in net.state_dict() if key.startswith("model.1.")] == ["model.1.weight", "model.1.bias"]
    last = f"model.{len(net.model) - 2}."
    assert [key for key in net.state_dict() if key.startswith(last)] == [f"{last}weight", f"{last}bias"]


@pytest.mark.parametrize("before", [6, 10])
def test_compiled_it_is_the_same(before):
    ours, plain = pair(before, 3, 7)
    x = torch.randn(2, before, 15, 12, dtype=torch.double)
    assert torch.allclose(torch.compile(ours)(x), plain(x), rtol=1e-10, atol=1e-9)
