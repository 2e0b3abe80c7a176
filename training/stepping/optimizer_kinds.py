"""Build optimisers by name or function, and check a saved state against what the optimiser keeps of its parameters."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from registry import contract, loaded
from registry.lookup import entry
from training.stepping.lean_optimizers import lean

FUSED_DEVICES = ("cpu", "cuda", "mps")  # devices with fused kernels in PyTorch
DEFAULT = "adam"  # the optimiser of states that do not name theirs

Groups = list[dict[str, Any]]  # parameter groups, each with params, lr and, if the optimiser takes them, betas
Betas = tuple[float, float]


def adam(params: Groups, lr: float, betas: Betas) -> Optimizer:
    """Return Adam (Kingma & Ba 2015)."""
    return lean(torch.optim.Adam)(params, lr=lr, betas=betas, fused=_has_fused_kernel(params))


def adamw(params: Groups, lr: float, betas: Betas) -> Optimizer:
    """Return Adam with decoupled weight decay of 0.01 (Loshchilov & Hutter 2019)."""
    return lean(torch.optim.AdamW)(params, lr=lr, betas=betas, fused=_has_fused_kernel(params))


def rmsprop(params: Groups, lr: float, betas: Betas) -> Optimizer:
    """Return RMSprop (Tieleman & Hinton 2012) without momentum; beta2 is its decay of squared gradients."""
    return lean(torch.optim.RMSprop)([group | {"alpha": group["betas"][1]} for group in params], lr=lr)


def sgd(params: Groups, lr: float, betas: Betas) -> Optimizer:
    """Return stochastic gradient descent with momentum beta1; beta2 is not used."""
    momenta = [group | {"momentum": group["betas"][0]} for group in params]
    return lean(torch.optim.SGD)(momenta, lr=lr, fused=_has_fused_kernel(params))


def radam(params: Groups, lr: float, betas: Betas) -> Optimizer:
    """Return Adam with a rectified adaptive rate (Liu et al. 2020)."""
    return lean(torch.optim.RAdam)(params, lr=lr, betas=betas)


def adafactor(params: Groups, lr: float) -> Optimizer:
    """Return Adafactor (Shazeer & Stern 2018), which has no betas and keeps rows and columns of second moments."""
    return lean(torch.optim.Adafactor)(params, lr=lr)


def _has_fused_kernel(groups: Groups) -> bool:
    return all(p.device.type in FUSED_DEVICES for group in groups for p in group["params"])


BETA_FLAGS: dict[Any, set[str]] = {rmsprop: {"beta2"}, sgd: {"beta1"}}  # others that declare betas use both


@dataclass(frozen=True)
class OptimizerKind:
    """An optimiser by name: `build` makes one for parameter groups."""

    name: str
    function: Callable[..., Optimizer]
    origin: str  # the file that names it

    @classmethod
    def find(cls, wanted: str | Callable[..., Optimizer], flag: str = "") -> "OptimizerKind":
        """Return the optimiser of a name or function; raise OptionError for an unknown name, which is the flag's."""
        if isinstance(wanted, str):
            found = entry("optimizer", wanted, flag)
            return cls(found.name, found.load(), found.origin)
        named = wanted
        while isinstance(named, partial):
            named = named.func
        origin = loaded.plugin_of_module(named.__module__) or named.__module__
        name = getattr(named, "__qualname__", type(named).__qualname__)
        return cls(name, contract.check_part("optimizer", wanted, name, origin), origin)

    def is_named(self, name: str) -> bool:
        """Return whether a saved state names this optimiser; a partial function was once named "partial"."""
        return name == self.name or (name == "partial" and isinstance(self.function, partial))

    @property
    def beta_flags(self) -> set[str]:
        """Return which of beta1 and beta2 the optimiser uses."""
        declares = "betas" in inspect.signature(self.function).parameters
        return BETA_FLAGS.get(self.function, {"beta1", "beta2"}) if declares else set()

    def build(self, groups: Groups, lr: float) -> Optimizer:
        """Return an optimiser of parameter groups, each with its lr and betas; it keeps their further entries.

        Raise OptionError if the function returns something else.
        """
        if self.beta_flags:
            made = self.function(groups, lr, betas=groups[0]["betas"])
        else:  # its own betas count
            made = self.function([{k: v for k, v in group.items() if k != "betas"} for group in groups], lr)
        contract.check_optimizer(made, self.name, self.origin)
        for group in made.param_groups:
            group["optimizer"] = self.name
        return made

    def check_state(self, optimizer: Optimizer) -> None:
        """Raise ValueError for a state of wrong keys or shapes, because torch loads them unchecked.

        Each state is compared with that of a new optimiser after a step on zeros of the parameter's shape. A state is
        empty for a parameter that no step has updated yet.
        """
        expected: dict[Any, dict[str, Any]] = {}  # by shape and dtype
        for group in optimizer.param_groups:
            for p in group["params"]:
                kept = optimizer.state.get(p, {})
                key = p.shape, p.dtype
                if kept and key not in expected:
                    expected[key] = self._state_after_step(p, group)
                if kept:
                    _compare_state(kept, expected[key])

    def _state_after_step(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        twin = torch.zeros_like(p, requires_grad=True)
        twin.grad = torch.zeros_like(p)
        settings = {"lr": group["base_lr"], "betas": group.get("betas", (0.0, 0.0))}
        optimizer = self.build([settings | {"params": [twin]}], group["base_lr"])
        optimizer.step()
        return optimizer.state.get(twin, {})


def _compare_state(kept: dict[str, Any], expected: dict[str, Any]) -> None:
    wanted = {name: value.shape for name, value in expected.items() if isinstance(value, Tensor)}
    if missing := wanted.keys() - kept.keys():
        raise ValueError(f"an optimiser lacks the {', '.join(sorted(missing))} of a parameter")
    if any(getattr(kept[name], "shape", None) != shape for name, shape in wanted.items()):
        raise ValueError("an optimiser's moments do not have the shapes of its parameters")
