"""DCGAN (Radford et al. 2016) without classes, and its class-conditional form (Mirza & Osindero 2014)."""

import math
from itertools import pairwise
from typing import Any

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


def _generator_layers(
    latent_dim: int, output_nc: int, size: int, ngf: int, norm: str, resize_conv: bool
) -> nn.Sequential:
    """Build layers (N, latent_dim, 1, 1) -> (N, output_nc, size, size): 4x4 is doubled up to `size`."""
    layer, _ = norm_layer(norm)
    n_doublings = count_doublings(size)
    # ngf channels before the last doubling
    widths = [ngf * min(2 ** (n_doublings - 1 - n), 8) for n in range(n_doublings)]
    start = nn.ConvTranspose2d(latent_dim, widths[0], 4)
    layers: list[nn.Module] = [start, layer(widths[0]), nn.ReLU(inplace=True)]
    for n_in, n_out in pairwise(widths):
        layers += [upsample_layer(n_in, n_out, 4, resize=resize_conv), layer(n_out), nn.ReLU(inplace=True)]
    last = upsample_layer(widths[-1], output_nc, 4, resize=resize_conv)
    return nn.Sequential(*layers, last, nn.Tanh())


def _discriminator_layers(input_nc: int, size: int, ndf: int, norm: str) -> tuple[nn.Sequential, nn.Conv2d]:
    """Build layers (N, input_nc, size, size) -> (N, C, 4, 4), and a last layer -> (N, 1, 1, 1)."""
    layer, bias = norm_layer(norm)
    widths = [ndf * min(2**n, 8) for n in range(count_doublings(size))]
    layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for n_in, n_out in pairwise(widths):
        conv = nn.Conv2d(n_in, n_out, 4, stride=2, padding=1, bias=bias or norm == "none")
        layers += [conv, layer(n_out), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers), nn.Conv2d(widths[-1], 1, 4)


class DCGANGenerator(nn.Module):
    """z (N, latent_dim) -> images (N, output_nc, size, size) in [-1, 1]."""

    from_noise = True

    def __init__(
        self, latent_dim: int, output_nc: int, size: int, ngf: int = 64, norm: str = "batch", resize_conv: bool = False
    ):
        super().__init__()
        self.model = _generator_layers(latent_dim, output_nc, size, ngf, norm, resize_conv)

    def forward(self, z: Tensor) -> Tensor:
        return self.model(latents(z, "dcgan")[:, :, None, None])


class DCGANDiscriminator(nn.Module):
    """Images (N, input_nc, size, size) -> logits (N, 1): `trunk` gives features (N, C, 4, 4), `head` the logits."""

    def __init__(self, input_nc: int, size: int, ndf: int = 64, norm: str = "batch"):
        super().__init__()
        self.trunk, last = _discriminator_layers(input_nc, size, ndf, norm)
        self.head = nn.Sequential(last, nn.Flatten())
        self.features = last.in_channels

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image))


def latents(z: Tensor, name: str) -> Tensor:
    """Return z; raise OptionError if it is not (N, latent_dim): a model for translation was given this generator."""
    if z.dim() != 2:
        why = f"'{name}' makes images from noise vectors, not from images"
        raise OptionError("option", "--netG", why, "use --model gan, or another --netG")
    return z


def generator(o: Any, latent_dim: int, output_nc: int) -> nn.Module:
    """Build the DCGAN generator of images of --crop_size."""
    return DCGANGenerator(latent_dim, output_nc, o.crop_size, o.ngf, o.norm, o.resize_conv)


def discriminator(o: Any, input_nc: int) -> nn.Module:
    """Build the DCGAN discriminator of images of --crop_size."""
    return DCGANDiscriminator(input_nc, o.crop_size, o.ndf, o.norm)


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
        self.embedding = nn.Embedding(classes, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.model = _generator_layers(latent_dim + embedding_dim, output_nc, size, ngf, norm, resize_conv)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.model(torch.cat([z, self.embedding(label)], 1)[:, :, None, None])


class ClassDiscriminator(InferableNetwork):
    """Images (N, input_nc, size, size) and labels (N,) -> logits (N, 1): real and of that class, or not.

    cond "concat": the label's embedding is an additional input channel (Mirza & Osindero 2014). "projection": its
    inner product with the pooled features is added to the logit (Miyato & Koyama 2018); they are pooled by their mean.
    """

    def __init__(
        self, classes: int, input_nc: int, size: int, ndf: int = 64, norm: str = "batch", cond: str = "projection"
    ):
        super().__init__()
        self.size, self.cond = size, cond
        concat = cond == "concat"
        widest = ndf * min(2 ** (count_doublings(size) - 1), 8)
        self.embedding = nn.Embedding(classes, size * size if concat else widest)
        self.model, self.head = _discriminator_layers(input_nc + concat, size, ndf, norm)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        label_embedding = self.embedding(label)
        if self.cond == "concat":
            image = torch.cat([image, label_embedding.view(-1, 1, self.size, self.size)], 1)
        features = self.model(image)
        logits = self.head(features).flatten(1)
        if self.cond == "concat":
            return logits
        return logits + (features.mean((2, 3)) * label_embedding).sum(1, keepdim=True)
