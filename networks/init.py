"""Weight initialisation before training."""

from torch import Tensor, nn
from torch.nn import init

from networks.frozen import frozen_parts
from registry.lookup import find


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
            draw(layer.weight, gain)
            if layer.bias is not None:
                init.zeros_(layer.bias)
    return net
