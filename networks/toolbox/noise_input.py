"""Give generators that translate images noise beside their input, for several results of one image (--noise_nc)."""

from typing import Any

import torch
from torch import nn

from networks.architectures.stylegan2 import EqualisedConv2d
from networks.sample_noise import noise
from util.errors import OptionError


class NoiseInput:
    """A hook before a generator's forward: its first argument (N, C, H, W) gets `channels` more channels of noise.

    The noise is a vector for each sample, the same at all positions ("add to input" of Zhu et al. 2017, BicycleGAN).
    """

    def __init__(self, channels: int):
        self.channels = channels

    def __call__(self, net: nn.Module, args: tuple) -> tuple:
        image, *rest = args
        z = noise(image, self.channels, 1, 1).expand(-1, -1, *image.shape[2:])
        return torch.cat([image, z], 1), *rest


def add_noise_input(net: nn.Module, channels: int, name: str) -> nn.Module:
    """Return a generator that was built with so many further input channels, after filling these with noise."""
    if getattr(net, "from_noise", False):
        raise OptionError("option", "--noise_nc", f"reaches nothing: '{name}' starts from noise already", "omit it")
    net.register_forward_pre_hook(NoiseInput(channels))
    return net


def noise_channels(net: nn.Module) -> int:
    """Return how many channels of noise a network, or a part of it, is given beside its input."""
    hooks: list[Any] = [hook for part in net.modules() for hook in part._forward_pre_hooks.values()]
    return next((hook.channels for hook in hooks if isinstance(hook, NoiseInput)), 0)


def image_channels(net: nn.Module, otherwise: int) -> int:
    """Return the channels of the images that a network takes: those of its first convolution, without noise."""
    first = next((part for part in net.modules() if isinstance(part, nn.Conv2d | EqualisedConv2d)), None)
    return otherwise if first is None else first.in_channels - noise_channels(net)
