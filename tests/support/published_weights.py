"""Weights as other people publish them: a small generator, its single file, and statistics of old instance norms."""

from types import SimpleNamespace

import torch
from torch import nn

from networks import generator

USUAL = dict(
    netG="resnet_4blocks",
    netD="basic",
    ngf=4,
    ndf=4,
    n_layers_D=3,
    num_D=2,
    norm="instance",
    no_dropout=True,
    padding="reflect",
    init_type="normal",
    init_gain=0.02,
    input_nc=3,
    output_nc=3,
    resize_conv=False,
)


def build(**changed):
    o = SimpleNamespace(**(USUAL | changed))
    return generator(o, o.input_nc, o.output_nc)


def with_instance_statistics(net):
    """Return a state_dict as torch 0.3 wrote it, with running statistics of instance norms, which torch now omits."""
    state = dict(net.state_dict())
    norms = [name for name, layer in net.named_modules() if isinstance(layer, nn.InstanceNorm2d)]
    assert norms
    for name in norms:
        state |= {f"{name}.running_mean": torch.zeros(4), f"{name}.running_var": torch.ones(4)}
    return state


def published(tmp_path, net, name="latest_net_G.pth", folder="published"):
    """Save a network's weights as one file in a folder without other files of a run; return its path."""
    path = tmp_path / "checkpoints" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    return path
