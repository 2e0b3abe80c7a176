"""Class-conditional networks without an input image (Mirza & Osindero 2014; Radford et al. 2016, DCGAN)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from networks.infer import Known
from networks.norm import norm_layer
from networks.upsample import doubling
from util.errors import OptionError


def doublings(size: int) -> int:
    """Return how often 4 is doubled to `size`; OptionError unless it is a power of two from 8 to 1024."""
    times = math.log2(size / 4)
    if not (times.is_integer() and 1 <= times <= 8):
        raise OptionError(
            "option", "--crop_size", f"{size} is no power of two from 8 to 1024", "use 32, 64, 128 or 256"
        )
    return int(times)


class ClassGenerator(Known):
    """z (N, latent_dim) and labels (N,) -> pictures (N, output_nc, size, size) in [-1, 1].

    The label's embedding is joined to z; 4x4 is doubled up to `size`. The embedding starts small:
    as loud as z it alone is heard, and classes collapse to one picture each (Shahbazi et al. 2022).
    """

    def __init__(self, classes: int, output_nc: int, size: int, latent_dim: int = 100, embedding_dim: int = 100,
                 ngf: int = 64, norm: str = "batch", resize_conv: bool = False):  # fmt: skip
        super().__init__()
        layer, _ = norm_layer(norm)
        times = doublings(size)
        widths = [ngf * min(2 ** (times - 1 - n), 8) for n in range(times)]  # ngf just before the last doubling
        self.embedding = nn.Embedding(classes, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        start = nn.ConvTranspose2d(latent_dim + embedding_dim, widths[0], 4)
        layers: list[nn.Module] = [start, layer(widths[0]), nn.ReLU(inplace=True)]
        for before, after in pairwise(widths):
            layers += [doubling(before, after, 4, resize=resize_conv), layer(after), nn.ReLU(inplace=True)]
        last = doubling(widths[-1], output_nc, 4, resize=resize_conv)
        self.model = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.model(torch.cat([z, self.embedding(label)], 1)[:, :, None, None])


class ClassDiscriminator(Known):
    """Pictures (N, input_nc, size, size) and labels (N,) -> (N, 1) unbounded: real and of that class, or not.

    cond "concat": the label's embedding is one more channel (Mirza & Osindero 2014). "projection": its inner product
    with the features is added to the judgement (Miyato & Koyama 2018).
    """

    def __init__(
        self, classes: int, input_nc: int, size: int, ndf: int = 64, norm: str = "batch", cond: str = "projection"
    ):
        super().__init__()
        layer, bias = norm_layer(norm)
        times = doublings(size)
        widths = [ndf * min(2**n, 8) for n in range(times)]
        self.size, self.cond = size, cond
        concat = cond == "concat"
        self.embedding = nn.Embedding(classes, size * size if concat else widths[-1])
        first = nn.Conv2d(input_nc + concat, ndf, 4, stride=2, padding=1)
        layers: list[nn.Module] = [first, nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(widths):
            conv = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=bias or norm == "none")
            layers += [conv, layer(after), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 4)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        told = self.embedding(label)
        if self.cond == "concat":
            image = torch.cat([image, told.view(-1, 1, self.size, self.size)], 1)
        features = self.model(image)
        judged = self.head(features).flatten(1)
        return judged if self.cond == "concat" else judged + (features.mean((2, 3)) * told).sum(1, keepdim=True)
