"""The contract of a GAN: what its networks are, what a batch becomes, what each optimiser step minimises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from registry.contract import check_phase, missing_method_error

Batch = dict[str, Any]  # "A", "B": (N, C, H, W) in [-1, 1]; "label": (N,); "path_A", "path_B": N file names
Images = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One optimiser step of a training step.

    It minimises `weight` x the sum of the terms that `loss(batch, out)` returns, over the parameters of `nets`,
    every `every`-th step, at the learning rate `lr` (None: --lr). Phases that share a network share its optimiser.
    """

    name: str
    nets: list[nn.Module]
    loss: Callable[[Batch, dict[str, Any]], dict[str, Tensor]]
    every: int = 1
    weight: float = 1.0
    lr: float | None = None

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError, in words for the author of a plug-in, for what no phase can be made of."""
        check_phase(self.name, self.nets, self.loss, self.every, self.weight, self.lr)


class BaseModel(nn.Module):
    """A GAN. Subclasses define __init__(o, spec), phases, forward and the losses; docs/design.md tells the contract."""

    dataset_mode: ClassVar[str | None] = None  # the data set it usually wants
    defaults: ClassVar[dict[str, Any]] = {}  # its own defaults for flags that others own
    averaged: ClassVar[tuple[str, ...]] = ()  # the networks that make pictures: test.py needs only these

    class Options:
        """Its own flags; subclasses make this a dataclass of option() fields."""

    def phases(self) -> list[Phase]:
        """Return the optimiser steps of one training step, in order; none for a model that only translates."""
        return []

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return what one batch becomes: pictures (N, C, H, W) in [-1, 1] to show, and whatever the losses need."""
        raise missing_method_error(self, "forward(self, batch)")

    def show(self, out: dict[str, Any]) -> Images:
        """Return what people see of `out`: every 4-D tensor of 1 or 3 channels, in order."""
        return {k: v for k, v in out.items() if isinstance(v, Tensor) and v.dim() == 4 and v.shape[1] in (1, 3)}

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks by name: the children that have parameters."""
        return {name: net for name, net in self.named_children() if any(True for _ in net.parameters())}
