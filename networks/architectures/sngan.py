"""The residual networks of SNGAN, from noise to images (Miyato et al. 2018, table 6: ImageNet)."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from networks.architectures.dcgan import count_doublings, latents
from networks.norm import norm_layer

MAX_WIDTH_FACTOR = 16  # the widest layers have 16 times as many channels as those at full size


class UpBlock(nn.Module):
    """(N, n_in, H, W) -> (N, n_out, 2H, 2W)."""

    def __init__(self, n_in: int, n_out: int, norm: str):
        super().__init__()
        layer, _ = norm_layer(norm)
        self.before = nn.Sequential(layer(n_in), nn.ReLU())
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.rest = nn.Sequential(layer(n_out), nn.ReLU(), nn.Conv2d(n_out, n_out, 3, padding=1))
        self.shortcut = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(_double(self.before(x)))) + _double(self.shortcut(x))


class DownBlock(nn.Module):
    """(N, n_in, H, W) -> (N, n_out, H/2, W/2), or the same size if not `halve`; convolutions have a spectral norm.

    first: x is an image, to which no ReLU is applied.
    """

    def __init__(self, n_in: int, n_out: int, halve: bool = True, first: bool = False):
        super().__init__()
        self.halve, self.first = halve, first
        self.body = nn.Sequential(
            spectral_norm(nn.Conv2d(n_in, n_out, 3, padding=1)),
            nn.ReLU(),
            spectral_norm(nn.Conv2d(n_out, n_out, 3, padding=1)),
        )
        self.shortcut = spectral_norm(nn.Conv2d(n_in, n_out, 1)) if halve or n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x if self.first else F.relu(x)) + self.shortcut(x)
        return F.avg_pool2d(y, 2) if self.halve else y


class SNGANGenerator(nn.Module):
    """z (N, latent_dim) -> images (N, output_nc, size, size) in [-1, 1].

    Each doubling halves the channels, down to ngf. (The paper's network for 32x32 pixels keeps 256 channels.)
    """

    from_noise = True

    def __init__(self, latent_dim: int, output_nc: int, size: int, ngf: int = 64, norm: str = "batch"):
        super().__init__()
        layer, _ = norm_layer(norm)
        widths = [ngf * min(2**n, MAX_WIDTH_FACTOR) for n in reversed(range(count_doublings(size) + 1))]
        self.start = nn.Linear(latent_dim, 16 * widths[0])
        self.blocks = nn.Sequential(*(UpBlock(n_in, n_out, norm) for n_in, n_out in pairwise(widths)))
        last = nn.Conv2d(widths[-1], output_nc, 3, padding=1)
        self.end = nn.Sequential(layer(widths[-1]), nn.ReLU(), last, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.end(self.blocks(self.start(latents(z, "sngan_resnet")).unflatten(1, (-1, 4, 4))))


class SNGANDiscriminator(nn.Module):
    """Images (N, input_nc, size, size) -> logits (N, 1): `trunk` gives features (N, C, 4, 4), `head` the logits.

    The head takes the sum of the features over all positions. All layers have a spectral norm.
    """

    def __init__(self, input_nc: int, size: int, ndf: int = 64):
        super().__init__()
        widths = [ndf * min(2**n, MAX_WIDTH_FACTOR) for n in range(count_doublings(size))]
        blocks = [DownBlock(input_nc, widths[0], first=True)]
        blocks += [DownBlock(n_in, n_out) for n_in, n_out in pairwise(widths)]
        self.trunk = nn.Sequential(*blocks, DownBlock(widths[-1], widths[-1], halve=False), nn.ReLU())
        self.head = nn.Sequential(_PositionSum(), spectral_norm(nn.Linear(widths[-1], 1)))
        self.features = widths[-1]

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image))

    def pool(self, features: Tensor) -> Tensor:
        """Return the sum of features (N, F, h, w) over all positions, (N, F)."""
        return features.sum((2, 3))


class _PositionSum(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.sum((2, 3))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def generator(o: Any, latent_dim: int, output_nc: int) -> nn.Module:
    """Build SNGAN's generator of images of --crop_size."""
    return SNGANGenerator(latent_dim, output_nc, o.crop_size, o.ngf, o.norm)


def discriminator(o: Any, input_nc: int) -> nn.Module:
    """Build SNGAN's discriminator of images of --crop_size."""
    return SNGANDiscriminator(input_nc, o.crop_size, o.ndf)
