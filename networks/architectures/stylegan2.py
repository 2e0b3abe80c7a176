"""The networks of SinCUT (Park et al. 2020, section 4.3), built of StyleGAN2's layers (Karras et al. 2020)."""

import math
from collections import OrderedDict
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.infer_architecture import InferableNetwork, discriminator_width, generator_width
from networks.padding import any_size, unfit
from networks.sample_noise import noise
from util.errors import OptionError
from util.size import nearest_power_of_two

FINAL_SIDE = 4  # of the discriminator's last features
EVAL_NOISE_SEED = 0


class EqualisedConv2d(nn.Module):
    """A convolution with weights from N(0, 1) that every call scales by 1 / sqrt(fan-in) (Karras et al. 2018)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.in_channels, self.stride, self.padding = in_channels, stride, padding
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.padding)


class EqualisedLinear(nn.Module):
    """A linear layer, scaled as EqualisedConv2d; activate: with the activation of BiasedLeakyReLU."""

    def __init__(self, in_features: int, out_features: int, activate: bool = False):
        super().__init__()
        self.activate = activate
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = 1 / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.scale, self.bias)
        return _activation(y) if self.activate else y


class BiasedLeakyReLU(nn.Module):
    """Add a bias to each channel, then apply a leaky ReLU, whose gain sqrt(2) keeps the variance."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _activation(x + self.bias)


def _activation(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class Blur(nn.Module):
    """Filter each channel with [1, 3, 3, 1] along both sides; the filter's sum is `gain`.

    (N, C, H, W) -> (N, C, (H + 2 * padding - 3) / stride, ...). The filter is a buffer, `kernel`, as in published
    weights.
    """

    kernel: Tensor

    def __init__(self, padding: int, stride: int = 1, gain: float = 1.0):
        super().__init__()
        self.padding, self.stride = padding, stride
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", gain * torch.outer(row, row) / row.sum().square())

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.flip(0, 1).expand(channels, 1, -1, -1)
        return F.conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=channels)


class ConvLayer(nn.Sequential):
    """A convolution and its activation; halve: after a blur it keeps every second pixel."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, halve: bool = False, activate: bool = True
    ):
        stride, padding = (2, 0) if halve else (1, kernel_size // 2)
        layers: list[nn.Module] = []
        if halve:  # the blur omits the pixels that a 1x1 convolution would not read
            blur_stride, stride = (2, 1) if kernel_size == 1 else (1, 2)
            layers.append(Blur((kernel_size + 1) // 2, blur_stride))
        layers.append(EqualisedConv2d(in_channels, out_channels, kernel_size, stride, padding))
        super().__init__(*layers, *([BiasedLeakyReLU(out_channels)] if activate else []))


class ResidualBlock(nn.Module):
    """(x + f(x)) / sqrt(2), where f is two 3x3 convolutions; halve: both branches halve the sides."""

    def __init__(self, in_channels: int, out_channels: int, halve: bool = False):
        super().__init__()
        self.conv1 = ConvLayer(in_channels, in_channels, 3)
        self.conv2 = ConvLayer(in_channels, out_channels, 3, halve)
        self.skip = ConvLayer(in_channels, out_channels, 1, halve, activate=False) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


class DoublingConv2d(nn.Module):
    """(N, in_channels, H, W) -> (N, out_channels, 2H, 2W): a transposed 3x3 convolution, then a blur.

    It is StyleGAN2's modulated convolution with a style of ones: each filter is divided by its norm. The weight has a
    first axis of length 1, as in published weights.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, 3, 3))
        self.scale = 1 / math.sqrt(in_channels * 9)
        self.blur = Blur(padding=1, gain=4.0)

    def forward(self, x: Tensor) -> Tensor:
        filters = self.weight[0] * self.scale
        filters = filters * (filters.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        return self.blur(F.conv_transpose2d(x, filters.transpose(0, 1), stride=2))


class NoiseInjection(nn.Module):
    """Add to (N, C, H, W) a map of noise that all channels share, times a learned strength, which starts at 0.

    In evaluation the map is the same for all images of one size, so that an image always gives the same result. Not
    noisy: nothing is added, and the strength is only kept for published weights.
    """

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        self.noisy = noisy
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if not self.noisy:
            return x
        height, width = x.shape[2:]
        return x + self.weight * (noise(x, 1, height, width) if self.training else _fixed_noise(x))


def _fixed_noise(x: Tensor) -> Tensor:
    """Return normal numbers (1, 1, H, W), a function of H and W alone."""
    draws = torch.Generator().manual_seed(EVAL_NOISE_SEED)
    return torch.randn(1, 1, *x.shape[2:], generator=draws, device="cpu").to(x)


class DoublingLayer(nn.Module):
    """Double the sides, add noise if `noisy`, and activate."""

    def __init__(self, in_channels: int, out_channels: int, noisy: bool = True):
        super().__init__()
        self.conv = DoublingConv2d(in_channels, out_channels)
        self.noise = NoiseInjection(noisy)
        self.activate = BiasedLeakyReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.noise(self.conv(x)))


