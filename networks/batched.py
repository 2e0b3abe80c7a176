"""Several batches through one network at once, where that changes nothing but the time it takes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from networks.infer import InferableNetwork

SAMPLEWISE_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Identity, nn.ReflectionPad2d,
         nn.ReplicationPad2d)  # layers to which the samples of a batch are nothing to each other  # fmt: skip
SAMPLEWISE_IN_EVAL = (nn.BatchNorm2d, nn.Dropout)  # layers of which this is true but in training


def batched_forward(net: nn.Module, *inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """Return net, as a function that has computed these inputs, each (N, C, H, W), in one batch, if that is the same.

    It is the same for networks of this package whose norms, if any, are of one sample, and for pictures of one size.
    Otherwise, and for other inputs, the function is the network, so that calls are computed in the order they come.
    """
    if len({x.shape[1:] for x in inputs}) > 1 or not is_samplewise(net):
        return net
    outputs = net(torch.cat(inputs)).split([len(x) for x in inputs])

    def forward(x: Tensor) -> Tensor:
        for batched_input, out in zip(inputs, outputs, strict=True):
            if batched_input is x:
                return out
        return net(x)

    return forward


def is_samplewise(net: nn.Module) -> bool:
    """Whether what a network makes of a sample is known not to depend on the others of its batch, nor on its place."""
    return isinstance(net, InferableNetwork) and all(
        _is_samplewise_layer(m) for m in net.modules() if not any(m.children())
    )


def _is_samplewise_layer(layer: nn.Module) -> bool:
    if layer._forward_pre_hooks or layer._forward_hooks:  # such as a spectral norm's, which goes on with each call
        return False
    if isinstance(layer, nn.InstanceNorm2d):
        return not layer.track_running_stats
    return isinstance(layer, SAMPLEWISE_LAYERS) or (isinstance(layer, SAMPLEWISE_IN_EVAL) and not layer.training)
