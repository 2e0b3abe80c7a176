"""Run several batches through a network in one forward pass if that does not change the result."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from networks.infer_architecture import InferableNetwork

SAMPLEWISE_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Identity, nn.ReflectionPad2d,
                     nn.ReplicationPad2d)  # layers that treat every sample by itself  # fmt: skip
SAMPLEWISE_IN_EVAL = (nn.BatchNorm2d, nn.Dropout)  # layers that do so except in training


def batched_forward(net: nn.Module, *inputs: Tensor) -> Callable[[Tensor], Any]:
    """Return a callable equal to `net` that has already run `inputs`, each (N, C, H, W), in one concatenated batch.

    Falls back to `net` if batching could change the result (batch norm or dropout in training, hooks, unknown layers,
    unequal sizes). Inputs other than these are passed to `net` when the callable is called with them.
    """
    if len({x.shape[1:] for x in inputs}) > 1 or not is_samplewise(net):
        return net
    leaves, structure = tree_flatten(net(torch.cat(inputs)))  # of a tensor, or of scales and features
    parts = zip(*(leaf.split([len(x) for x in inputs]) for leaf in leaves), strict=True)
    outputs = [tree_unflatten(part, structure) for part in parts]

    def forward(x: Tensor) -> Any:
        for batched_input, out in zip(inputs, outputs, strict=True):
            if batched_input is x:
                return out
        return net(x)

    return forward


def is_samplewise(net: nn.Module) -> bool:
    """Whether a sample's output is known to be independent of the rest of its batch and of its position in it."""
    layers = [module for module in net.modules() if not any(module.children())]
    return isinstance(net, InferableNetwork) and all(map(_is_samplewise_layer, layers))


def _is_samplewise_layer(layer: nn.Module) -> bool:
    if layer._forward_pre_hooks or layer._forward_hooks:  # such as spectral norm's, whose state changes with every call
        return False
    if isinstance(layer, nn.InstanceNorm2d):
        return not layer.track_running_stats
    return isinstance(layer, SAMPLEWISE_LAYERS) or (isinstance(layer, SAMPLEWISE_IN_EVAL) and not layer.training)
