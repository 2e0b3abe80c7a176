"""Gradient checkpointing: recompute activations in the backward pass instead of keeping them."""

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from networks.runtime.eager import is_eager
from networks.runtime.snapshot import BufferSnapshot
from util.seeding import exchange_common

# A layer with more than this share of its Sequential's parameters, such as a U-Net's deeper levels, is checkpointed
# inside instead of recomputed as a whole.
SPLIT_PARAMETER_FRACTION = 0.5


def checkpoint_activations(net: nn.Module) -> None:
    """Make a network's Sequentials keep only the activations between segments of their layers.

    n layers form about sqrt(n) segments (Chen et al. 2016). Outputs, random draws and running statistics stay the same.
    """
    for layer in net.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]  # it would overwrite its segment's input, which is kept
    _checkpoint_sequentials(net)


def _checkpoint_sequentials(net: nn.Module) -> None:
    if not isinstance(net, nn.Sequential):
        for child in net.children():
            _checkpoint_sequentials(child)
        return

    # Group the layers into segments; heavy layers are checkpointed inside.
    steps: list[nn.Module] = []
    segment: list[nn.Module] = []
    for layer in [*net, None]:
        heavy = (
            layer is not None
            and _parameter_count(layer) > SPLIT_PARAMETER_FRACTION * _parameter_count(net)
            and any(layer.children())
        )
        full = len(segment) >= math.sqrt(len(net))
        if segment and (layer is None or heavy or full):
            steps.append(_Segment(*segment))
            segment = []
        if heavy:
            _checkpoint_sequentials(layer)
            steps.append(layer)
        elif layer is not None:
            segment.append(layer)

    # Replace the forward method: the Sequential itself and its keys stay as they are. A copy has steps of its own.
    net.forward = partial(_run_steps, steps)  # type: ignore[method-assign]


def _run_steps(steps: list[nn.Module], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


class _Segment(nn.Sequential):
    """Layers whose inner activations are recomputed: only their input and output are kept."""

    def __call__(self, x: Tensor) -> Tensor:
        if is_eager():
            return super().__call__(x)
        return checkpoint(super().__call__, x, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _RestoredState(self)


class _RestoredState(AbstractContextManager):
    """A segment as it was before its forward pass: its buffers, and which of its parameters require gradients.

    Each backward pass enters it, a penalty's too; it may come when a phase or `without` has changed the parameters.
    """

    def __init__(self, segment: nn.Module):
        self.segment, self.buffers, self.flags = segment, BufferSnapshot(segment), _gradient_flags(segment)
        self.active: list[tuple[AbstractContextManager, list[tuple[nn.Parameter, bool]], list[Any]]] = []
        exchange_common(draws := exchange_common([]))
        self.draws = draws  # that processes have in common; torch's checkpoint repeats the others

    def __enter__(self) -> None:
        self.active.append((self.buffers.restored(), _gradient_flags(self.segment), exchange_common(self.draws)))
        self.active[-1][0].__enter__()
        _set_gradient_flags(self.flags)

    def __exit__(self, *problem: Any) -> None:
        buffers, flags, draws = self.active.pop()
        exchange_common(draws)
        _set_gradient_flags(flags)
        buffers.__exit__(*problem)


def _gradient_flags(net: nn.Module) -> list[tuple[nn.Parameter, bool]]:
    return [(p, p.requires_grad) for p in net.parameters()]


def _set_gradient_flags(flags: list[tuple[nn.Parameter, bool]]) -> None:
    for p, required in flags:
        p.requires_grad_(required)


def _parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
