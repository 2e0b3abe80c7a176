"""Weight initialisation before training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from networks.frozen import frozen_parts
from registry.lookup import find

POWER_ITERATIONS = 15  # as torch's spectral norm does when it is put on a layer


def normal(weight: Tensor, gain: float) -> Tensor:
    """Draw from N(0, gain^2)."""
    return init.normal_(weight, 0.0, gain)


def xavier(weight: Tensor, gain: float) -> Tensor:
    """Draw from a normal distribution after Glorot & Bengio 2010."""
    return init.xavier_normal_(weight, gain=gain)


def kaiming(weight: Tensor, gain: float) -> Tensor:
    """Draw from a normal distribution after He et al. 2015; `gain` is ignored in favour of ReLU's, sqrt(2)."""
    return init.kaiming_normal_(weight, a=0, mode="fan_in")


def orthogonal(weight: Tensor, gain: float) -> Tensor:
    """Draw an orthogonal matrix after Saxe et al. 2013."""
    return init.orthogonal_(weight, gain=gain)


def init_weights(net: nn.Module, init_type: str, gain: float) -> nn.Module:
    """Draw the weights of convolutions and linear layers, and of norms from N(1, gain^2); set all biases to zero.

    Of a layer with spectral norm, weight norm or another parametrisation, the weight that is normalised is drawn.
    Layers inside a Frozen network keep their weights.
    """
    draw, frozen = find("initialiser", init_type), frozen_parts(net)
    for layer in net.modules():
        if layer in frozen:
            continue
        if isinstance(layer, nn.modules.batchnorm._NormBase):
            if layer.affine:
                init.normal_(layer.weight, 1.0, gain)
                init.zeros_(layer.bias)
        elif isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            _set_weight(layer, lambda weight: draw(weight, gain))
            if layer.bias is not None:
                init.zeros_(layer.bias)
    return net


@torch.no_grad()
def _set_weight(layer: Any, draw: Callable[[Tensor], Tensor]) -> None:
    """Draw a layer's weight, also a parametrised one; a spectral norm's vectors are fitted to the new weight."""
    hooks = [hook for hook in layer._forward_pre_hooks.values() if getattr(hook, "name", "") == "weight"]
    if parametrize.is_parametrized(layer, "weight"):
        _set_parametrised(layer, draw)
    elif hooks and isinstance(hook := hooks[0], SpectralNorm):  # torch.nn.utils.spectral_norm
        draw(layer.weight_orig)
        for _ in range(POWER_ITERATIONS):
            layer.weight = hook.compute_weight(layer, do_power_iteration=True)
    elif hooks and isinstance(hook, WeightNorm):  # torch.nn.utils.weight_norm
        draw(layer.weight_v)
        layer.weight_g.copy_(torch.norm_except_dim(layer.weight_v, 2, hook.dim))
        layer.weight = hook.compute_weight(layer)
    else:
        draw(layer.weight)


def _set_parametrised(layer: Any, draw: Callable[[Tensor], Tensor]) -> None:
    parametrised: Any = layer.parametrizations["weight"]
    weight = torch.empty_like(layer.weight)
    draw(weight)
    try:
        layer.weight = weight  # by right_inverse of each parametrisation
    except (NotImplementedError, RuntimeError):  # one has none
        parametrised.original.copy_(weight)
    if any(True for _ in parametrised.buffers()):  # a spectral norm fits its vectors when it computes the weight
        was_training = parametrised.training
        parametrised.train()
        for _ in range(POWER_ITERATIONS):
            parametrised()
        parametrised.train(was_training)
