"""Gradient checkpointing: activations are computed again in the backward pass instead of being kept."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from util.snapshot import Buffers

HEAVY = 0.5  # share of a Sequential's parameters from which on one layer is divided itself: a U-Net's deeper levels


def recompute(net: nn.Module) -> None:
    """Have a network's Sequentials keep the activations between runs of layers only.

    These are about sqrt(n) runs of n layers (Chen et al. 2016). Numbers, draws and running statistics stay the same.
    """
    for layer in net.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]  # it would spoil the input of its run, which is what is kept
    _divide(net)


def _divide(net: nn.Module) -> None:
    if not isinstance(net, nn.Sequential):
        for child in net.children():
            _divide(child)
        return
    steps: list[Callable[[Tensor], Tensor]] = []
    run: list[nn.Module] = []
    for layer in [*net, None]:
        heavy = layer is not None and _size(layer) > HEAVY * _size(net) and any(layer.children())
        full = len(run) >= math.sqrt(len(net))
        if run and (layer is None or heavy or full):
            steps.append(_Run(*run))
            run = []
        if heavy:
            _divide(layer)
            steps.append(layer)
        elif layer is not None:
            run.append(layer)

    def forward(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    net.forward = forward  # type: ignore[method-assign]


class _Run(nn.Sequential):
    """Layers of which only input and output are kept."""

    def __call__(self, x: Tensor) -> Tensor:
        return checkpoint(super().__call__, x, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), Buffers(self).again()


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
