"""The U-Net generator of Isola et al. 2017: downsample to 1x1, upsample back, with skip connections at each size."""

from functools import partial
from typing import Any

import torch
from torch import nn

from networks.infer_architecture import InferableNetwork
from networks.norm import norm_layer
from networks.padding import any_size
from networks.upsample import upsample_layer


class UnetBlock(nn.Module):
    """One level: downsample, all deeper levels, upsample; the input is concatenated unless the level is outermost.

    Layers have the reference's positions: `model.1` down, `model.3` deeper, `model.5` up, and so on.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        input_nc: int,
        deeper: "UnetBlock | None",
        norm: str,
        outermost: bool = False,
        dropout: bool = False,
        resize_conv: bool = False,
    ):
        super().__init__()
        self.outermost = outermost
        layer, bias = norm_layer(norm)
        down = nn.Conv2d(input_nc, inner, 4, stride=2, padding=1, bias=bias)
        up_from = inner if deeper is None else 2 * inner
        up = upsample_layer(up_from, outer, 4, bias or outermost, resize_conv)
        leaky, relu = nn.LeakyReLU(0.2), nn.ReLU()
        if outermost:
            assert deeper is not None
            layers = [down, deeper, relu, up, nn.Tanh()]
        elif deeper is None:
            layers = [leaky, down, relu, up, layer(outer)]
        else:
            layers = [leaky, down, layer(inner), deeper, relu, up, layer(outer)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(InferableNetwork):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1] for any H and W.

    Images are padded to sides that are multiples of 2**depth (`any_size`), so that every level halves them exactly.
    Keys are those of the reference's U-Nets; depth 8 is unet_256.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        depth: int,
        ngf: int = 64,
        norm: str = "batch",
        dropout: bool = False,
        resize_conv: bool = False,
    ):
        super().__init__()
        self.multiple = 2**depth
        level = partial(UnetBlock, norm=norm, resize_conv=resize_conv)
        block = level(8 * ngf, 8 * ngf, 8 * ngf, None)
        for _ in range(depth - 5):
            block = level(8 * ngf, 8 * ngf, 8 * ngf, block, dropout=dropout)
        for n in (4 * ngf, 2 * ngf, ngf):
            block = level(n, 2 * n, n, block)
        self.model = level(output_nc, ngf, input_nc, block, outermost=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return any_size(self.model, x, self.multiple)


def _build(depth: int, o: Any, input_nc: int, output_nc: int) -> Unet:
    return Unet(input_nc, output_nc, depth, o.ngf, o.norm, depth > 5 and not o.no_dropout, o.resize_conv)


unet_256, unet_128, unet_64, unet_32 = (partial(_build, depth) for depth in (8, 7, 6, 5))
