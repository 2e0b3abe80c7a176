"""Class-conditional networks without an input image (Mirza & Osindero 2014; Radford et al. 2016, DCGAN)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from networks.infer_architecture import InferableNetwork
from networks.norm import norm_layer
from networks.upsample import upsample_layer
from util.errors import OptionError


def count_doublings(size: int) -> int:
    """Return how many doublings lead from 4 to `size`; raise OptionError if it is not a power of two from 8 to 1024."""
    n_doublings = math.log2(size / 4)
    if not (n_doublings.is_integer() and 1 <= n_doublings <= 8):
        why = f"{size} is not a power of two from 8 to 1024"
        raise OptionError("option", "--crop_size", why, "use 32, 64, 128 or 256")
    return int(n_doublings)


class ClassGenerator(InferableNetwork):
    """z (N, latent_dim) and labels (N,) -> images (N, output_nc, size, size) in [-1, 1].

    The label's embedding is concatenated to z; 4x4 is doubled up to `size`. The embedding is initialised small (std
    0.02), because an embedding as large as z dominates it and each class collapses to one image (Shahbazi et al. 2022).
    """

    def __init__(
        self,
        classes: int,
        output_nc: int,
        size: int,
        latent_dim: int = 100,
        embedding_dim: int = 100,
        ngf: int = 64,
        norm: str = "batch",
        resize_conv: bool = False,
    ):
        super().__init__()
        layer, _ = norm_layer(norm)
        n_doublings = count_doublings(size)
        # ngf channels before the last doubling
        widths = [ngf * min(2 ** (n_doublings - 1 - n), 8) for n in range(n_doublings)]
        self.embedding = nn.Embedding(classes, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        start = nn.ConvTranspose2d(latent_dim + embedding_dim, widths[0], 4)
        layers: list[nn.Module] = [start, layer(widths[0]), nn.ReLU(inplace=True)]
        for n_in, n_out in pairwise(widths):
            layers += [upsample_layer(n_in, n_out, 4, resize=resize_conv), layer(n_out), nn.ReLU(inplace=True)]
        last = upsample_layer(widths[-1], output_nc, 4, resize=resize_conv)
        self.model = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.model(torch.cat([z, self.embedding(label)], 1)[:, :, None, None])


class ClassDiscriminator(InferableNetwork):
    """Images (N, input_nc, size, size) and labels (N,) -> logits (N, 1): real and of that class, or not.

    cond "concat": the label's embedding is an additional input channel (Mirza & Osindero 2014). "projection": its
    inner product with the features is added to the logit (Miyato & Koyama 2018).
    """

    def __init__(
        self, classes: int, input_nc: int, size: int, ndf: int = 64, norm: str = "batch", cond: str = "projection"
    ):
        super().__init__()
        layer, bias = norm_layer(norm)
        n_doublings = count_doublings(size)
        widths = [ndf * min(2**n, 8) for n in range(n_doublings)]
        self.size, self.cond = size, cond
        concat = cond == "concat"
        self.embedding = nn.Embedding(classes, size * size if concat else widths[-1])
        first = nn.Conv2d(input_nc + concat, ndf, 4, stride=2, padding=1)
        layers: list[nn.Module] = [first, nn.LeakyReLU(0.2, inplace=True)]
        for n_in, n_out in pairwise(widths):
            conv = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=bias or norm == "none")
            layers += [conv, layer(n_out), nn.LeakyReLU(0.2, inplace=True)]
        self.model = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 4)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        label_embedding = self.embedding(label)
        if self.cond == "concat":
            image = torch.cat([image, label_embedding.view(-1, 1, self.size, self.size)], 1)
        features = self.model(image)
        logits = self.head(features).flatten(1)
        if self.cond == "concat":
            return logits
        return logits + (features.mean((2, 3)) * label_embedding).sum(1, keepdim=True)
