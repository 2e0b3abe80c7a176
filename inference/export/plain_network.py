"""Copies of networks made of torch's own layers alone: no kernels, hooks of the toolbox or parametrised weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from networks.architectures.stylegan2 import NoiseInjection
from networks.frozen import Frozen
from networks.norm import InstanceNorm, InstanceNormOfImage
from networks.toolbox.noise_input import NoiseInput


class PlainGroupNorm(nn.GroupNorm):
    """Group normalisation by means of flattened groups, which torch.export can record for any height and width."""

    def forward(self, input: Tensor) -> Tensor:
        x = input.unflatten(1, (self.num_groups, -1)).flatten(2)
        centred = x - x.mean(2, keepdim=True)
        normal = centred * torch.rsqrt(centred.square().mean(2, keepdim=True) + self.eps)
        out = normal.reshape(input.shape)
        if not self.affine:
            return out
        shape = (-1, *[1] * (input.dim() - 2))
        return out * self.weight.view(shape) + self.bias.view(shape)


class NoisyGenerator(nn.Module):
    """(image (N, C, H, W), z (N, channels)) -> image, of a generator with --noise_nc, which draws z otherwise."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, z: Tensor) -> Tensor:
        height, width = image.shape[2:]
        return self.net(torch.cat([image, z[:, :, None, None].expand(-1, -1, height, width)], 1))


def without_noise_input(net: nn.Module) -> tuple[nn.Module, int]:
    """Return a network and 0, or for a generator with --noise_nc a copy that takes z too, and z's channels."""
    hooks = [(key, hook) for key, hook in net._forward_pre_hooks.items() if isinstance(hook, NoiseInput)]
    if not hooks:
        return net, 0
    net = copy.deepcopy(net)
    for key, _ in hooks:
        del net._forward_pre_hooks[key]
    return NoisyGenerator(net), hooks[0][1].channels


def plain_network(net: nn.Module) -> nn.Module:
    """Return a copy of a network on the CPU in float32 and evaluation mode; it has the same results and no gradients.

    CPU kernels and spectral norms are removed, Frozen networks become their content, and norms become layers that every
    exporter knows.
    """
    holder = nn.ModuleList([copy.deepcopy(net)]).cpu().float().eval().requires_grad_(False)
    for parent in list(holder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Frozen):
                parent._modules[name] = child.net
    for part in holder.modules():
        part.__dict__.pop("_conv_forward", None)  # a CPU kernel
        if parametrize.is_parametrized(part):
            _fix_parametrised(part)
        if type(part) is InstanceNorm:
            part.__class__ = nn.InstanceNorm2d  # type: ignore[assignment]
        elif type(part) is InstanceNormOfImage:
            part.__class__ = nn.InstanceNorm2d  # type: ignore[assignment]
            part.track_running_stats, part.running_mean, part.running_var = False, None, None  # type: ignore[assignment]
        elif type(part) is nn.GroupNorm:
            part.__class__ = PlainGroupNorm
    return holder[0]


def _fix_parametrised(part: Any) -> None:
    """Make the values that parametrisations compute plain parameters of a copied layer.

    torch's remove_parametrizations would change the class of the layer that it was copied from, too.
    """
    values = {name: getattr(part, name).detach() for name in part.parametrizations}
    part.__class__ = type(part).__bases__[0]
    del part._modules["parametrizations"]
    part._state_dict_hooks.clear()  # they rename parametrised weights
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value, requires_grad=False))


def draws_noise_maps(net: nn.Module) -> bool:
    """Whether a network adds maps of noise that depend on the size of the image, as --netG stylegan2 does."""
    return any(isinstance(part, NoiseInjection) and part.noisy for part in net.modules())


class _AddedMap(nn.Module):
    values: Tensor

    def __init__(self, values: Tensor):
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.values


def fix_noise_maps(net: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Return a copy of a plain network whose maps of noise are constants, those for inputs of this size."""
    net = copy.deepcopy(net)
    parts = [part for part in net.modules() if isinstance(part, NoiseInjection) and part.noisy]
    shapes: dict[NoiseInjection, Tensor] = {}
    hooks = [part.register_forward_pre_hook(lambda part, args: shapes.update({part: args[0]})) for part in parts]
    with torch.no_grad():
        net(*inputs)
    for hook in hooks:
        hook.remove()
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if child in shapes:
                parent._modules[name] = _AddedMap(child(torch.zeros_like(shapes[child][:1, :1])))
    return net
