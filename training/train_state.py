"""What a training step works on: the model, its phases and their optimisers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from training.optim import Optimizers, trainable_parameters

TrainStep = Callable[["TrainState", dict[str, Any], int], tuple[Any, dict[str, dict[str, Any]]]]  # see train.py


def _accept_all(terms: dict[str, Any], batch: dict[str, Any]) -> bool:
    return True


@dataclass
class TrainState:
    """A model, its phases and their optimisers, and how a step treats a batch and its losses.

    micro_batches: the number of parts in which a batch is processed (--accumulate). accepts(terms, batch): whether an
    optimiser may step on these losses; if not, the step ends.
    """

    model: Any
    phases: list[Any]
    optimizers: Optimizers
    micro_batches: int = 1
    accepts: Callable[[dict[str, Any], dict[str, Any]], bool] = _accept_all

    def __post_init__(self) -> None:
        own = {phase.name: [p for net in phase.nets for p in trainable_parameters(net)] for phase in self.phases}
        every = {id(p): p for params in own.values() for p in params}
        self._others = {  # for each phase the parameters that only other phases train
            name: [p for number, p in every.items() if number not in set(map(id, params))]
            for name, params in own.items()
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
        """Inside the block, only this phase's networks require gradients, so that its loss cannot reach others.

        Parameters that a plug-in froze itself stay frozen.
        """
        others = self._others[phase.name]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)
