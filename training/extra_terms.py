"""Terms that are added to the phases of generators, for the pairs of images that a model names in `pairs`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from networks.frozen import Frozen
from networks.toolbox.feature_matching import Call, feature_distance, matched_calls, record
from networks.toolbox.perceptual import lpips_of, perceptual_of
from networks.toolbox.settings import tool
from options.toolbox import term_weights
from registry import loaded
from registry.lookup import find
from util.errors import OptionError

DISTANCES: dict[str, Callable[[Any], Any]] = {"perceptual": perceptual_of, "lpips": lpips_of}
OWN_FLAGS = (*DISTANCES, "tv")  # terms whose weight is --lambda_NAME


def total_variation(fake: Tensor, real: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours, along both sides added up (Rudin et al. 1992, anisotropic)."""
    return fake.diff(dim=2).abs().mean() + fake.diff(dim=3).abs().mean()


@dataclass
class ExtraTerms:
    """The added terms of a run: `pairwise` {flag or name: (weight, function of (fake, real))}, and feature matching.

    judges: the discriminators. seen: the flags that had something to work on.
    """

    pairs: tuple[tuple[str, str], ...]
    pairwise: dict[str, tuple[float, Callable[[Tensor, Tensor], Tensor]]]
    lambda_feat: float = 0.0
    judges: list[nn.Module] = field(default_factory=list)
    phases: list[Any] = field(default_factory=list)  # those of generators
    seen: set[str] = field(default_factory=set)
    named: frozenset[str] = frozenset()  # the terms that --terms asks for
    phase_of: dict[str, str] = field(default_factory=dict)  # {generated image: the first phase that trains its network}

    @classmethod
    def from_options(cls, model: Any, o: Any, roles: Any) -> "ExtraTerms | None":
        """Return the terms that the flags ask for, None without; raise OptionError for a model without pairs."""
        weights = _weights(o)
        lambda_feat = tool(o, "lambda_feat", 0.0)
        if not weights and not lambda_feat:
            return None
        named = frozenset(name for name in weights if not tool(o, f"lambda_{name}", 0.0))
        flag = "--lambda_feat" if lambda_feat else _flag_of(next(iter(weights)), named)
        pairs = tuple(getattr(model, "pairs", ()))
        if not pairs or not roles.generator_phases:
            why = f"reaches nothing in {type(model).__name__}: it names no pairs of generated and real image"
            own = loaded.plugin_of_module(type(model).__module__)  # only its author can change a model
            remedy = 'omit it, or write pairs = (("fake_B", "real_B"),) in the model' if own else "omit it"
            raise OptionError("option", flag, why, remedy)
        if lambda_feat and not roles.discriminators:
            why = f"reaches nothing in {type(model).__name__}: it has no discriminator"
            raise OptionError("option", "--lambda_feat", why, "omit it")
        like = next(p for net in roles.generators for p in net.parameters())
        pairwise = {name: (weight, _function(name, o, like)) for name, weight in weights.items()}
        return cls(pairs, pairwise, lambda_feat, roles.discriminators, roles.generator_phases, named=named)

    @property
    def flags(self) -> set[str]:
        """The flags that are on."""
        return {_flag_of(name, self.named) for name in self.pairwise} | (
            {"--lambda_feat"} if self.lambda_feat else set()
        )

    def extend(self, phase: Any, loss: Callable[..., Any], batch: Any, out: Any, **now: Any) -> Any:
        """Return the terms of a phase's loss, and the added ones if it trains what makes the images."""
        calls: list[Call] = []
        hooks = [D.register_forward_pre_hook(partial(record, calls), with_kwargs=True, prepend=True)
                 for D in (self.judges if self.lambda_feat else ())]  # fmt: skip
        try:
            terms = loss(batch, out, **now)
        finally:
            for hook in hooks:
                hook.remove()
        if not terms:
            return terms
        own = [(out[fake], out[real]) for fake, real in self.pairs if self._is_trained(phase, out, fake, real)]
        added: dict[str, list[Tensor]] = {}
        for name, (weight, function) in self.pairwise.items():
            self.seen |= {_flag_of(name, self.named)} if own else set()
            added[name] = [weight * function(fake, real.detach()) for fake, real in own]
        if self.lambda_feat:
            matched = [call for pair in own for call in matched_calls(calls, *pair)]
            self.seen |= {"--lambda_feat"} if matched else set()
            added["feat"] = [self.lambda_feat * feature_distance(*call) for call in matched]
        return terms | {f"{phase.name}_{name}": sum(values[1:], values[0]) for name, values in added.items() if values}

    def _is_trained(self, phase: Any, out: Any, fake: str, real: str) -> bool:
        """Return whether a pair is there, and the phase trains a network that its generated image depends on."""
        present = all(isinstance(out.get(name), Tensor) for name in (fake, real))
        if not present or not out[fake].requires_grad:
            return False
        if fake not in self.phase_of and len(self.phases) > 1:
            own = [p for net in phase.nets for p in net.parameters() if p.requires_grad]
            slopes = torch.autograd.grad(out[fake].sum(), own, retain_graph=True, allow_unused=True)
            if all(slope is None for slope in slopes):
                return False
        return self.phase_of.setdefault(fake, phase.name) == phase.name


def _weights(o: Any) -> dict[str, float]:
    """Return {name: weight} of the pairwise terms; raise OptionError for text that is no NAME:WEIGHT."""
    own = {name: tool(o, f"lambda_{name}", 0.0) for name in OWN_FLAGS}
    found = {name: weight for name, weight in own.items() if weight}
    for name, weight in term_weights(tool(o, "terms", ())).items():
        if name in found:
            raise OptionError("option", "--terms", f"--lambda_{name} gives {name} a weight too", "omit one of them")
        found |= {name: weight} if weight else {}
    return found


def _flag_of(name: str, named: frozenset[str]) -> str:
    return f"--terms {name}" if name in named else f"--lambda_{name}"


def _function(name: str, o: Any, like: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    if name not in DISTANCES:
        term = find("term", name)
        return term(like.device) if isinstance(term, type) else term
    return Frozen(DISTANCES[name](o)).to(like.device, like.dtype)
