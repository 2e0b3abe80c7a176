"""The U-Net generator of Isola et al. 2017: halve to a point, double back, with skips between equal sizes."""

from functools import partial
from typing import Any

import torch
from torch import nn

from networks.infer import Known
from networks.norm import norm_layer
from networks.sizes import unfit


class UnetBlock(nn.Module):
    """One level: down, all deeper levels, up; the input is concatenated to what comes up, but at the outermost.

    The places of its layers are those of the reference: `model.1` down, `model.3` deeper, `model.5` up, and so on.
    """

    def __init__(self, outer: int, inner: int, input_nc: int, deeper: "UnetBlock | None", norm: str,
                 outermost: bool = False, dropout: bool = False):  # fmt: skip
        super().__init__()
        self.outermost = outermost
        layer, bias = norm_layer(norm)
        down = nn.Conv2d(input_nc, inner, 4, stride=2, padding=1, bias=bias)
        up_from = inner if deeper is None else 2 * inner
        up = nn.ConvTranspose2d(up_from, outer, 4, stride=2, padding=1, bias=bias or outermost)
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


class Unet(Known):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; H and W multiples of 2**depth.

    Raises DataError for other sizes (`check_size`). Keys are those of the reference's U-Nets: depth 8 is unet_256.
    """

    def __init__(self, input_nc: int, output_nc: int, depth: int, ngf: int = 64, norm: str = "batch",
                 dropout: bool = False):  # fmt: skip
        super().__init__()
        self.multiple = 2**depth
        block = UnetBlock(8 * ngf, 8 * ngf, 8 * ngf, None, norm)
        for _ in range(depth - 5):
            block = UnetBlock(8 * ngf, 8 * ngf, 8 * ngf, block, norm, dropout=dropout)
        for n in (4 * ngf, 2 * ngf, ngf):
            block = UnetBlock(n, 2 * n, n, block, norm)
        self.model = UnetBlock(output_nc, ngf, input_nc, block, norm, outermost=True)

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for a size that cannot be halved down to one point."""
        if height % self.multiple or width % self.multiple:
            times = self.multiple.bit_length() - 1
            why = f"unet_{self.multiple} halves {times} times: it needs sides that are multiples of {self.multiple}"
            raise unfit(height, width, why)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.check_size(*x.shape[2:])
        return self.model(x)


def _build(depth: int, o: Any, input_nc: int, output_nc: int) -> Unet:
    return Unet(input_nc, output_nc, depth, o.ngf, o.norm, not o.no_dropout)


unet_256, unet_128, unet_64, unet_32 = (partial(_build, depth) for depth in (8, 7, 6, 5))
