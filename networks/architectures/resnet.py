"""The residual generator of Johnson et al. 2016: downsample twice, residual blocks, upsample twice."""

from functools import partial
from typing import Any

import torch
from torch import nn

from networks.cpu.kernels import mark_former_kernel
from networks.infer_architecture import InferableNetwork
from networks.norm import Norm, norm_layer
from networks.padding import any_size
from networks.upsample import upsample_layer

PADDING_LAYERS = {"reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d}


class ResnetBlock(nn.Module):
    """x + f(x), where f is two 3x3 convolutions (He et al. 2015).

    Layers have the reference's names: the convolutions are `conv_block.1` and `.5`, or `.6` with dropout. With zero
    padding they move up, because there are no padding layers.
    """

    def __init__(self, channels: int, norm: Norm, bias: bool, dropout: bool, padding: str):
        super().__init__()
        inside = 0 if padding in PADDING_LAYERS else 1

        def conv():  # each with a padding layer of its own, so that every layer has one output
            pad = [] if inside else [PADDING_LAYERS[padding](1)]
            layer = nn.Conv2d(channels, channels, 3, padding=inside, bias=bias)
            return [*pad, mark_former_kernel(layer, "winograd"), norm(channels)]

        self.conv_block = nn.Sequential(
            *conv(), nn.ReLU(inplace=True), *([nn.Dropout(0.5)] if dropout else []), *conv()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


class Resnet(InferableNetwork):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1] for any H and W.

    Images are padded to sides that are multiples of 4 and at least 8 (`any_size`). Keys are those of the reference's
    resnets.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        n_blocks: int,
        ngf: int = 64,
        norm: str = "instance",
        dropout: bool = False,
        padding: str = "reflect",
        resize_conv: bool = False,
    ):
        super().__init__()
        layer, bias = norm_layer(norm)
        relu = partial(nn.ReLU, inplace=True)
        first = mark_former_kernel(nn.Conv2d(input_nc, ngf, 7, bias=bias), "narrow")
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), first, layer(ngf), relu()]
        for n in (ngf, 2 * ngf):
            layers += [nn.Conv2d(n, 2 * n, 3, stride=2, padding=1, bias=bias), layer(2 * n), relu()]
        layers += [ResnetBlock(4 * ngf, layer, bias, dropout, padding) for _ in range(n_blocks)]
        for n in (4 * ngf, 2 * ngf):
            layers += [upsample_layer(n, n // 2, 3, bias, resize_conv), layer(n // 2), relu()]
        last = mark_former_kernel(nn.Conv2d(ngf, output_nc, 7), "narrow")
        layers += [nn.ReflectionPad2d(3), last, nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return any_size(self.model, x, multiple=4, least=8)  # 2x2 inside: reflection and instance norm fail on 1x1


def _build(n_blocks: int, o: Any, input_nc: int, output_nc: int) -> Resnet:
    return Resnet(input_nc, output_nc, n_blocks, o.ngf, o.norm, not o.no_dropout, o.padding, o.resize_conv)


resnet_9blocks, resnet_6blocks, resnet_4blocks = (partial(_build, n) for n in (9, 6, 4))
