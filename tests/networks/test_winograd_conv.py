"""A convolution with half the multiplications has nn.Conv2d's values, gradients and keys."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from networks.architectures.patchgan import PatchDiscriminator
from networks.architectures.resnet import Resnet
from networks.cpu import winograd_conv
from networks.cpu.kernels import apply_cpu_kernels
from networks.cpu.winograd_conv import uses_winograd
from networks.upsample import ResizeConv
from tests.support.architectures import with_kernel, without_kernel


def pair(*shape, **settings):
    """Return one and the plain convolution of the same weights, in 64 bits."""
    torch.manual_seed(0)
    plain, ours = nn.Conv2d(*shape, **settings).double(), with_kernel("winograd", *shape, **settings).double()
    ours.load_state_dict(plain.state_dict())
    return ours, plain


def found(conv, x, **how):
    """Return values and gradients."""
    x = x.clone().requires_grad_()
    made = conv(x)
    return made, *torch.autograd.grad(made.square().sum(), [x, *conv.parameters()], **how)


@pytest.mark.parametrize("height", [6, 13, 16], ids=lambda height: f"{height} rows")
@pytest.mark.parametrize("padding", [0, 1, (2, 0)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("side", [3, 4, (3, 1), (4, 7)], ids=str)
def test_values_and_gradients_are_those_of_a_plain_convolution(always_halved, side, bias, padding, height):
    ours, plain = pair(5, 6, side, bias=bias, padding=padding)
    x = torch.randn(2, 5, height, 9, dtype=torch.double)
    assert uses_winograd(ours, x)
    for a, b in zip(found(ours, x), found(plain, x), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


def test_gradients_of_gradients_are_those_of_a_plain_convolution(always_halved):
    x = torch.randn(2, 5, 12, 9, dtype=torch.double)
    seconds = []
    for conv in pair(5, 6, 3):
        slopes = found(conv, x, create_graph=True)[1:]
        seconds.append(torch.autograd.grad(sum(s.square().sum() for s in slopes), list(conv.parameters())))
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(*seconds, strict=True))


@pytest.mark.parametrize("kept", ["x", "weight", "bias"])
def test_only_gradients_that_are_needed_are_made(always_halved, kept):
    ours, plain = pair(5, 6, 3, padding=1)
    x = torch.randn(1, 5, 8, 8, dtype=torch.double)
    slopes = []
    for conv in (ours, plain):
        of = {"x": x.clone(), "weight": conv.weight, "bias": conv.bias}
        for name, value in of.items():
            value.requires_grad_(name == kept)
        conv(of["x"]).square().sum().backward()
        assert [name for name, value in of.items() if value.grad is not None] == [kept]
        slopes.append(of[kept].grad)
    assert torch.allclose(*slopes, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("side", [3, 4])
def test_rounding_is_at_most_thrice_a_plain_convolutions(side):
    ours, plain = pair(128, 128, side, padding=1)
    x = torch.randn(1, 128, 64, 64)
    exact = found(plain, x.double())
    near, off = (
        [(got - true).abs().mean() for got, true in zip(found(conv.float(), x), exact, strict=True)]
        for conv in (plain, ours)
    )
    assert uses_winograd(ours, x) and off[1] != near[1]
    assert all(ours_off < 3 * plain_off for ours_off, plain_off in zip(off, near, strict=True))


LARGE = torch.randn(1, 128, 64, 64)


@pytest.mark.parametrize(
    ("conv", "x", "halved"),
    [
        (with_kernel("winograd", 128, 128, 3), LARGE, True),
        (with_kernel("winograd", 128, 128, (4, 3), padding=1), LARGE, True),
        (with_kernel("winograd", 128, 128, 3).double(), LARGE.double(), True),
        (with_kernel("winograd", 128, 128, 3), LARGE[:, :, :32, :32].contiguous(), False),
        (with_kernel("winograd", 128, 32, 3), LARGE, False),
        (with_kernel("winograd", 512, 512, 3), torch.zeros(1, 512, 16, 16), False),
        (with_kernel("winograd", 128, 128, 3, stride=2), LARGE, False),
        (with_kernel("winograd", 128, 128, 3, dilation=2), LARGE, False),
        (with_kernel("winograd", 128, 128, 3, groups=2), LARGE, False),
        (with_kernel("winograd", 128, 128, 3, padding="same"), LARGE, False),
        (with_kernel("winograd", 128, 128, 3, padding=1, padding_mode="reflect"), LARGE, False),
        (with_kernel("winograd", 128, 128, 5), LARGE, False),
        (with_kernel("winograd", 128, 128, 3), LARGE.contiguous(memory_format=torch.channels_last), False),
        (with_kernel("winograd", 128, 128, 3), LARGE[0], False),
        (with_kernel("winograd", 128, 128, 3, padding=1), torch.zeros(1, 128, 2, 2048), False),
    ],
    ids=["3x3", "4x3", "64 bits", "small", "narrow", "few pixels", "stride", "dilation", "groups", "same", "reflect",
         "5x5", "channels last", "no batch", "low"],
)  # fmt: skip
def test_the_halved_way_is_taken_where_it_pays(monkeypatch, conv, x, halved):
    groups = []
    real = winograd_conv._WinogradFunction.apply
    monkeypatch.setattr(winograd_conv._WinogradFunction, "apply", lambda *given: groups.append(6) or real(*given))
    with torch.no_grad():
        made = conv(x)
        plain = without_kernel(conv, x)
    assert groups == [6] * halved
    assert torch.allclose(made, plain, rtol=1e-3, atol=1e-5)


def test_any_slopes_and_recomputing_give_the_same_gradients(always_halved):
    ours, plain = pair(5, 6, 3, padding=1)
    x = torch.randn(2, 5, 9, 9, dtype=torch.double)
    given = torch.randn(2, 6, 9, 9, dtype=torch.double).contiguous(memory_format=torch.channels_last)
    for slopes in (given, given[:1, :1, :1, :1].expand_as(given)):
        made = []
        for conv in (ours, plain):
            of = x.clone().requires_grad_()
            again = checkpoint(conv, of, use_reentrant=False)
            made.append(torch.autograd.grad(again, [of, *conv.parameters()], slopes))
        assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-11) for a, b in zip(*made, strict=True))


def test_backward_within_autocast_is_as_exact_as_without(always_halved):
    ours, _ = pair(5, 6, 3, padding=1)
    made = ours.float()(torch.randn(1, 5, 9, 9)).square().sum()
    without = torch.autograd.grad(made, ours.weight, retain_graph=True)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(torch.autograd.grad(made, ours.weight)[0], without)


def test_jacobians_are_those_of_a_plain_convolution(always_halved):
    x = torch.randn(1, 5, 4, 4, dtype=torch.double)
    made = [torch.autograd.functional.jacobian(conv, x, vectorize=True) for conv in pair(5, 6, 3)]
    assert torch.allclose(*made)


def test_weights_changed_before_the_backward_pass_are_an_error(always_halved):
    ours, _ = pair(5, 6, 3)
    made = ours(torch.randn(1, 5, 9, 9, dtype=torch.double).requires_grad_())
    with torch.no_grad():
        ours.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.sum().backward()


def test_networks_for_16_bits_and_counted_ones_do_it_plainly(monkeypatch):
    monkeypatch.setattr(winograd_conv._WinogradFunction, "apply", None)
    conv = with_kernel("winograd", 128, 128, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert conv(LARGE).dtype is torch.bfloat16
    assert not uses_winograd(with_kernel("winograd", 128, 128, 3).bfloat16(), LARGE.bfloat16())
    assert conv.to("meta")(LARGE.to("meta")).shape == (1, 128, 62, 62)


def test_torch_func_maps_and_differentiates_it_forward(always_halved):
    ours, plain = pair(5, 6, 3, padding=1)
    x = torch.randn(3, 2, 5, 9, 9, dtype=torch.double)
    assert torch.allclose(torch.vmap(ours)(x), torch.stack([plain(one) for one in x]))
    towards = plain(x[0] + x[1]) - plain(x[0])
    assert torch.allclose(torch.func.jvp(ours, (x[0],), (x[1],))[1], towards)
    with forward_ad.dual_level():
        dual = ours(forward_ad.make_dual(x[0], x[1]))
        assert torch.allclose(forward_ad.unpack_dual(dual).tangent, towards)


def test_networks_have_it_under_the_usual_keys():
    resnet, judge = Resnet(3, 3, 4, 2), PatchDiscriminator(3, 2)
    halved = [m for m in resnet.modules() if getattr(m, "former_kernel", "") == "winograd"]
    assert [type(m) for m in halved] == [nn.Conv2d] * 2 * 4
    assert "model.10.conv_block.1.weight" in resnet.state_dict()
    assert judge.model[8].former_kernel == ResizeConv(4, 2).former_kernel == "winograd"


@pytest.mark.parametrize("batch", [1, 2])
def test_a_generator_trains_as_with_plain_ones(monkeypatch, batch):
    """Its residual blocks have 64 channels of 32x32: as if that were enough."""
    torch.manual_seed(0)
    net, x = Resnet(3, 3, 2, 16).double(), torch.rand(batch, 3, 128, 128, dtype=torch.double)
    apply_cpu_kernels([net], None, torch.device("cpu"))
    monkeypatch.setattr(winograd_conv, "MIN_MULTIPLICATIONS", 1)
    times = []
    real = winograd_conv._WinogradFunction.apply
    monkeypatch.setattr(winograd_conv._WinogradFunction, "apply", lambda *given: times.append(1) or real(*given))
    ours = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    assert len(times) == 4
    monkeypatch.setattr(winograd_conv, "MIN_CHANNELS", 65)
    plain = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    assert len(times) == 4
    assert all(torch.allclose(a, b, rtol=1e-7, atol=1e-12) for a, b in zip(ours, plain, strict=True))


def test_compiled_it_is_the_same():
    conv = with_kernel("winograd", 64, 64, 3, padding=1).double()
    x = torch.randn(2, 64, 128, 64, dtype=torch.double)
    assert uses_winograd(conv, x)
    with torch.no_grad():
        assert torch.allclose(torch.compile(conv)(x), conv(x), rtol=1e-9, atol=1e-9)
