"""What is exported: a module, its inputs with the sizes that stay free, and a table about it for the file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference.export.compact import rounded
from inference.export.generator_search import Generator
from inference.export.plain_network import draws_noise_maps, fix_noise_maps, plain_network

FREE_SIZES = ("NHW", "N", "")  # what may be free, in the order that is tried: batch, height, width
DIMENSIONS = {"N": "batch", "H": "height", "W": "width"}  # their names in a file


class Pixels(nn.Module):
    """A generator as a function of pixels: uint8 (H, W, C) -> uint8 (H, W, C), or noise -> uint8 (N, H, W, C)."""

    def __init__(self, net: nn.Module, takes_image: bool):
        super().__init__()
        self.net, self.takes_image = net, takes_image

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.takes_image:
            image = inputs[0].permute(2, 0, 1).unsqueeze(0).float() / 255
            inputs = ((image - 0.5) / 0.5, *inputs[1:])
        out = (self.net(*inputs).float().clamp(-1, 1) + 1) / 2 * 255
        pixels = out.round().to(torch.uint8).permute(0, 2, 3, 1)
        return pixels.squeeze(0) if self.takes_image else pixels


class Half(nn.Module):
    """A generator that computes in 16 bits; its inputs and its output are those of the generator in 32 bits."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.half()

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.net(*(x.half() if x.is_floating_point() else x for x in inputs)).float()


class OneSize(nn.Module):
    """A generator that refuses images of other sizes than (height, width), for formats that would not."""

    def __init__(self, net: nn.Module, height: int, width: int):
        super().__init__()
        self.net, self.height, self.width = net, height, width

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        return self.net(image.expand(*image.shape[:-2], self.height, self.width), *others)


@dataclass
class Exportable:
    """A generator to be exported, for images of `size` (height, width) or, where `free` says so, of any.

    pixels, half: see `Pixels` and `Half`. small: an ONNX file stores the weights in 16 bits (compact.py). classes: the
    number of values that a label may have.
    """

    generator: Generator
    size: tuple[int, int]
    pixels: bool = False
    half: bool = False
    classes: int = 1
    small: bool = False
    free: str = "NHW"
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def takes_image(self) -> bool:
        """Whether the generator translates an image or a label map, rather than drawing an image from noise."""
        return self.generator.takes_image

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        return ["pixels" if name == "image" and self.pixels else name for name in self.generator.inputs]

    def why_not_free(self) -> str:
        """Return why height and width cannot be free; "" if nothing is known against it."""
        if self.takes_image and draws_noise_maps(self.generator.net):
            return "it adds noise that is drawn for one size"
        return ""

    def module(self) -> nn.Module:
        """Return the module that is exported."""
        net = plain_network(self.generator.net)
        net = rounded(net) if self.small else net
        if draws_noise_maps(net):
            height, width = self.size
            net = fix_noise_maps(net, self.plain_inputs(1, height, width, ()))
        net = Half(net) if self.half else net
        return (Pixels(net, self.takes_image) if self.pixels else net).eval()

    def one_size(self, module: nn.Module) -> nn.Module:
        """Return a module that refuses images of other sizes, if height and width are not free."""
        if not self.takes_image or "H" in self.free or self.pixels:
            return module
        return OneSize(module, *self.size)

    def example(self) -> tuple[Tensor, ...]:
        """Return the inputs with which the module is recorded."""
        return self.inputs(2 if "N" in self.free and not self.is_single else 1, *self.size, ())

    @property
    def is_single(self) -> bool:
        """Whether inputs have no batch axis."""
        return self.pixels and self.takes_image

    def dynamic_shapes(self) -> list[dict[int, str]]:
        """Return for each input {axis: letter} of the axes that are free."""
        found = []
        for name, value in self.generator.inputs.items():
            is_image = self.takes_image and (value.dim() == 4 or is_map(value))
            axes = {0: "N"} | ({value.dim() - 2: "H", value.dim() - 1: "W"} if is_image else {})
            if self.is_single:
                axes = {0: "H", 1: "W"} if name == "image" else {}
            found.append({axis: letter for axis, letter in axes.items() if letter in self.free})
        return found

    def inputs(self, number: int, height: int, width: int, pictures: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return inputs of the exported module: `number` of each, images of this size made of pictures (C, H, W)."""
        image, *others = self.plain_inputs(number, height, width, pictures)
        if self.is_single:
            image = self.to_pixels(image)[0]
        return image, *others

    @staticmethod
    def to_pixels(image: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] as uint8 (N, H, W, C), as util/image_io.py rounds."""
        return ((image.clamp(-1, 1) + 1) / 2 * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def plain_inputs(self, number: int, height: int, width: int, pictures: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return inputs of the generator itself."""
        rng = torch.Generator().manual_seed(number)
        made = []
        for name, value in self.generator.inputs.items():
            rows = value[torch.arange(number) % len(value)]
            if name == "image":
                rows = _resized(list(pictures) or list(value), number, height, width)
            elif is_map(value):
                maps = [*pictures, *value[:, None]] if name == "labels" else value[:, None]
                rows = _resized(list(maps), number, height, width)[:, 0]
            elif value.dim() == 4 and self.takes_image:
                rows = F.interpolate(rows, (height, width)) if value.shape[2:] != (height, width) else rows
            elif name == "label":
                rows = torch.arange(number) % self.classes
            elif name == "z":
                rows = torch.randn(rows.shape, generator=rng)
            made.append(rows)
        return tuple(made)

    def expected(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return what the run's own network makes of inputs of the exported module."""
        if self.is_single:
            image = inputs[0].permute(2, 0, 1)[None].float() / 127.5 - 1
            inputs = (image, *inputs[1:])
        with torch.no_grad():
            out = self.generator.net(*inputs)
        if not self.pixels:
            return out
        return self.to_pixels(out)[0] if self.is_single else self.to_pixels(out)


def is_map(value: Tensor) -> bool:
    """Whether an input is a map of ids: (N, H, W) integers."""
    return value.dim() == 3 and not value.is_floating_point()


def _resized(pictures: list[Tensor], number: int, height: int, width: int) -> Tensor:
    """Return `number` pictures as (number, C, H, W): the first ones, each further round mirrored; ids stay ids."""
    made = []
    for n in range(number):
        picture = pictures[n % len(pictures)]
        if picture.is_floating_point():
            scaled = F.interpolate(picture[None], (height, width), mode="bilinear", antialias=True)[0].clamp(-1, 1)
        else:
            scaled = F.interpolate(picture[None].double(), (height, width), mode="nearest")[0].long()
        made.append(scaled.flip(2) if n // len(pictures) % 2 else scaled)
    return torch.stack(made)
