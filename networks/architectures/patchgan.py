"""Discriminators that classify patches (PatchGAN, Isola et al. 2017), at several scales too, or single pixels."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from networks.antialias import BlurPool
from networks.cpu.kernels import mark_former_kernel
from networks.infer_architecture import InferableNetwork
from networks.norm import norm_layer
from networks.padding import unfit


class PatchDiscriminator(InferableNetwork):
    """(N, input_nc, H, W) -> logits (N, 1, h, w), one per patch; with three layers a patch has 70x70 pixels.

    With `returns_features`: [[features of each layer before the last, ..., logits]].
    antialias: downsample with a blur instead of a stride, with the keys of CUT's discriminator.
    Raises DataError if the images are too small for an output (`check_size`).
    """

    returns_features = False

    def __init__(self, input_nc: int, ndf: int = 64, layers: int = 3, norm: str = "instance", antialias: bool = False):
        super().__init__()
        layer, bias = norm_layer(norm)
        widths = [ndf * min(2**n, 8) for n in range(layers + 1)]
        first = nn.Conv2d(input_nc, ndf, 4, stride=1 if antialias else 2, padding=1)
        blocks: list[nn.Module] = [first, nn.LeakyReLU(0.2, inplace=True), *([BlurPool(ndf)] if antialias else [])]
        for n, (in_channels, out_channels) in enumerate(pairwise(widths), 1):
            halves = n < layers
            stride = 2 if halves and not antialias else 1
            conv = nn.Conv2d(in_channels, out_channels, 4, stride=stride, padding=1, bias=bias)
            blocks += [mark_former_kernel(conv, "winograd"), layer(out_channels), nn.LeakyReLU(0.2, inplace=True)]
            blocks += [BlurPool(out_channels)] if halves and antialias else []
        self.model = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.min_side = 3 * 2**layers  # leaves 2x2 before the last layer: instance norm needs more than 1x1

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for images that are too small for an output."""
        if min(height, width) < self.min_side:
            raise unfit(height, width, f"this discriminator needs sides of at least {self.min_side}")

    def forward(self, x: torch.Tensor) -> Any:
        self.check_size(*x.shape[2:])
        return [_layer_outputs(self.model, x)] if self.returns_features else self.model(x)


class MultiscaleDiscriminator(InferableNetwork):
    """(N, input_nc, H, W) -> [logits (N, 1, h, w) at full size, at half of it, ...] (pix2pixHD, Wang et al. 2018).

    Each scale has a PatchDiscriminator of its own; the average over 3x3 pixels, every second one, halves the images.
    With `returns_features`: [[features of each layer before the last, ..., logits] of each scale].
    """

    returns_features = False

    def __init__(
        self,
        input_nc: int,
        ndf: int = 64,
        layers: int = 3,
        scales: int = 2,
        norm: str = "instance",
        antialias: bool = False,
    ):
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(input_nc, ndf, layers, norm, antialias) for _ in range(scales))
        self.min_side = (3 * 2**layers - 1) * 2 ** (scales - 1) + 1  # halving rounds up

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for images that are too small for an output at the last scale."""
        if min(height, width) < self.min_side:
            raise unfit(height, width, f"{len(self.scales)} scales need sides of at least {self.min_side} (--num_D)")

    def forward(self, x: torch.Tensor) -> list[Any]:
        self.check_size(*x.shape[2:])
        outputs: list[Any] = []
        for scale in self.scales:
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False) if outputs else x
            outputs.append(_layer_outputs(scale.model, x) if self.returns_features else scale(x))
        return outputs


class PixelDiscriminator(InferableNetwork):
    """(N, input_nc, H, W) -> logits (N, 1, H, W); each pixel is classified by itself.

    With `returns_features`: [[features, features, logits]].
    """

    returns_features = False

    def __init__(self, input_nc: int, ndf: int = 64, norm: str = "instance"):
        super().__init__()
        layer, bias = norm_layer(norm)
        self.net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=bias),
            layer(2 * ndf),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * ndf, 1, 1, bias=bias),
        )

    def forward(self, x: torch.Tensor) -> Any:
        return [_layer_outputs(self.net, x)] if self.returns_features else self.net(x)


def _layer_outputs(layers: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the output of each activation, and of the last layer."""
    outputs = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            outputs.append(x)
    return [*outputs, x]


def basic(o: Any, input_nc: int) -> nn.Module:
    """Build the 70x70 PatchGAN."""
    return PatchDiscriminator(input_nc, o.ndf, 3, o.norm, _blurs(o))


def n_layers(o: Any, input_nc: int) -> nn.Module:
    """Build a PatchGAN with --n_layers_D layers."""
    return PatchDiscriminator(input_nc, o.ndf, o.n_layers_D, o.norm, _blurs(o))


def multiscale(o: Any, input_nc: int) -> nn.Module:
    """Build --num_D PatchGANs of --n_layers_D layers, for images of full size, half of it, ..."""
    return MultiscaleDiscriminator(input_nc, o.ndf, o.n_layers_D, o.num_D, o.norm, _blurs(o))


def pixel(o: Any, input_nc: int) -> nn.Module:
    """Build the 1x1 PixelGAN."""
    return PixelDiscriminator(input_nc, o.ndf, o.norm)


def _blurs(o: Any) -> bool:
    return not getattr(o, "no_antialias", True)
