"""Describe networks as text: layers, output shapes, numbers of parameters, receptive field."""

import torch
from torch import nn

from networks.antialias import BlurPool, BlurUpsample
from networks.architectures.stylegan2 import EqualisedConv2d
from networks.runtime.network_calls import is_training
from networks.toolbox.noise_input import image_channels
from networks.upsample import ResizeConv


def parameter_count(net: nn.Module) -> int:
    """Return the number of trainable and frozen parameters."""
    return sum(p.numel() for p in net.parameters())


def receptive_field(net: nn.Module) -> int:
    """Return the receptive field of a chain of convolutions, in pixels of the input along one side."""
    field = 1
    for layer in reversed([m for m in net.modules() if isinstance(m, nn.Conv2d | BlurPool)]):
        field = field * layer.stride[0] + layer.kernel_size[0] - layer.stride[0]
    return field


def summary_text(networks: dict[str, nn.Module], height: int, width: int, verbose: bool) -> str:
    """Return one line for each network, or a table of its layers if verbose."""
    if verbose:
        return "\n".join(layer_table(name, net, height, width) for name, net in networks.items())
    return "\n".join(parameter_count_line(name, net) for name, net in networks.items())


def parameter_count_line(name: str, net: nn.Module) -> str:
    """Return a network's name and its number of parameters in millions, in the reference's format."""
    return f"[Network {name}] Total number of parameters : {parameter_count(net) / 1e6:.3f} M"


def layer_table(name: str, net: nn.Module, height: int, width: int) -> str:
    """Return a table of a network's layers, with output shapes for one image of this size, and its totals.

    Shapes are omitted if the network does not accept an image with the channels of its first convolution.
    """
    leaves = [(n, m) for n, m in net.named_modules() if n and not list(m.children())]
    shapes = _output_shapes(net, leaves, height, width)
    lines = [f"---------- network {name} ({type(net).__name__}) ----------"]
    for layer, module in leaves:
        count = parameter_count(module)
        lines.append(f"{layer:<60} {type(module).__name__:<18} {shapes.get(layer, ''):<18} {count or '':>11}")
    kinds = nn.ConvTranspose2d | ResizeConv | BlurUpsample | nn.ModuleList | EqualisedConv2d
    if not any(isinstance(m, kinds) for m in net.modules()):
        lines.append(f"receptive field: {receptive_field(net)}x{receptive_field(net)} pixels")
    return "\n".join([*lines, parameter_count_line(name, net)])


def _output_shapes(net: nn.Module, leaves: list[tuple[str, nn.Module]], height: int, width: int) -> dict[str, str]:
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d | EqualisedConv2d)), None)
    if first is None:
        return {}
    shapes: dict[str, str] = {}

    def shape_recorder(layer: str):
        return lambda module, args, out: shapes.__setitem__(layer, "x".join(map(str, out.shape[1:])))

    hooks = [module.register_forward_hook(shape_recorder(layer)) for layer, module in leaves]
    mode = is_training(net)
    try:
        channels = image_channels(net, first.in_channels)
        with torch.no_grad():
            net.eval()(torch.zeros(1, channels, height, width, device=first.weight.device))
    except (RuntimeError, TypeError, ValueError):  # the network takes other inputs: omit the shapes
        shapes.clear()
    finally:
        net.train(mode)
        for hook in hooks:
            hook.remove()
    return shapes
