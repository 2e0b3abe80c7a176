"""Networks of SPADE: a generator whose norms are modulated by a label map, discriminators of scales, an encoder."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.architectures.pix2pixhd import halved
from networks.infer_architecture import InferableNetwork
from networks.norm import InstanceNorm, Norm, SyncBatchNorm, none
from networks.padding import any_size, unfit
from networks.sample_noise import noise
from networks.stored_spectral_norm import with_spectral_norm
from registry.lookup import find
from util.errors import OptionError
from util.size import to_size

HIDDEN = 128  # channels between a label map and the scales and shifts that it gives
MAX_WIDTH = 512  # channels of a discriminator's layer
DOUBLINGS = {"normal": 5, "more": 6, "most": 7}  # by --num_upsampling_layers
ENCODED_SIDES = {5: 128, 6: 256}  # of an encoder's images by its number of layers, which leave 4x4 positions
FREE_NORMS: dict[str, Norm] = {  # without scales and shifts of their own
    "instance": InstanceNorm,
    "batch": partial(nn.BatchNorm2d, affine=False),
    "syncbatch": partial(SyncBatchNorm, affine=False),
    "layer": partial(nn.GroupNorm, 1, affine=False),
    "none": none,
}


class SpatiallyAdaptiveNorm(nn.Module):
    """(N, channels, H, W), label map (N, semantic_nc, H, W) -> x, normalised, times 1 + scales, plus shifts.

    Scales and shifts of each position are two convolutions of the label map (Park et al. 2019, eq. 1).
    """

    def __init__(self, channels: int, semantic_nc: int, norm: str, kernel: int):
        super().__init__()
        self.param_free_norm = FREE_NORMS[norm](channels)
        conv = partial(nn.Conv2d, kernel_size=kernel, padding=kernel // 2)
        self.mlp_shared = nn.Sequential(conv(semantic_nc, HIDDEN), nn.ReLU())
        self.mlp_gamma, self.mlp_beta = conv(HIDDEN, channels), conv(HIDDEN, channels)

    def forward(self, x: Tensor, semantic: Tensor) -> Tensor:
        hidden = self.mlp_shared(semantic)
        return torch.addcmul(self.mlp_beta(hidden), self.param_free_norm(x), 1 + self.mlp_gamma(hidden))


class SpadeBlock(nn.Module):
    """(N, n_in, H, W), label map (N, semantic_nc, any size) -> (N, n_out, H, W); a residual block (figure 4)."""

    def __init__(self, n_in: int, n_out: int, semantic_nc: int, norm: str):
        super().__init__()
        is_spectral, free, kernel = parsed_norm(norm)
        own = partial(with_spectral_norm, when=is_spectral)
        norm_of = partial(SpatiallyAdaptiveNorm, semantic_nc=semantic_nc, norm=free, kernel=kernel)
        middle, self.changes_width = min(n_in, n_out), n_in != n_out
        self.conv_0 = own(nn.Conv2d(n_in, middle, 3, padding=1))
        self.conv_1 = own(nn.Conv2d(middle, n_out, 3, padding=1))
        self.norm_0, self.norm_1 = norm_of(n_in), norm_of(middle)
        if self.changes_width:
            self.conv_s, self.norm_s = own(nn.Conv2d(n_in, n_out, 1, bias=False)), norm_of(n_in)

    def forward(self, x: Tensor, semantic: Tensor) -> Tensor:
        semantic = _nearest(semantic, x.shape[2:])
        y = self.conv_0(_activated(self.norm_0(x, semantic)))
        y = self.conv_1(_activated(self.norm_1(y, semantic)))
        return y + (self.conv_s(self.norm_s(x, semantic)) if self.changes_width else x)


class SpadeGenerator(InferableNetwork):
    """Label map (N, input_nc, H, W), z (N, z_dim) -> (N, output_nc, H, W) in [-1, 1], for any H and W.

    z_dim 0: without z, from the label map at its coarsest size. start: rows and columns of what z becomes; other sizes
    are made by resizing it. Maps are padded to sides that are multiples of 2**doublings (`any_size`). Without a z one
    is drawn. Keys are those of the authors' code. Source: Park et al. 2019, figure 4 and appendix A.
    """

    def __init__(self, input_nc: int, output_nc: int, ngf: int = 64, upsamplings: str = "normal",
                 norm: str = "spectralspadesyncbatch3x3", z_dim: int = 0, start: tuple[int, int] = (8, 8)):  # fmt: skip
        super().__init__()
        self.z_dim, self.start, self.upsamplings = z_dim, start, upsamplings
        self.multiple = 2 ** DOUBLINGS[upsamplings]
        wide, last = 16 * ngf, max(1, ngf // 2) if upsamplings == "most" else ngf
        block = partial(SpadeBlock, semantic_nc=input_nc, norm=norm)
        self.fc = nn.Linear(z_dim, wide * start[0] * start[1]) if z_dim else nn.Conv2d(input_nc, wide, 3, padding=1)
        self.head_0, self.G_middle_0, self.G_middle_1 = (block(wide, wide) for _ in range(3))
        self.up_0, self.up_1 = block(wide, 8 * ngf), block(8 * ngf, 4 * ngf)
        self.up_2, self.up_3 = block(4 * ngf, 2 * ngf), block(2 * ngf, ngf)
        if upsamplings == "most":
            self.up_4 = block(ngf, last)
        self.conv_img = nn.Conv2d(last, output_nc, 3, padding=1)

    def forward(self, semantic: Tensor, z: Tensor | None = None) -> Tensor:
        z = noise(semantic, self.z_dim) if self.z_dim and z is None else z
        return any_size(partial(self._paint, z=z), semantic, self.multiple, least=2 * self.multiple)

    def _paint(self, semantic: Tensor, z: Tensor | None) -> Tensor:
        size = [side // self.multiple for side in semantic.shape[2:]]
        x = self.fc(_nearest(semantic, size)) if z is None else self._started(z, size)
        for block, doubles in self._blocks():
            x = block(_doubled(x) if doubles else x, semantic)
        return torch.tanh(self.conv_img(_activated(x)))

    def _started(self, z: Tensor, size: list[int]) -> Tensor:
        return _nearest(self.fc(z).unflatten(1, (-1, *self.start)), size)

    def _blocks(self) -> Iterator[tuple[nn.Module, bool]]:
        """Yield the blocks in order, and whether the size doubles before them."""
        yield self.head_0, False
        yield self.G_middle_0, True
        yield self.G_middle_1, self.upsamplings != "normal"
        yield from ((part, True) for name, part in self.named_children() if name.startswith("up_"))


class ImageEncoder(nn.Module):
    """Images (N, input_nc, H, W) -> mean and log variance (N, z_dim) of the z that makes images of their style.

    layers: 5, of images resized to 128x128, or 6, to 256x256 (Park et al. 2019, figure 14).
    """

    def __init__(self, input_nc: int, z_dim: int = 256, width: int = 64, layers: int = 6,
                 norm: str = "spectralinstance"):  # fmt: skip
        super().__init__()
        self.side = ENCODED_SIDES[layers]
        widths = [input_nc, *(width * min(2**n, 8) for n in range(layers))]
        for n in range(layers):
            self.add_module(
                f"layer{n + 1}", _normed(widths[n], widths[n + 1], norm, kernel_size=3, stride=2, padding=1)
            )
        self.fc_mu, self.fc_var = (nn.Linear(16 * widths[-1], z_dim) for _ in range(2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        size = (self.side, self.side)
        x = images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear")
        for name, layer in self.named_children():
            x = _activated(layer(x)) if name.startswith("layer") else x
        return self.fc_mu(x.flatten(1)), self.fc_var(x.flatten(1))


class SpadeDiscriminators(InferableNetwork):
    """(N, input_nc, H, W) -> [logits (N, 1, h, w) at full size, at half of it, ...] (Park et al. 2019, figure 11).

    With `returns_features`: [[features of each layer before the last, ..., logits] of each scale].
    """

    returns_features = False

    def __init__(self, input_nc: int, ndf: int = 64, layers: int = 4, scales: int = 2,
                 norm: str = "spectralinstance"):  # fmt: skip
        super().__init__()
        for n in range(scales):
            self.add_module(f"discriminator_{n}", _PatchDiscriminator(input_nc, ndf, layers, norm))
        self.min_side = 2 ** (scales - 1) + 1  # leaves more than one position to an instance norm

    def check_size(self, height: int, width: int) -> None:
        """Raise DataError for images that are too small for an output at the last scale."""
        if min(height, width) < self.min_side:
            raise unfit(height, width, f"these discriminators need sides of at least {self.min_side} (--num_D)")

    def forward(self, x: Tensor) -> list[Any]:
        self.check_size(*x.shape[2:])
        judged: list[Any] = []
        for scale in self.children():
            x = halved(x) if judged else x
            judged.append(scale(x))
        return judged if self.returns_features else [outputs[-1] for outputs in judged]


class _PatchDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> the output of each layer; the last is the logits (N, 1, h, w)."""

    def __init__(self, input_nc: int, ndf: int, layers: int, norm: str):
        super().__init__()
        widths = [min(ndf * 2**n, MAX_WIDTH) for n in range(layers)]
        self.model0 = nn.Sequential(nn.Conv2d(input_nc, ndf, 4, stride=2, padding=2), nn.LeakyReLU(0.2))
        for n in range(1, layers):
            stride = 1 if n == layers - 1 else 2
            conv = _normed(widths[n - 1], widths[n], norm, kernel_size=4, stride=stride, padding=2)
            self.add_module(f"model{n}", nn.Sequential(conv, nn.LeakyReLU(0.2)))
        self.add_module(f"model{layers}", nn.Sequential(nn.Conv2d(widths[-1], 1, 4, padding=2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = [x]
        for layer in self.children():
            outputs.append(layer(outputs[-1]))
        return outputs[1:]


def parsed_norm(text: str) -> tuple[bool, str, int]:
    """Return (whether convolutions have a spectral norm, the norm, the kernel's size) of "spectralspadebatch3x3".

    Raises OptionError for another text.
    """
    match = re.fullmatch(rf"(spectral)?spade({'|'.join(FREE_NORMS)})([1357])x\3", text)
    if not match:
        why = f"is '{text}', and not spectral, spade, {' or '.join(FREE_NORMS)}, and the size of a kernel"
        raise OptionError("option", "--norm_G", why, "write it like spectralspadesyncbatch3x3")
    return bool(match[1]), match[2], int(match[3])


def _normed(n_in: int, n_out: int, norm: str, **shape: int) -> nn.Module:
    """Return a convolution with the norms in a text such as "spectralinstance", "spectral" or "batch"."""
    plain = norm.removeprefix("spectral").replace("sync_batch", "syncbatch") or "none"
    conv: nn.Module = nn.Conv2d(n_in, n_out, bias=plain == "none", **shape)  # type: ignore[arg-type]
    conv = with_spectral_norm(conv, when=norm.startswith("spectral"))
    return conv if plain == "none" else nn.Sequential(conv, find("norm", plain)(n_out))


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _nearest(x: Tensor, size: Any) -> Tensor:
    """Return x resized; in a recording for an export always, because it must not compare sizes."""
    is_recorded = torch.jit.is_tracing() or torch.compiler.is_exporting()
    if not is_recorded and list(x.shape[2:]) == list(size):
        return x
    return F.interpolate(x, tuple(size), mode="nearest")


def own_norm(o: Any, flag: str, before: str, after: str = "") -> str:
    """Return --norm_G, --norm_D or --norm_E, or for other models --norm between two texts."""
    return getattr(o, flag, "") or before + o.norm.removesuffix("_affine" if after else "") + after


def generator(o: Any, input_nc: int, output_nc: int) -> nn.Module:
    """Build SPADE's generator, which with --use_vae starts from a z."""
    upsamplings = getattr(o, "num_upsampling_layers", "normal")
    width, height = to_size(o.saved.get("crop_size", o.crop_size) if hasattr(o, "saved") else o.crop_size)
    start = tuple(max(1, side // 2 ** DOUBLINGS[upsamplings]) for side in (height, width))
    z_dim = o.z_dim if getattr(o, "use_vae", False) else 0
    norm = own_norm(o, "norm_G", "spectralspade", "3x3")
    return SpadeGenerator(input_nc, output_nc, o.ngf, upsamplings, norm, z_dim, start)  # type: ignore[arg-type]


def discriminators(o: Any, input_nc: int) -> nn.Module:
    """Build SPADE's --num_D discriminators of --n_layers_D layers."""
    return SpadeDiscriminators(input_nc, o.ndf, o.n_layers_D, o.num_D, own_norm(o, "norm_D", "spectral"))
