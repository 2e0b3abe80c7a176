"""Weights as other people hand them over: a small generator, its bare file, statistics of old norms."""

from types import SimpleNamespace

import torch
from torch import nn

from networks import generator

USUAL = dict(netG="resnet_4blocks", netD="basic", ngf=4, ndf=4, n_layers_D=3, norm="instance", no_dropout=True,
             padding="reflect", init_type="normal", init_gain=0.02, input_nc=3, output_nc=3,
             resize_conv=False)  # fmt: skip


def build(**changed):
    o = SimpleNamespace(**(USUAL | changed))
    return generator(o, o.input_nc, o.output_nc)


def with_instance_statistics(net):
    """As torch 0.3 wrote them: running statistics of instance norms that no longer keep any."""
    state = dict(net.state_dict())
    norms = [name for name, layer in net.named_modules() if isinstance(layer, nn.InstanceNorm2d)]
    assert norms
    for name in norms:
        state |= {f"{name}.running_mean": torch.zeros(4), f"{name}.running_var": torch.ones(4)}
    return state


def published(tmp_path, net, name="latest_net_G.pth", folder="published"):
    """Save a network's weights as somebody would hand them over: one file in a folder, nothing beside it."""
    path = tmp_path / "checkpoints" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    return path
