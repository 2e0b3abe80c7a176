"""Contrastive learning of patches (Park et al. 2020): which layers are compared, their features, and the loss."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.layer_outputs import features
from networks.sample_noise import from_host
from networks.whole_batch import all_samples
from util.errors import OptionError
from util.seeding import common_draws

NUMBERED = {  # Sequentials of generators whose layers have numbers: those compared by "auto"
    "model": ("0", "4", "8", "12", "16"),  # of a ResNet
    "encoder.convs": ("0", "2", "4"),  # of StyleGAN2's translating generator
}
MAX_ENCODER_LAYERS = 5  # of other generators
POOLED_SIDE = 4  # --netF reshape: means over a grid of this side


class PatchFeatures(nn.Module):
    """Features of several layers at given places, projected to vectors of length 1: the network F of CUT.

    channels: those of each layer. kind: "mlp_sample" projects each layer's features by a multilayer perceptron of its
    own (keys `mlp_0.0.weight`, ...) to `width` values; "sample" takes them as they are; "reshape" takes the means of a
    grid of 4x4 cells, which need no places.
    """

    def __init__(self, channels: Sequence[int], width: int = 256, kind: str = "mlp_sample"):
        super().__init__()
        self.kind = kind
        for number, n in enumerate(channels if kind == "mlp_sample" else ()):
            self.add_module(f"mlp_{number}", nn.Sequential(nn.Linear(n, width), nn.ReLU(), nn.Linear(width, width)))

    def forward(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Return (N, P, C) for each feature map (N, C, H, W); places: P indices into its H * W positions."""
        found = []
        for number, (layer, chosen) in enumerate(zip(maps, places, strict=True)):
            if self.kind == "reshape":
                patches = F.adaptive_avg_pool2d(layer, POOLED_SIDE).flatten(2).transpose(1, 2)
            else:
                patches = layer.flatten(2)[:, :, chosen].transpose(1, 2)
            if self.kind == "mlp_sample":
                patches = self.get_submodule(f"mlp_{number}")(patches)
            found.append(patches / (patches.norm(dim=-1, keepdim=True) + 1e-7))
        return found


def draw_places(maps: Sequence[Tensor], count: int) -> list[Tensor]:
    """Draw for each feature map (N, C, H, W) the indices of `count` different positions, or of all if it has fewer.

    All images of a batch share them.
    """
    sizes = [layer.shape[2] * layer.shape[3] for layer in maps]
    with common_draws():
        return [
            from_host(partial(_draw_different, min(size, count), size), (min(size, count),), layer.device)
            for size, layer in zip(sizes, maps, strict=True)
        ]


def _draw_different(count: int, size: int) -> Tensor:
    return torch.randperm(size)[:count]


def patch_nce(query: Tensor, key: Tensor, temperature: float, across_images: bool = False) -> Tensor:
    """Return the mean InfoNCE loss (van den Oord et al. 2018) of patches: query p must resemble key p, not another.

    query, key: (N, P, C), of length 1; no gradient reaches the keys. across_images: the other patches are those of the
    whole batch of all processes, not only of the same image.
    """
    first = 0
    if across_images:
        first, key = all_samples(key.detach())
        first, query, key = first * query.shape[1], query.flatten(0, 1)[None], key.flatten(0, 1)[None]
    similarities = query @ key.detach().transpose(1, 2) / temperature
    target = torch.arange(first, first + query.shape[1], device=similarities.device).repeat(len(similarities))
    return F.cross_entropy(similarities.flatten(0, 1), target)


def compared_layers(net: nn.Module, layers: str, image: Sequence[int]) -> dict[str, int]:
    """Return {name: channels} of the layers of a generator whose features are compared, for images (C, H, W).

    layers: numbers in the generator's Sequential `model` or `encoder.convs` (a layer before an activation in place is
    compared after it, as in the authors' code), or names of `named_modules()`, comma-separated; "auto": the paper's
    for ResNets and StyleGAN2; for other generators those of the first five convolutions whose output has several
    positions. Raises OptionError for a layer that the generator does not have, or whose output is not a feature map.
    """
    modules = dict(net.named_modules())
    automatic = layers == "auto"
    numbered = next((name for name in NUMBERED if f"{name}.0" in modules), "model")
    words = NUMBERED[numbered] if automatic else [word.strip() for word in layers.split(",")]
    names = [_layer_name(modules, numbered, int(word)) if word.isdigit() else word for word in words]
    if automatic and numbered == "encoder.convs":
        names = [name for name in names if name in modules]  # smallstylegan2 has no layer 4
    elif automatic and any(name not in modules for name in names):
        names = [name for name, layer in modules.items() if isinstance(layer, nn.Conv2d)][:MAX_ENCODER_LAYERS]
    for name in names:
        if not name or name not in modules:
            remedy = f"give numbers in its Sequential {numbered}, or names that --verbose prints, comma-separated"
            raise OptionError("option", "--nce_layers", f"the generator has no layer '{name}'", remedy)
    maps = _feature_maps(net, image, names)
    if automatic:
        maps = {name: layer for name, layer in maps.items() if layer.dim() == 4 and layer.shape[2:].numel() > 1}
    for name, layer in maps.items():
        if layer.dim() != 4:
            why = f"the output of '{name}' is no feature map: {layer.dim()} dimensions instead of 4"
            raise OptionError("option", "--nce_layers", why, "name convolutions or blocks of them")
    return {name: layer.shape[1] for name, layer in maps.items()}


def _layer_name(modules: dict[str, nn.Module], numbered: str, number: int) -> str:
    """Return the name of a layer of a Sequential; that of an activation after it which overwrites its output."""
    following = f"{numbered}.{number + 1}"
    return following if getattr(modules.get(following), "inplace", False) else f"{numbered}.{number}"


def _feature_maps(net: nn.Module, image: Sequence[int], names: Sequence[str]) -> dict[str, Tensor]:
    """Return a network's features for one image, without values unless the network needs them."""
    for device in ("meta", "cpu"):
        with torch.no_grad(), suppress(RuntimeError, NotImplementedError) if device == "meta" else nullcontext():
            return features(copy.deepcopy(net).to(device).eval(), torch.zeros(1, *image, device=device), names)
    raise AssertionError
