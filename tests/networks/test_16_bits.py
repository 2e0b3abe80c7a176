"""In 16 bits activations keep one layout and one type from the first convolution on; statistics and outputs have 32."""

import pytest
import torch
from torch import nn

from networks import discriminator, generator
from networks.norm import InstanceNorm, InstanceNormOfImage
from networks.runtime.apply import apply_runtime_options
from tests.support.runs import options

CPU = torch.device("cpu")
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.LeakyReLU, nn.ReflectionPad2d, nn.ReplicationPad2d, InstanceNorm,
          nn.BatchNorm2d, nn.Dropout, nn.Tanh)  # fmt: skip
BUILDERS = {
    "resnet": lambda o: generator(o("--netG", "resnet_4blocks"), 3, 3),
    "resnet, zeros": lambda o: generator(o("--netG", "resnet_4blocks", "--padding", "zero"), 3, 3),
    "resnet, replicate": lambda o: generator(o("--netG", "resnet_4blocks", "--padding", "replicate"), 3, 3),
    "resnet, dropout": lambda o: generator(o("--netG", "resnet_4blocks", "--dropout"), 3, 3),
    "unet": lambda o: generator(o("--netG", "unet_32"), 3, 3),
    "patchgan": lambda o: discriminator(o("--netD", "basic"), 3),
}


def keeps_layout(x):
    return x.is_contiguous(memory_format=torch.channels_last)


def built(which, norm, *flags):
    torch.manual_seed(0)

    def make(*more):
        return options("--model", "cycle_gan", "--norm", norm, *more)

    net = BUILDERS[which](make).train()
    apply_runtime_options({"net": net}, options("--model", "cycle_gan", *flags), CPU)
    return net


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("which", BUILDERS)
def test_no_layer_leaves_channels_last_or_16_bits(which, norm):
    """Outputs of layers and of residual blocks, and the gradients that come back."""
    net, seen, came = built(which, norm, "--amp", "bf16", "--memory_format", "channels_last"), [], []

    def hook(part, args, out):
        if args[0].dtype == torch.bfloat16 or isinstance(part, nn.Conv2d):
            seen.append((type(part).__name__, out.dtype, keeps_layout(out)))
            if out.shape[1] > 3:  # the loss's own gradient has no layout
                out.register_hook(lambda slope: came.append((type(part).__name__, slope.stride(1))))

    for part in net.modules():
        if isinstance(part, LAYERS) or type(part).__name__ == "ResnetBlock":
            part.register_forward_hook(hook)
    out = net(torch.rand(2, 3, 32, 32))
    (out[0] if isinstance(out, list) else out).square().mean().backward()
    assert seen and came and {(kind, is_last) for _, kind, is_last in seen} == {(torch.bfloat16, True)}, seen
    assert {step for _, step in came} == {1}, came  # of a skip connection, a part of the channels
    assert out.dtype == torch.float32 and {p.grad.dtype for p in net.parameters()} == {torch.float32}
    assert {b.dtype for b in net.buffers() if b.is_floating_point()} <= {torch.float32}


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("which", [which for which in BUILDERS if "dropout" not in which])  # draws follow the layout
def test_outputs_and_gradients_are_near_those_of_32_bits(which, norm, layout):
    nets = built(which, norm), built(which, norm, "--amp", "bf16", "--memory_format", layout)
    x, found = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), []
    for net in nets:
        torch.manual_seed(2)
        out = net(x)
        loss = out.square().mean()
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.reshape(-1) for p in net.parameters()])))
    (one, slopes), (other, rounded) = found
    assert torch.isclose(one, other, rtol=0.05) and not torch.equal(slopes, rounded)
    assert torch.cosine_similarity(slopes, rounded, dim=0) > 0.95


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "affine", "of an image"])
def test_statistics_of_an_instance_norm_have_32_bits(kind, samples):
    """Values far from 0, whose mean 16 bits cannot hold: what comes out differs from 64 bits by its rounding alone."""
    torch.manual_seed(0)
    norm = InstanceNormOfImage(8) if kind == "of an image" else InstanceNorm(8, affine=kind == "affine")
    for p in norm.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    x = (torch.randn(samples, 8, 16, 16) + 40 * torch.rand(samples, 8, 1, 1)).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = norm(x)
    exact = nn.functional.group_norm(x.detach().double(), 8, *(p.detach().double() for p in norm.parameters()))
    assert out.dtype == torch.bfloat16 and keeps_layout(out)
    assert "GroupNorm" not in out.grad_fn.name()  # whose backward pass is slow
    assert (out - exact).abs().max() <= 2**-7 * exact.abs().max()
    slope = torch.randn(samples, 8, 16, 16).bfloat16()
    (mine,) = torch.autograd.grad(out, x, slope)
    wide = x.detach().double().requires_grad_()
    again = nn.functional.group_norm(wide, 8, *(p.detach().double() for p in norm.parameters()))
    (theirs,) = torch.autograd.grad(again, wide, slope.double())
    assert keeps_layout(mine) and (mine - theirs).abs().max() <= 0.02 * theirs.abs().max()
