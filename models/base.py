"""The contract of a GAN: its networks, its outputs for a batch, and the loss of each optimiser step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from registry.contract import check_phase, check_phase_optimizer, missing_method_error
from registry.training_position import Now as Now  # for plug-ins

Batch = dict[str, Any]  # "A", "B": (N, C, H, W) in [-1, 1]; "label": (N,); "path_A", "path_B": N file names
Images = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One optimiser step of a training step.

    It minimises `weight` x the sum of the terms that `loss(batch, out)` returns, over the parameters of `nets`,
    every `every`-th step. An entry of `nets` is a network, or (network, its learning rate); a Phase keeps them apart,
    in `nets` and `rates`. `lr`, `betas` and `optimizer` (a name of --list, or a function of (params, lr) and, if it
    declares them, betas) take the place of --lr, --beta1, --beta2 and --optimizer.

    Phases that share a network share its optimiser, with the settings of the first one; others are refused.
    lazy_correction: this phase runs rarely beside another one of its networks, whose rate and betas are corrected for
    the added steps: c = every / (every + 1), lr * c, betas ** c (Karras et al. 2020, StyleGAN2, appendix B).
    """

    name: str
    nets: list[nn.Module]
    loss: Callable[[Batch, dict[str, Any]], dict[str, Tensor]]
    every: int = 1
    weight: float = 1.0
    lr: float | None = None
    betas: tuple[float, float] | None = None
    optimizer: str | Callable[..., Any] | None = None
    lazy_correction: bool = False

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError, worded for the author of a plug-in, if a value is not valid."""
        check_phase(self.name, self.nets, self.loss, self.every, self.weight, self.lr)
        check_phase_optimizer(self.name, self.every, self.betas, self.optimizer, self.lazy_correction)
        object.__setattr__(self, "nets", _Networks(self.nets))  # a Phase is frozen
        object.__setattr__(self, "betas", None if self.betas is None else tuple(map(float, self.betas)))

    @property
    def rates(self) -> list[float | None]:
        """The learning rate of each network; None: --lr."""
        assert isinstance(self.nets, _Networks)
        own = [[rate for other, rate in self.nets.rated if other is net] for net in self.nets]
        return [rates[0] if rates else self.lr for rates in own]


class _Networks(list[nn.Module]):
    """The networks of a phase, to which others may be added; `rated` are those with a learning rate of their own."""

    rated: list[tuple[nn.Module, float]]

    def __init__(self, entries: Any):
        super().__init__(entry[0] if isinstance(entry, tuple) else entry for entry in entries)
        known = entries.rated if isinstance(entries, _Networks) else []  # dataclasses.replace copies a phase so
        self.rated = known + [entry for entry in entries if isinstance(entry, tuple)]


class BaseModel(nn.Module):
    """A GAN. Subclasses define __init__(o, spec), phases, forward and the losses; docs/design.md has the contract."""

    dataset_mode: ClassVar[str | None] = None  # the default of --dataset_mode
    defaults: ClassVar[dict[str, Any]] = {}  # defaults for flags that are declared elsewhere
    defaults_for: ClassVar[dict[str, dict[Any, dict[str, Any]]]] = {}  # {flag: {value: defaults that go with it}}
    averaged: ClassVar[tuple[str, ...]] = ()  # the networks that generate images: test.py needs only these; see --ema
    pairs: ClassVar[tuple[tuple[str, str], ...]] = ()  # (generated, real) in forward's output: what added terms compare

    class Options:
        """Flags of this model; subclasses make this a dataclass of option() fields."""

    def phases(self) -> list[Phase]:
        """Return the optimiser steps of one training step, in order; [] for a model that cannot be trained."""
        return []

    # def after_step(self, now): optional; called once after each training step, without gradients. A method that
    # declares a parameter `now` (forward, a loss) is given a Now; forward(self, batch, now) for example.

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the outputs for one batch: images (N, C, H, W) in [-1, 1] to show, and values that the losses need."""
        raise missing_method_error(self, "forward(self, batch)")

    def show(self, out: dict[str, Any]) -> Images:
        """Return the images of `out` to display: every 4-D tensor of 1 or 3 channels, in order."""
        return {k: v for k, v in out.items() if isinstance(v, Tensor) and v.dim() == 4 and v.shape[1] in (1, 3)}

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks by name: all children with parameters."""
        return {name: net for name, net in self.named_children() if any(True for _ in net.parameters())}
