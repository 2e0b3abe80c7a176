"""Names and flags of the registered architectures, tiny ones to be exported, and convolutions with CPU kernels."""

from types import SimpleNamespace

import torch
from torch import nn

from inference.export.exportable import Exportable
from inference.export.generator_search import Generator
from inference.export.run_loading import smooth_picture
from networks import generator
from networks.architectures.dcgan import ClassGenerator
from networks.architectures.stylegan2 import NoiseInjection
from networks.conditioning import ConditionalGenerator
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


TINY_FLAGS = dict(ngf=4, load_size=32, crop_size=32)
EXPORTED_TRANSLATORS = {  # kind: (flags, input channels, output channels)
    "resnet": (dict(netG="resnet_4blocks"), 3, 3),
    "resnet, blurs": (dict(netG="resnet_4blocks", norm="instance_affine", no_antialias=False, no_antialias_up=False,
                           padding="zero"), 3, 3),
    "resnet, six channels to grey": (dict(netG="resnet_4blocks", norm="layer", resize_conv=True), 6, 1),
    "unet": (dict(netG="unet_32", norm="batch", no_dropout=False), 3, 3),
    "unet, grey": (dict(netG="unet_32", norm="instance"), 1, 1),
    "smallstylegan2": (dict(netG="smallstylegan2"), 3, 3),
    "stylegan2": (dict(netG="stylegan2"), 3, 3),
}  # fmt: skip
EXPORTED_SAMPLERS = ("dcgan", "sngan_resnet", "class", "dcgan of classes")
EXPORTED = (*EXPORTED_TRANSLATORS, *EXPORTED_SAMPLERS)


def item_of(kind, **changed):
    """Return an Exportable of a kind, with random weights."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    if kind in EXPORTED_TRANSLATORS:
        chosen, input_nc, output_nc = EXPORTED_TRANSLATORS[kind]
        net = generator(flags(**TINY_FLAGS | chosen), input_nc, output_nc)
        inputs = {"image": torch.stack([smooth_picture(input_nc, 32, 32, rng) for _ in range(2)])}
    else:
        name = {"dcgan of classes": "dcgan", "class": "dcgan"}.get(kind, kind)
        inputs = {"z": torch.randn(2, 6)} | ({"label": torch.tensor([0, 1])} if "class" in kind else {})
        net = generator(flags(**TINY_FLAGS, netG=name, norm="batch"), 10 if "of" in kind else 6, 3)
        net = ConditionalGenerator(net, 3, 4) if "of" in kind else net
        net = ClassGenerator(3, 3, 32, 6, 4, 4) if kind == "class" else net
    for part in net.modules():
        if isinstance(part, NoiseInjection):
            nn.init.constant_(part.weight, 0.3)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    made = Exportable(Generator("G", net.eval().requires_grad_(False), inputs), (32, 32), classes=3, **changed)
    made.free = "N" if made.why_not_free() else made.free
    return made