class StyleGAN2Generator(InferableNetwork):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) for any H and W; the output has no bounds.

    An encoder halves the sides n_halvings times, a decoder doubles them again; each has n_blocks residual blocks at the
    smallest size. Images are padded to multiples of 2 ** n_halvings. size: the side of the images that the widths are
    for: at this size the layers have 512 * ngf / size channels, with each halving twice as many.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        size: int = 256,
        n_blocks: int = 3,
        n_halvings: int = 1,
        noisy: bool = True,
    ):
        super().__init__()
        self.multiple = 2**n_halvings
        widths = [generator_width(ngf, size >> n) for n in range(n_halvings + 1)]
        halving = [ResidualBlock(n_in, n_out, halve=True) for n_in, n_out in pairwise(widths)]
        doubling = [DoublingLayer(n_in, n_out, noisy) for n_in, n_out in pairwise(widths[::-1])]
        inner = [[ResidualBlock(widths[-1], widths[-1]) for _ in range(n_blocks)] for _ in range(2)]
        encoder = nn.Sequential(nn.Identity(), ConvLayer(input_nc, widths[0], 1), *halving, *inner[0])
        decoder = nn.Sequential(*inner[1], *doubling, ConvLayer(widths[0], output_nc, 1))
        self.encoder = nn.Sequential(OrderedDict(convs=encoder))
        self.decoder = nn.Sequential(OrderedDict(convs=decoder))

    def forward(self, x: Tensor) -> Tensor:
        return any_size(self._translate, x, self.multiple)

    def _translate(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class StyleGAN2Discriminator(InferableNetwork):
    """Images (N, input_nc, H, W) -> logits (N, 1): `trunk` gives features (N, C, 4, 4), `head` the logits.

    size: a power of two; images of sides from `size` to below 5/4 of it leave 4x4 features. Raises DataError for
    others (`check_size`).
    """

    def __init__(self, input_nc: int, ndf: int = 64, size: int = 256):
        super().__init__()
        n_halvings = int(math.log2(size // FINAL_SIDE))
        widths = [discriminator_width(ndf, size >> n) for n in range(n_halvings + 1)]
        self.size, self.features = size, widths[-1]
        halving = [ResidualBlock(n_in, n_out, halve=True) for n_in, n_out in pairwise(widths)]
        self.convs = nn.Sequential(ConvLayer(input_nc, widths[0], 1), *halving)
        self.final_conv = ConvLayer(self.features, self.features, 3)
        hidden = EqualisedLinear(self.features * FINAL_SIDE**2, self.features, activate=True)
        self.final_linear = nn.Sequential(hidden, EqualisedLinear(self.features, 1))

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for images of other sizes than this discriminator is built for."""
        largest = self.size + self.size // FINAL_SIDE - 1
        if not self.size <= min(height, width) <= max(height, width) <= largest:
            raise unfit(height, width, f"this discriminator needs sides of {self.size} to {largest}")

    def trunk(self, image: Tensor) -> Tensor:
        """Return the features (N, C, 4, 4) of images."""
        self.check_size(*image.shape[2:])
        return self.convs(image)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits (N, 1) of features."""
        return self.final_linear(self.final_conv(features).flatten(1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image))


def _image_size(o: Any) -> int:
    return nearest_power_of_two(o.load_size, o.crop_size)


def _build(n_blocks: int, noisy: bool, o: Any, input_nc: int, output_nc: int) -> nn.Module:
    size, n_halvings = o.stylegan2_G_size or _image_size(o), o.stylegan2_G_num_downsampling
    if size >> n_halvings < FINAL_SIDE:
        why = f"{n_halvings} halvings of {size} pixels leave fewer than {FINAL_SIDE}"
        raise OptionError("option", "--stylegan2_G_num_downsampling", why, "use fewer, or larger images")
    return StyleGAN2Generator(input_nc, output_nc, o.ngf, size, n_blocks, n_halvings, noisy)


generator, small_generator = partial(_build, 3, True), partial(_build, 1, False)


def discriminator(o: Any, input_nc: int) -> nn.Module:
    """Build the discriminator of whole images of the smaller of --load_size and --crop_size."""
    size = _image_size(o)
    if size < FINAL_SIDE:
        why = f"{size} pixels are too few for this discriminator"
        raise OptionError("option", "--crop_size", why, f"use {2 * FINAL_SIDE} or more")
    return StyleGAN2Discriminator(input_nc, o.ndf, size)
