"""Distances of images by the features of published VGG networks."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from serialization import mismatch
from serialization.pretrained import known_weights, pretrained
from util.errors import CheckpointError, EnvironmentFault, OptionError

VGG19_LAYERS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}  # relu1_1 ... relu5_1 and weights: pix2pixHD's
VGG16_LAYERS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3: those of LPIPS
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that VGG was trained on
MIN_SIDE = 16  # of images: four poolings halve it


class VGGFeatures(nn.Module):
    """Images (N, 1 or 3, H, W) in [-1, 1] -> the feature maps of layers, numbered as in torchvision's `features`.

    as_is: give the network the values as they are, not normalised as in its training.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: Mapping[str, Tensor], layers: Sequence[int], as_is: bool = False):
        super().__init__()
        self.as_is = as_is
        import torchvision  # takes half a second, which other runs need not spend

        with torch.device("meta"):
            whole = getattr(torchvision.models, name)().features
        self.net, self.layers = whole[: max(layers) + 1].to_empty(device="cpu"), tuple(layers)
        own = {key.removeprefix("features."): value for key, value in weights.items() if key.startswith("features.")}
        own = {key: value for key, value in own.items() if int(key.partition(".")[0]) <= max(layers)}
        if differs := mismatch.first_difference(self.net.state_dict(), own):
            why = f"these are no weights of torchvision's {name}: {differs}"
            raise CheckpointError("weights", name, why, f"give the file of torchvision's {name}")
        self.net.load_state_dict(own)
        for layer in self.net:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # gradients flow through what is kept
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, images: Tensor) -> list[Tensor]:
        if images.shape[1] not in (1, 3) or min(images.shape[2:]) < MIN_SIDE:
            size = "x".join(map(str, (*images.shape[1:],)))
            why = f"VGG sees pictures of 1 or 3 channels and at least {MIN_SIDE}x{MIN_SIDE} pixels, not {size}"
            raise OptionError("option", "--lambda_perceptual", why, "omit it, and --lambda_lpips")
        x = images.expand(-1, 3, -1, -1) if self.as_is else ((images + 1) / 2 - self.mean) / self.std
        found = []
        for number, layer in enumerate(self.net):
            x = layer(x)
            found += [x] if number in self.layers else []
        return found


class Perceptual(nn.Module):
    """The perceptual loss (Johnson et al. 2016) as pix2pixHD has it: L1 distances of five layers of VGG19.

    The sum of the layers' mean absolute differences, with the weights 1/32, 1/16, 1/8, 1/4 and 1. as_is: of images in
    [-1, 1] as they are, as in pix2pixHD's code; else of images normalised for VGG19.
    """

    def __init__(self, weights: Mapping[str, Tensor], as_is: bool = False):
        super().__init__()
        self.features = VGGFeatures("vgg19", weights, list(VGG19_LAYERS), as_is)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        with torch.set_grad_enabled(real.requires_grad and torch.is_grad_enabled()):  # a real image keeps no graph
            wanted = self.features(real)
        pairs = zip(VGG19_LAYERS.values(), self.features(fake), wanted, strict=True)
        return torch.stack([weight * F.l1_loss(f, r) for weight, f, r in pairs]).sum()


class LPIPS(nn.Module):
    """LPIPS with VGG16 (Zhang et al. 2018, eq. 1): features, of length 1 in each position, by learned weights.

    heads: {"lin0.model.1.weight": (1, C, 1, 1), ...} as in the lpips package. Returns the mean over the batch.
    """

    def __init__(self, weights: Mapping[str, Tensor], heads: Mapping[str, Tensor]):
        super().__init__()
        self.features = VGGFeatures("vgg16", weights, VGG16_LAYERS)
        channels = [self.features.net[n - 1].out_channels for n in VGG16_LAYERS]
        expected = {f"lin{i}.model.1.weight": torch.empty(1, n, 1, 1) for i, n in enumerate(channels)}
        own = {key: heads[key] for key in expected if key in heads}
        if differs := mismatch.first_difference(expected, own):
            why = f"these are no weights of LPIPS for VGG: {differs}"
            raise CheckpointError("weights", "lpips", why, "give vgg.pth of the lpips package")
        for i, key in enumerate(expected):
            self.register_buffer(f"head{i}", own[key])

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        distance = fake.new_zeros(())
        for i, (f, r) in enumerate(zip(self.features(fake), self.features(real), strict=True)):
            gap = (_unit(f) - _unit(r)).square()
            distance = distance + (gap * self.get_buffer(f"head{i}")).sum(1).mean()
        return distance


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def perceptual_of(o: Any, otherwise: str = "--lambda_perceptual 0", as_is: bool = False) -> Perceptual:
    """Return the distance of --lambda_perceptual; raise EnvironmentFault, which names the flags, without weights.

    otherwise: the flag with which the model does without it; as_is: see Perceptual.
    """
    return Perceptual(known_weights(o, "vgg19", "vgg19_file", otherwise), as_is)


def lpips_of(o: Any) -> LPIPS:
    """Return the distance of --lambda_lpips; raise EnvironmentFault, which names the flags, without weights."""
    file = o.lpips_file or _lpips_package_file()
    if not file:
        remedy = "give their file (vgg.pth) with --lpips_file, or pip install lpips, or do without: --lambda_lpips 0"
        raise EnvironmentFault("weights", "lpips", "are needed and not on this machine", remedy)
    return LPIPS(known_weights(o, "vgg16", "vgg16_file", "--lambda_lpips 0"), pretrained(file))


def _lpips_package_file() -> Path | None:
    """Return the installed lpips package's weights for VGG, if there is one; the package is not imported."""
    spec = find_spec("lpips")
    folders = spec.submodule_search_locations or () if spec else ()
    return next((file for folder in folders if (file := Path(folder, "weights/v0.1/vgg.pth")).is_file()), None)
