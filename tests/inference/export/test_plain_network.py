"""An exported network consists of torch's own layers: no kernels, parametrised weights, Frozen parts or own norms."""

import pytest
import torch
from torch import nn

from inference.export.plain_network import PlainGroupNorm, plain_network, without_noise_input
from networks import Frozen, generator
from networks.cpu.kernels import apply_cpu_kernels
from networks.norm import InstanceNorm
from networks.toolbox.spectral_norm import add_spectral_norm
from tests.support.architectures import flags


def test_kernels_norms_and_parametrisations_are_removed():
    net = generator(flags(netG="resnet_4blocks", ngf=4), 3, 3)
    apply_cpu_kernels([net], True, torch.device("cpu"))
    add_spectral_norm(net)
    wrapped = nn.Sequential(net, Frozen(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(3, 3)))).eval()
    plain, image = plain_network(wrapped), torch.rand(2, 3, 24, 20)
    kinds = {type(part) for part in plain.modules()}
    assert not kinds & {InstanceNorm, Frozen, nn.GroupNorm} and {nn.InstanceNorm2d, PlainGroupNorm} <= kinds
    assert not any("_conv_forward" in vars(part) for part in plain.modules())
    assert not any("parametrizations" in key for key in plain.state_dict())
    assert torch.allclose(plain(image), wrapped(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_plain_group_norm_is_torchs(groups):
    norm = nn.GroupNorm(groups, 6)
    nn.init.normal_(norm.weight)
    x = torch.rand(2, 6, 5, 7)
    assert torch.allclose(plain_network(nn.Sequential(norm))(x), norm(x), atol=1e-5)


def test_noise_beside_the_input_becomes_an_argument():
    net = generator(flags(netG="resnet_4blocks", ngf=4, noise_nc=2), 3, 3).eval()
    found, channels = without_noise_input(net)
    image, z = torch.rand(1, 3, 16, 16), torch.rand(1, 2)
    assert channels == 2 and torch.equal(found(image, z), found(image, z)) and len(net._forward_pre_hooks) == 1
    assert not torch.equal(found(image, z), found(image, z + 1))
