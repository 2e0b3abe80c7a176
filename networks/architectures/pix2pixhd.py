"""Networks of pix2pixHD: coarse-to-fine generators, discriminators of several scales, and an encoder of objects."""

from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from networks.architectures.resnet import ResnetBlock
from networks.infer_architecture import InferableNetwork
from networks.norm import Norm, layer, none
from networks.padding import any_size, unfit
from registry.lookup import find

MAX_WIDTH = 512  # channels of a discriminator's layer


class GlobalGenerator(InferableNetwork):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1] for any H and W (Wang et al. 2018, section 3.2).

    A first convolution, `downsamplings` halvings, residual blocks, as many doublings, a last convolution. Keys are
    those of the authors' code. Images are padded to sides that are multiples of 2**downsamplings (`any_size`).
    """

    def __init__(self, input_nc: int, output_nc: int, ngf: int = 64, downsamplings: int = 4, blocks: int = 9,
                 norm: str = "instance"):  # fmt: skip
        super().__init__()
        layers = _trunk(input_nc, ngf, downsamplings, blocks, find("norm", norm))
        self.model = nn.Sequential(*layers, *_last(ngf, output_nc))
        self.multiple = 2**downsamplings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return any_size(self.model, x, self.multiple, least=2 * self.multiple)  # 2x2 inside: instance norm needs it


class LocalEnhancer(InferableNetwork):
    """A global generator for images of halved sides, and `enhancers` that add detail, each doubling the sides.

    Shapes and padding are as of GlobalGenerator. `model` is the global generator without its last convolution; the
    n-th enhancer is `model{n}_1`, from the image of its size, and `model{n}_2`, from the sum of that and of what is
    coarser.
    """

    def __init__(self, input_nc: int, output_nc: int, ngf: int = 32, downsamplings: int = 4, blocks: int = 9,
                 enhancers: int = 1, local_blocks: int = 3, norm: str = "instance"):  # fmt: skip
        super().__init__()
        layer, self.enhancers = find("norm", norm), enhancers
        self.model = nn.Sequential(*_trunk(input_nc, ngf * 2**enhancers, downsamplings, blocks, layer))
        for n in range(1, enhancers + 1):
            width = ngf * 2 ** (enhancers - n)
            first = nn.Sequential(*_first(input_nc, width, layer), *_halving(width, layer))
            blocks_here = [_block(2 * width, layer) for _ in range(local_blocks)]
            last = _last(ngf, output_nc) if n == enhancers else []
            self.add_module(f"model{n}_1", first)
            self.add_module(f"model{n}_2", nn.Sequential(*blocks_here, *_doubling(2 * width, layer), *last))
        self.multiple = 2 ** (downsamplings + enhancers)

    @property
    def outermost(self) -> list[nn.Module]:
        """The two halves of the enhancer of full size."""
        return [self.get_submodule(f"model{self.enhancers}_{half}") for half in (1, 2)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return any_size(self._translate, x, self.multiple, least=2 * self.multiple)

    def _translate(self, x: torch.Tensor) -> torch.Tensor:
        pyramid = [x]
        for _ in range(self.enhancers):
            pyramid.append(halved(pyramid[-1]))
        made = self.model(pyramid.pop())
        for n in range(1, self.enhancers + 1):
            first, second = (self.get_submodule(f"model{n}_{half}") for half in (1, 2))
            made = second(first(pyramid.pop()) + made)
        return made


class InstanceEncoder(nn.Module):
    """(N, input_nc, H, W), ids (N, H, W) -> (N, features, H, W): one feature vector in [-1, 1] for each object.

    It is the mean of the object's pixels (Wang et al. 2018, section 3.4).
    """

    def __init__(self, input_nc: int, features: int, nef: int = 16, downsamplings: int = 4, norm: str = "instance"):
        super().__init__()
        layers = _trunk(input_nc, nef, downsamplings, 0, find("norm", norm))
        self.model = nn.Sequential(*layers, *_last(nef, features))
        self.multiple = 2**downsamplings

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return object_means(any_size(self.model, x, self.multiple, least=2 * self.multiple), ids)


class ScaledDiscriminators(InferableNetwork):
    """(N, input_nc, H, W) -> [logits (N, 1, h, w) at full size, at half of it, ...] (Wang et al. 2018, section 3.2).

    With `returns_features`: [[features of each layer before the last, ..., logits] of each scale]. Each scale has a
    PatchGAN of its own, with a padding of 2. by_layer: whether a scale's layers have names of their own
    (`scale0_layer1.0.weight`), or are one list without features (`layer0.2.weight`): the authors' keys with and without
    feature matching. Scale 0 is the coarsest.
    """

    returns_features = False

    def __init__(self, input_nc: int, ndf: int = 64, layers: int = 3, scales: int = 2, norm: str = "instance",
                 by_layer: bool = True):  # fmt: skip
        super().__init__()
        self.prefixes = [f"scale{n}_layer" if by_layer else f"layer{n}" for n in reversed(range(scales))]
        for n in range(scales):
            blocks = _patch_layers(input_nc, ndf, layers, find("norm", norm))
            for number, block in enumerate(blocks if by_layer else [list(chain(*blocks))]):
                self.add_module(f"scale{n}_layer{number}" if by_layer else f"layer{n}", nn.Sequential(*block))
        self.min_side = 3 * 2 ** (layers + scales - 2)  # leaves more than one position to an instance norm

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for images that are too small for an output at the last scale."""
        if min(height, width) < self.min_side:
            raise unfit(height, width, f"these discriminators need sides of at least {self.min_side} (--num_D)")

    def forward(self, x: torch.Tensor) -> list[Any]:
        self.check_size(*x.shape[2:])
        judged: list[Any] = []
        for prefix in self.prefixes:
            x = halved(x) if judged else x
            outputs = [x]
            for name, part in self.named_children():
                outputs += [part(outputs[-1])] if name.startswith(prefix) else []
            judged.append(outputs[1:] if self.returns_features else outputs[-1])
        return judged


