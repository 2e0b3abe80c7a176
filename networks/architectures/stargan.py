"""Networks of StarGAN: a generator that is told the wanted domain, and a discriminator that also names the domain."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from networks.infer_architecture import InferableNetwork
from networks.norm import InstanceNormOfImage
from networks.padding import any_size, unfit
from util.errors import OptionError

N_HALVINGS = 2  # of the generator


class StarGANBlock(nn.Module):
    """x + f(x), where f is two 3x3 convolutions with zero padding (He et al. 2015)."""

    def __init__(self, channels: int):
        super().__init__()
        self.main = nn.Sequential(
            *_normed(nn.Conv2d(channels, channels, 3, padding=1, bias=False), channels),
            *_normed(nn.Conv2d(channels, channels, 3, padding=1, bias=False), channels)[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class StarGANGenerator(InferableNetwork):
    """Images (N, nc, H, W) and domains (N, domains) -> images (N, nc, H, W) in [-1, 1] for any H and W.

    Each value of the domain is a channel beside the image (Choi et al. 2018, section 4 and appendix). Keys are those of
    the authors' code. Images are padded to sides that are multiples of 4 (`any_size`).
    """

    input_names = ("image", "domain")  # of an exported file

    def __init__(self, nc: int, domains: int, ngf: int = 64, blocks: int = 6):
        super().__init__()
        layers = _normed(nn.Conv2d(nc + domains, ngf, 7, padding=3, bias=False), ngf)
        widths = [ngf * 2**n for n in range(N_HALVINGS + 1)]
        for width in widths[:-1]:
            layers += _normed(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False), 2 * width)
        layers += [StarGANBlock(widths[-1]) for _ in range(blocks)]
        for width in widths[:0:-1]:
            up = nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, bias=False)
            layers += _normed(up, width // 2)
        self.main = nn.Sequential(*layers, nn.Conv2d(ngf, nc, 7, padding=3, bias=False), nn.Tanh())

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        planes = domain.to(x.dtype)[:, :, None, None]

        def translate(image: Tensor) -> Tensor:
            return self.main(torch.cat([image, torch.zeros_like(image[:, :1]) + planes], 1))

        return any_size(translate, x, 4, least=8)  # 2x2 inside: instance norm needs it


class StarGANDiscriminator(InferableNetwork):
    """Images (N, nc, H, W) -> (real or not, (N, 1, h, w); logits of the domains, (N, domains)).

    `layers` convolutions halve the image each; there is no norm. Keys are those of the authors' code.
    """

    def __init__(self, nc: int, domains: int, height: int, width: int, ndf: int = 64, layers: int = 6):
        super().__init__()
        self.size = height, width
        if min(self.size) < 2**layers:
            remedy = f"use --d_repeat_num {max(1, min(self.size).bit_length() - 1)}, or larger images (--crop_size)"
            why = f"{layers} halvings leave nothing of images of {width}x{height}"
            raise OptionError("option", "--d_repeat_num", why, remedy)
        widths = [nc, *(ndf * 2**n for n in range(layers))]
        trunk: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            trunk += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
        self.main = nn.Sequential(*trunk)
        self.conv1 = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(widths[-1], domains, (height >> layers, width >> layers), bias=False)

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for images of another size than the one this network was built for."""
        if (height, width) != self.size:
            rows, columns = self.size
            raise unfit(height, width, f"this discriminator was built for images of {columns}x{rows}")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.check_size(*x.shape[2:])
        features = self.main(x)
        return self.conv1(features), self.conv2(features).flatten(1)


def _normed(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, InstanceNormOfImage(channels), nn.ReLU(inplace=True)]
