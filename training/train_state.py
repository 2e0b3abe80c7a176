"""What a training step works on: the model, its phases and their optimisers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from networks.toolbox.apply_tools import Toolbox
from networks.toolbox.network_roles import Roles
from networks.toolbox.spectral_norm import normalised
from registry.attribution import error_context
from registry.training_position import Now
from training.distributed.gradients import GradientAverage
from training.ema import Ema
from training.extra_terms import ExtraTerms
from training.graphs.step_graphs import StepGraphs
from training.phase_optimizers import Optimizers, trainable_parameters

TrainStep = Callable[["TrainState", dict[str, Any], Now], tuple[Any, dict[str, dict[str, Any]]]]  # see train.py


@dataclass
class TrainState:
    """A model, its phases, their optimisers and the average of weights, and how a step treats a batch and its losses.

    micro_batches: the number of parts in which a batch is processed (--accumulate). check_losses(terms, batch) returns
    whether an optimiser may step on the losses of a phase; if not, the step ends. It may also roll the weights back or
    raise Diverged (see NanGuard).
    """

    model: Any
    phases: list[Any]
    optimizers: Optimizers
    micro_batches: int = 1
    check_losses: Callable[[dict[str, Any], dict[str, Any]], bool] = lambda terms, batch: True
    ema: Ema = field(default_factory=Ema)
    tools: Toolbox = field(default_factory=Toolbox)
    average_gradients: GradientAverage = field(default_factory=GradientAverage)  # and losses, over processes
    graphs: StepGraphs = field(default_factory=StepGraphs)  # --cuda_graphs

    def __post_init__(self) -> None:
        own = {phase.name: {id(p): p for net in phase.nets for p in trainable_parameters(net)} for phase in self.phases}
        trained = {key: p for params in own.values() for key, p in params.items()}
        self._others = {  # for each phase the parameters that only other phases train
            name: [p for key, p in trained.items() if key not in params] for name, params in own.items()
        }

    @classmethod
    def from_options(cls, model: Any, o: Any) -> "TrainState":
        """Return the state of a new run; raise OptionError for two phases of one name, or a tool without effect.

        The toolbox changes the model's networks, though not the keys of their states.
        """
        roles = Roles(model, model.phases())
        tools = Toolbox.from_options(model, roles, o, ExtraTerms.from_options(model, o, roles))
        optimizers = Optimizers(tools.phases, o, tools.discriminators)
        ema, graphs = Ema.from_options(model, o), StepGraphs.from_options(model, o)
        return cls(model, tools.phases, optimizers, o.accumulate, ema=ema, tools=tools, graphs=graphs)

    def now(self, step: int, epoch: int = 1, share: float = 0.0) -> Now:
        """Return what the model's methods are told at this step (from 0), with the phases that are due."""
        return Now(step, epoch, share, frozenset(phase.name for phase in self.phases if step % phase.every == 0))

    def due_phases(self, now: Now) -> list[Any]:
        """Return the phases that run at this step, in order."""
        return [phase for phase in self.phases if phase.name in now.due]

    def end_step(self, now: Now) -> None:
        """Call the model's after_step(now), if it has one, without gradients; end the step of tools, rates, --ema."""
        if hasattr(self.model, "after_step"):
            with torch.no_grad(), error_context("after_step", self.model):
                self.model.after_step(now)
        self.tools.end_step(now)
        self.optimizers.warm_up(now.step + 1)
        self.ema.update(now.step)

    @contextmanager
    def only_trainable(self, phase: Any) -> Iterator[None]:
        """Inside the block, of all networks in phases only this phase's require gradients: its loss reaches no other.

        Parameters that a plug-in froze itself stay frozen.
        """
        others = [p for p in self._others[phase.name] if p.requires_grad]
        for p in others:
            p.requires_grad_(False)
        try:
            with self.tools.during(phase):
                yield
        finally:
            for p in others:
                p.requires_grad_(True)

    @contextmanager
    def exportable(self) -> Iterator[None]:
        """Inside the block, the networks have the weights to export: averages, with spectral norms applied."""
        with self.ema.applied(), normalised(self.model):
            yield
