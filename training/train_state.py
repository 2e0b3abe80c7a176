"""What a training step works on: the model, its phases and their optimisers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from training.optim import Optimizers, trainable_parameters

TrainStep = Callable[["TrainState", dict[str, Any], int], tuple[Any, dict[str, dict[str, Any]]]]  # see train.py


@dataclass
class TrainState:
    """A model, its phases and their optimisers, and how a step treats a batch and its losses.

    micro_batches: the number of parts in which a batch is processed (--accumulate). check_losses(terms, batch) returns
    whether an optimiser may step on the losses of a phase; if not, the step ends. It may also roll the weights back or
    raise Diverged (see NanGuard).
    """

    model: Any
    phases: list[Any]
    optimizers: Optimizers
    micro_batches: int = 1
    check_losses: Callable[[dict[str, Any], dict[str, Any]], bool] = lambda terms, batch: True

    def __post_init__(self) -> None:
        own = {phase.name: {id(p): p for net in phase.nets for p in trainable_parameters(net)} for phase in self.phases}
        trained = {key: p for params in own.values() for key, p in params.items()}
        self._others = {  # for each phase the parameters that only other phases train
            name: [p for key, p in trained.items() if key not in params] for name, params in own.items()
        }

    @classmethod
    def from_options(cls, model: Any, o: Any) -> "TrainState":
        """Return the state of a new run; raise OptionError if two phases have the same name."""
        phases = model.phases()
        return cls(model, phases, Optimizers(phases, o), o.accumulate)

    def due_phases(self, step: int) -> list[Any]:
        """Return the phases that run at this step (from 0), in order."""
        return [phase for phase in self.phases if step % phase.every == 0]

    @contextmanager
    def only_trainable(self, phase: Any) -> Iterator[None]:
        """Inside the block, of all networks in phases only this phase's require gradients: its loss reaches no other.

        Parameters that a plug-in froze itself stay frozen.
        """
        others = [p for p in self._others[phase.name] if p.requires_grad]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)
