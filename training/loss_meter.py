"""Collect the losses of a run: the latest values and their means over the epoch."""

from typing import Any

from torch import Tensor, is_tensor

Losses = dict[str, dict[str, Tensor]]  # {phase: {term: scalar}}


class LossMeter:
    """Collects the loss terms of each step's phases; values stay on their device until they are read."""

    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.phase_of: dict[str, str] = {}
        self.no_gradient: dict[str, None] = {}  # terms that never had a gradient: they are logged, not minimised

    def add(self, losses: Losses) -> None:
        """Add one step; a phase that did not run keeps its latest values and its mean."""
        for phase, terms in losses.items():
            for name, value in terms.items():
                if is_tensor(value) and value.requires_grad:
                    self.no_gradient.pop(name, None)
                elif name not in self.latest:
                    self.no_gradient[name] = None
                value = value.detach() if is_tensor(value) else float(value)
                self.latest[name], self.phase_of[name] = value, phase
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def epoch_means(self) -> dict[str, float]:
        """Return the mean of every term since the last `clear`."""
        return {name: float(self.sums[name]) / self.counts[name] for name in self.sums}

    def phase_mean(self, phase: str) -> float:
        """Return the mean of the sum of one phase's terms that have a gradient."""
        own = {name: mean for name, mean in self.epoch_means().items() if self.phase_of[name] == phase}
        return sum(mean for name, mean in own.items() if name not in self.no_gradient)

    def clear(self) -> None:
        """Start a new epoch."""
        self.sums, self.counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Return the full state, for the state file."""
        return {name: dict(value) for name, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; raise KeyError or ValueError if part of it is missing.

        Runs that were saved without `no_gradient` keep counting all terms, so that their history has one meaning.
        """
        state = {"no_gradient": {}} | state
        vars(self).update({name: dict(state[name]) for name in vars(self)})
        if self.sums.keys() != self.counts.keys() or not self.sums.keys() <= self.latest.keys() == self.phase_of.keys():
            raise ValueError("its sums, counts and latest values do not name the same losses")
