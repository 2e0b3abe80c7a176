"""Keep an exponential moving average of the networks that generate images (--ema, --ema_rampup)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from serialization import mismatch

INITIAL_SHARE = 0.05  # of the initial weights in the average after the last step: a larger one is worth a note


class Ema:
    """The average of parameters after each step: average = d * average + (1 - d) * parameter.

    Its half-life is ln 0.5 / ln d steps for d = decay (--ema). With rampup (--ema_rampup) the half-life is at most that
    share of the images seen so far (Karras et al. 2020, StyleGAN2-ADA), which is the share of the steps done, because
    a batch counts the same in both. So early weights, the initial ones first, are forgotten as fast as training moves.

    Averages have at least 32 bits. Buffers are not averaged: they are those of the network after the step. Without
    parameters (--ema 0) nothing is kept and nothing happens.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter] | None = None, decay: float = 0.0, rampup: float = 0.0):
        self.parameters, self.decay, self.rampup = dict(parameters or {}), decay, rampup
        self.restart()

    @classmethod
    def from_options(cls, model: Any, o: Any) -> "Ema":
        """Return the average of the networks in model.averaged, of none without --ema."""
        networks = model.networks() if o.ema else {}
        ids = {id(p) for name in model.averaged if name in networks for p in networks[name].parameters()}
        averaged = {name: p for name, p in model.named_parameters() if id(p) in ids and _is_averageable(p)}
        return cls(averaged, o.ema, o.ema_rampup)

    def restart(self) -> None:
        """Start the average from the current weights."""
        self.is_new = True
        self.averages: dict[str, Tensor] = {
            name: p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True)
            for name, p in self.parameters.items()
        }

    def decay_at(self, step: int) -> float:
        """Return the decay of a step, counted from 0."""
        ramp = 0.5 ** (1 / max(self.rampup * step, 1e-8)) if self.rampup else 1.0
        return min(self.decay, ramp)

    def update(self, step: int) -> None:
        """Average the weights after a step, counted from 0."""
        if self.parameters:
            averages = list(self.averages.values())
            weights = [p.detach().to(average.dtype) for p, average in zip(self.parameters.values(), averages)]
            get_ema_multi_avg_fn(self.decay_at(step))(averages, weights, None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block, the networks have the averages as their weights."""
        trained = {name: p.data for name, p in self.parameters.items()}
        try:
            for name, p in self.parameters.items():
                p.data = self.averages[name].to(p.dtype)
            yield
        finally:
            for name, p in self.parameters.items():
                p.data = trained[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by the names of their parameters in the model; {} without --ema."""
        return dict(self.averages)

    def load_state_dict(self, saved: dict[str, Tensor]) -> list[str]:
        """Restore what state_dict returned; return a note if only the state or only the run has an average.

        Without one in the state, the average starts from the current weights. Raise ValueError for other parameters.
        """
        if not saved or not self.parameters:
            self.restart()
            if saved:
                return ["note: --ema is off: the saved average is dropped, and the weights themselves are exported"]
            return ["note: no average was saved: that of --ema starts from the current weights"] * bool(self.parameters)
        if differs := mismatch.first_difference(self.averages, saved):
            raise ValueError(f"the average of {differs}")
        for name, average in self.averages.items():
            average.copy_(saved[name])
        self.is_new = False
        return []

    def notes(self, names: tuple[str, ...], steps: int) -> list[str]:
        """Return notes on what the average of these networks is for; [] without --ema. steps: those to come."""
        if not self.parameters:
            return []
        half_life = f"half-life {math.log(0.5) / math.log(self.decay):.3g} steps"
        ramp = f", at most {self.rampup:g} of those done" if self.rampup else ""
        average = f"an average of {', '.join(names)} (--ema {self.decay:g}: {half_life}{ramp})"
        found = [f"{average} is exported as .pth, shown at the end of an epoch, and used by test.py"]
        if self.is_new and not self.rampup and steps > 0 and (share := self.decay**steps) > INITIAL_SHARE:
            why = f"after all {steps} steps {share:.0%} of the average are the weights that it starts from"
            found.append(f"note: {why}: give --ema_rampup 0.05, or lower --ema")
        return found


def _is_averageable(p: Tensor) -> bool:
    return p.is_floating_point() or p.is_complex()
