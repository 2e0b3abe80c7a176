"""Features of images: networks that turn images into vectors, loaded once and shared by metrics."""

import hashlib
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.settings import Settings
from serialization.pretrained import known_weights
from util.errors import DataError, EnvironmentFault, OptionError, first_line

BATCH = 64  # images that pass a network at once
REMEMBERED = 8192  # images whose features are kept, 12 kB each at most
EXTRAS = "run pip install -r requirements-extras.txt, or make extras"
_networks: dict[tuple, "FeatureNetwork"] = {}


class FeatureNetwork:
    """A network that turns images into features; a subclass defines `build` and `prepare`, or `compute`.

    It is built when the first images come, in evaluation mode, and draws none of the global random numbers.
    """

    channels = 3  # grey images are repeated for 3 channels, and 1 is the mean of three
    memory_format = torch.contiguous_format  # channels_last takes half the time on CPUs, if no layer needs `view`

    def __init__(self, settings: Settings):
        self.settings = settings
        with torch.random.fork_rng(devices=[]):  # a network is initialised before it gets its weights
            self.net: Any = self.build().eval().requires_grad_(False).to(settings.device)
            self.net.to(memory_format=self.memory_format)
        self._memory: dict[bytes, Tensor] = {}  # hash of the images -> features

    def build(self) -> nn.Module:
        """Return the network with its weights."""
        raise NotImplementedError

    def prepare(self, images: Tensor) -> Tensor:
        """Return what the network is given for images (N, channels, H, W) in [0, 1]."""
        return images

    def compute(self, images: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, channels, H, W) in [0, 1]."""
        return self.net(self.prepare(images))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (N, D), float32 on the CPU, of images (N, C, H, W) in [-1, 1], rounded to 8 bits.

        So a file has the features of the image that it holds, and the networks know images of 8 bits only.
        They are remembered: several metrics ask for those of the same images, and real images return.
        """
        stored = images.detach().cpu().contiguous()
        key = hashlib.blake2b(stored.numpy().tobytes(), person=str(tuple(stored.shape))[:16].encode()).digest()
        found = self._memory.pop(key, None)  # and added again below, as the latest
        if found is None:
            found = torch.cat([self._features(part) for part in images.split(BATCH)])
        while self._memory and sum(map(len, self._memory.values())) + len(found) > REMEMBERED:
            del self._memory[next(iter(self._memory))]
        self._memory[key] = found
        return found

    def _features(self, images: Tensor) -> Tensor:
        images = with_channels(images.to(self.settings.device), self.channels)
        with torch.autocast(images.device.type, enabled=False):  # a metric is the same with and without --amp
            images = ((images.float() + 1) * 127.5).round().clamp(0, 255) / 255
            return self.compute(images.contiguous(memory_format=self.memory_format)).float().cpu()


def network(kind: type[FeatureNetwork], settings: Settings) -> FeatureNetwork:
    """Return the network of this kind for these settings; it is built once in a process."""
    key = kind, str(settings.device), settings.download, str(settings.weights), torch.hub.get_dir()
    if key not in _networks:
        _networks[key] = kind(settings)
    return _networks[key]


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return images with 3 channels (grey is repeated) or with 1 (the mean of three); raise DataError for others."""
    if images.shape[1] == channels:
        return images
    if {images.shape[1], channels} != {1, 3}:
        why = "a metric's network reads images of 1 or 3 channels"
        raise DataError("images", f"of {images.shape[1]} channels", why, "choose L1, PSNR or ssim")
    return images.expand(-1, 3, -1, -1) if channels == 3 else images.mean(1, keepdim=True)


def resize(images: Tensor, side: int) -> Tensor:
    """Return images resized to a square, with antialiasing."""
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)


def package_file(package: str, distribution: str, path: str, remedy: str = EXTRAS) -> Path:
    """Return a file inside an installed package, which is not imported; raise EnvironmentFault if it is not there."""
    found = importlib.util.find_spec(package)
    files = [Path(folder, path) for folder in (found.submodule_search_locations or [])] if found else []
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise EnvironmentFault(
            "package", distribution, "is not installed, and the metric takes weights from it", remedy
        )
    return file


def package_module(module: str, distribution: str) -> ModuleType:
    """Return an imported module of an optional package; raise EnvironmentFault if it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        why = f"cannot be imported, and the metric needs it ({first_line(problem)})"
        raise EnvironmentFault("package", distribution, why, EXTRAS) from problem


def published(name: str, settings: Settings) -> dict[str, Tensor]:
    """Return a network's published weights, from --metric_weights, torch's cache, or the internet with --download."""
    flags = SimpleNamespace(download=settings.download, metric_weights=settings.weights_file(name))
    return known_weights(flags, name, "metric_weights")


def load(net: nn.Module, weights: dict[str, Any], name: str, settings: Settings) -> nn.Module:
    """Return the network with these weights; raise OptionError if they are not those of this network."""
    try:
        net.load_state_dict(weights, assign=True)  # a network on the meta device has no memory
    except (RuntimeError, ValueError) as problem:
        file = settings.weights_file(name)
        why = f"{file or 'the file'} does not hold the weights of {name}"
        remedy = f"give its file: --metric_weights {name}=FILE"
        raise OptionError("option", "--metric_weights", why, remedy) from problem
    return net


def over(kind: type[FeatureNetwork], *metrics: type) -> tuple[Any, ...]:
    """Return these metrics of features with the features of a network: Lite0Kid, ... for Lite0 and Kid."""
    return tuple(type(f"{kind.__name__}{m.__name__}", (m,), {"network": kind, "__doc__": m.__doc__}) for m in metrics)