def halved(x: torch.Tensor) -> torch.Tensor:
    """Return images of half the size: means of 3x3 pixels, of which those beyond the border do not count."""
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def object_means(x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return x (N, C, H, W) with each pixel replaced by the mean of its object: the pixels of one id in its image."""
    if x.is_meta:  # the number of objects is a matter of values
        return x
    ids = ids.long() - ids.min()
    image = torch.arange(len(x), device=x.device)[:, None, None] * (ids.max() + 1)
    _, number, count = torch.unique(ids + image, return_inverse=True, return_counts=True)
    pixels = x.movedim(1, -1).flatten(0, -2)
    pixels = pixels.float() if pixels.element_size() < 4 else pixels  # sums of many pixels
    sums = pixels.new_zeros(len(count), x.shape[1]).index_add(0, number.flatten(), pixels)
    return (sums / count[:, None])[number].movedim(-1, 1).to(x.dtype)


def _trunk(input_nc: int, width: int, downsamplings: int, blocks: int, norm: Norm) -> list[nn.Module]:
    """Return the layers of a generator before its last convolution."""
    widths = [width * 2**n for n in range(downsamplings + 1)]
    layers = _first(input_nc, width, norm)
    for n in widths[:-1]:
        layers += _halving(n, norm)
    layers += [_block(widths[-1], norm) for _ in range(blocks)]
    for n in widths[:0:-1]:
        layers += _doubling(n, norm)
    return layers


def _bias(norm: Norm) -> bool:
    """Whether convolutions before a norm have a bias: all but those of norms that the authors' code lacks.

    So the keys of a file of weights tell these apart, as in networks/norm.py.
    """
    return norm not in (layer, none)


def _first(input_nc: int, width: int, norm: Norm) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, width, 7, bias=_bias(norm)), norm(width), nn.ReLU(inplace=True)]


def _halving(width: int, norm: Norm) -> list[nn.Module]:
    return [
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=_bias(norm)),
        norm(2 * width),
        nn.ReLU(inplace=True),
    ]


def _block(width: int, norm: Norm) -> nn.Module:
    return ResnetBlock(width, norm, bias=_bias(norm), dropout=False, padding="reflect")


def _doubling(width: int, norm: Norm) -> list[nn.Module]:
    up = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=_bias(norm))
    return [up, norm(width // 2), nn.ReLU(inplace=True)]


def _last(width: int, output_nc: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(3), nn.Conv2d(width, output_nc, 7), nn.Tanh()]


def _patch_layers(input_nc: int, ndf: int, layers: int, norm: Norm) -> list[list[nn.Module]]:
    """Return the layers of a PatchGAN with a padding of 2, in groups that end with an activation or the logits."""
    widths = [min(ndf * 2**n, MAX_WIDTH) if n else ndf for n in range(layers + 1)]
    blocks: list[list[nn.Module]] = [[nn.Conv2d(input_nc, ndf, 4, stride=2, padding=2), nn.LeakyReLU(0.2, True)]]
    for n in range(1, layers + 1):
        conv = nn.Conv2d(widths[n - 1], widths[n], 4, stride=2 if n < layers else 1, padding=2)
        blocks.append([conv, norm(widths[n]), nn.LeakyReLU(0.2, True)])
    return [*blocks, [nn.Conv2d(widths[-1], 1, 4, padding=2)]]


def global_generator(o: Any, input_nc: int, output_nc: int) -> nn.Module:
    """Build pix2pixHD's global generator."""
    return GlobalGenerator(input_nc, output_nc, o.ngf, o.n_downsample_global, o.n_blocks_global, o.norm)


def local_enhancer(o: Any, input_nc: int, output_nc: int) -> nn.Module:
    """Build pix2pixHD's global generator with local enhancers."""
    widths = o.ngf, o.n_downsample_global, o.n_blocks_global, o.n_local_enhancers, o.n_blocks_local
    return LocalEnhancer(input_nc, output_nc, *widths, o.norm)


def discriminators(o: Any, input_nc: int) -> nn.Module:
    """Build pix2pixHD's --num_D discriminators of --n_layers_D layers."""
    by_layer = not getattr(o, "no_ganFeat_loss", False)
    return ScaledDiscriminators(input_nc, o.ndf, o.n_layers_D, o.num_D, o.norm, by_layer)
