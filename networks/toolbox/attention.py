"""Self-attention inside any generator or discriminator that `generator()` or `discriminator()` builds (--attention)."""

import copy
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from networks.init import init_weights
from networks.toolbox.feature_matching import ACTIVATIONS
from util.errors import OptionError

REDUCTION = 8  # times as many channels as queries, keys and values have


class SelfAttention(nn.Module):
    """(N, C, H, W) -> the same: each position adds a mixture of all positions (Zhang et al. 2019, SAGAN, eq. 1 to 3).

    out = gamma o + x; o at j is v applied to the sum over i of softmax_i(key_i . query_j) value_i. gamma starts at 0.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // REDUCTION)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1, bias=False) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = (query.mT @ key).softmax(2)  # (N, positions j, positions i)
        mixed = (value @ weights.mT).unflatten(2, x.shape[2:])
        return self.gamma * self.out(mixed) + x


def add_attention(net: nn.Module, o: Any, shape: Sequence[int], size: int, which: str) -> nn.Module:
    """Return a network whose last feature map of `size` pixels (its shorter side) attends to itself.

    shape: of one input, (C, H, W) or (C,). The layer whose output it is, an activation that is called once, gets the
    attention as a part `attention`; other keys stay. Raises OptionError, with the sizes that there are.
    """
    maps = _feature_maps(net, shape)
    fitting = [name for name, found in maps.items() if min(found[1:]) == size]
    if not fitting:
        sides = sorted({min(found[1:]) for found in maps.values() if min(found[1:]) > 1}, reverse=True)
        why = f"the {which} has no activation of {size} pixels, but of {', '.join(map(str, sides)) or 'no size'}"
        raise OptionError("option", "--attention_size", why, "choose one of these, or omit --attention")
    layer = net.get_submodule(fitting[-1])
    layer.add_module("attention", init_weights(SelfAttention(maps[fitting[-1]][0]), o.init_type, o.init_gain))
    layer.register_forward_hook(_attend)
    return net


def has_attention(net: nn.Module) -> bool:
    """Return whether a network has a part that --attention has added."""
    return any(isinstance(part, SelfAttention) for part in net.modules())


def _attend(layer: Any, args: tuple, output: Tensor) -> Tensor:
    return layer.attention(output)


def _feature_maps(net: nn.Module, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return {name: (C, H, W)} of the outputs of activations that are called once, but the network's own, in order."""
    for device in ("meta", "cpu"):
        twin, seen, calls = copy.deepcopy(net).to(device).eval(), dict[str, Tensor](), Counter[str]()

        def keep(name: str, output: Tensor, seen: dict = seen, calls: Counter = calls) -> None:
            calls[name] += 1
            seen[name] = output

        for name, part in twin.named_modules():
            if isinstance(part, ACTIVATIONS):
                part.register_forward_hook(lambda part, args, output, name=name, keep=keep: keep(name, output))
        with suppress(RuntimeError, NotImplementedError), torch.no_grad():  # it may need values
            out = twin(torch.zeros(1, *shape, device=device))
            return {
                name: tuple(x.shape[1:])
                for name, x in seen.items()
                if calls[name] == 1 and x.dim() == 4 and x is not out
            }
    return {}
