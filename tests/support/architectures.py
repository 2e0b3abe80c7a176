"""Names and default flags of the registered architectures, and convolutions with and without CPU kernels."""

from types import SimpleNamespace

import torch
from torch import nn

from networks.cpu.kernels import apply_cpu_kernels, mark_former_kernel
from registry.lookup import entries

OF_GAN = ("dcgan", "sngan_resnet")  # from noise, and of whole images of --crop_size: tests/models/test_gan.py
OF_SINCUT = ("stylegan2", "smallstylegan2", "tilestylegan2")  # without norms and a last tanh: test_stylegan2.py
NAMES = {
    kind: [e.name for e in entries(kind) if e.name not in OF_GAN + OF_SINCUT]
    for kind in ("generator", "discriminator", "norm", "initialiser")
}
TRANSLATORS = [*NAMES["generator"], "stylegan2", "smallstylegan2"]
USUAL = dict(
    netG="resnet_9blocks",
    netD="basic",
    ngf=64,
    ndf=64,
    n_layers_D=3,
    num_D=2,
    norm="instance",
    no_dropout=True,
    padding="reflect",
    init_type="normal",
    init_gain=0.02,
    resize_conv=False,
    load_size=64,
    crop_size=64,
    stylegan2_G_num_downsampling=1,
    stylegan2_G_size=0,
)


def flags(**changed):
    return SimpleNamespace(**(USUAL | changed))


def with_kernel(name, *shape, **settings):
    """Return an nn.Conv2d with a CPU kernel."""
    conv = mark_former_kernel(nn.Conv2d(*shape, **settings), name)
    apply_cpu_kernels([conv], None, torch.device("cpu"))
    return conv


def without_kernel(conv, x):
    """Return what torch's own convolution makes of x with the weights of `conv`."""
    return nn.Conv2d._conv_forward(conv, x, conv.weight, conv.bias)
