"""Terms that are added to the phases of generators, for the pairs of images that a model names in `pairs`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from networks.frozen import Frozen, without
from networks.predictions import scales
from networks.runtime.eager import eager
from networks.toolbox.perceptual import lpips_of, perceptual_of
from networks.toolbox.settings import channels_of, tool
from registry.lookup import find
from util.errors import OptionError
from util.seeding import generator_states, restore_generators

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
               nn.Tanh, nn.ReLU6, nn.Hardswish)  # fmt: skip
DISTANCES = {"perceptual": perceptual_of, "lpips": lpips_of}
OWN_FLAGS = (*DISTANCES, "tv")  # terms whose weight is --lambda_NAME
WEIGHTED = nn.modules.conv._ConvNd, nn.Linear
Call = tuple[nn.Module, tuple, dict[str, Any]]  # a discriminator and the arguments that it was called with


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
    phase_of: dict[str, str] = field(default_factory=dict)  # {generated image: the first phase that trains its network}

    @classmethod
    def from_options(cls, model: Any, o: Any, roles: Any) -> "ExtraTerms | None":
        """Return the terms that the flags ask for, None without; raise OptionError for a model without pairs."""
        weights = _weights(o)
        lambda_feat = tool(o, "lambda_feat", 0.0)
        if not weights and not lambda_feat:
            return None
        flag = "--lambda_feat" if lambda_feat else _flag_of(next(iter(weights)))
        pairs = tuple(getattr(model, "pairs", ()))
        if not pairs or not roles.generator_phases:
            why = f"reaches nothing in {type(model).__name__}: it names no pairs of generated and real image"
            raise OptionError("option", flag, why, 'omit it, or write pairs = (("fake_B", "real_B"),) in the model')
        if lambda_feat and not roles.discriminators:
            why = f"reaches nothing in {type(model).__name__}: it has no discriminator"
            raise OptionError("option", "--lambda_feat", why, "omit it")
        like = next(p for net in roles.generators for p in net.parameters())
        pairwise = {name: (weight, _function(name, o, like)) for name, weight in weights.items()}
        return cls(pairs, pairwise, lambda_feat, roles.discriminators, roles.generator_phases)

    @property
    def flags(self) -> set[str]:
        """The flags that are on."""
        return {_flag_of(name) for name in self.pairwise} | ({"--lambda_feat"} if self.lambda_feat else set())

    def extend(self, phase: Any, loss: Callable[..., Any], batch: Any, out: Any, **now: Any) -> Any:
        """Return the terms of a phase's loss, and the added ones if it trains what makes the images."""
        calls: list[Call] = []
        hooks = [D.register_forward_pre_hook(partial(_record, calls), with_kwargs=True, prepend=True)
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
            self.seen |= {_flag_of(name)} if own else set()
            added[name] = [weight * function(fake, real.detach()) for fake, real in own]
        if self.lambda_feat:
            matched = [call for pair in own for call in _matched_calls(calls, *pair)]
            self.seen |= {"--lambda_feat"} if matched else set()
            added["feat"] = [self.lambda_feat * _feature_distance(*call) for call in matched]
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


def _record(calls: list[Call], D: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    calls.append((D, args, kwargs))


def _matched_calls(calls: list[Call], fake: Tensor, real: Tensor) -> list[tuple[nn.Module, Any, Any]]:
    """Return (D, its arguments, the same with `real` in place of `fake`) for the calls that judge `fake`.

    The generated image is an argument itself, or a part of the channels of one: the first ones or the last ones.
    """
    found = []
    for D, args, kwargs in calls:
        values = [*args, *kwargs.values()]
        others = [_exchanged(value, fake, real, channels_of(D)) for value in values]
        if any(other is not value for other, value in zip(others, values, strict=True)):
            words, n = list(kwargs), len(args)
            others_by_word = dict(zip(words, others[n:], strict=True))
            found.append((D, (args, kwargs), (tuple(others[:n]), others_by_word)))
    return found


def _exchanged(value: Any, fake: Tensor, real: Tensor, channels: tuple[int, ...]) -> Any:
    if value is fake:
        return real.detach()
    parts = [node for node, _ in getattr(getattr(value, "grad_fn", None), "next_functions", ())]
    n = fake.shape[1]
    joined = isinstance(value, Tensor) and fake.grad_fn is not None and fake.grad_fn in parts
    if not joined or value.shape[0] != fake.shape[0] or value.shape[2:] != fake.shape[2:] or value.shape[1] <= n:
        return value
    is_first = parts[0] is fake.grad_fn and parts[-1] is not fake.grad_fn
    rest = value[:, n:] if is_first else value[:, :-n]
    return torch.cat([real, rest] if is_first else [rest, real], 1).detach()


def _feature_distance(D: nn.Module, fake: Any, real: Any) -> Tensor:
    """Return the sum over layers of the mean absolute differences of D's features (Wang et al. 2018, eq. 3).

    Scales are averaged, as GANLoss does. Augmentations and dropout of D draw the same numbers for both images.
    """
    with without(D):  # whatever phase this is, D does not learn from it
        before = generator_states()
        own, n_scales = _features(D, *fake)
        restore_generators(before)
        with torch.no_grad():
            wanted, _ = _features(D, *real)
    gaps = [(f - r).abs().mean() for f, r in zip(own, wanted, strict=True)]
    return torch.stack(gaps).sum() / n_scales


def _features(D: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[list[Tensor], int]:
    """Return the outputs of D's activations in the order of their calls, and how many scales it judges.

    Of a network without layers for activations, those of all convolutions and linear layers but the last.
    """
    kept: list[Tensor] = []
    layers: list[nn.Module] = [part for part in D.modules() if isinstance(part, ACTIVATIONS)]
    last = not layers
    layers = layers or [part for part in D.modules() if isinstance(part, WEIGHTED)]

    def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with eager():
            judged = D(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    found = kept[:-1] if last else kept
    if not found:
        why = f"{type(D).__name__} has no layers whose features could be compared"
        raise OptionError("option", "--lambda_feat", why, "omit it, or use --netD basic or multiscale")
    return found, len(scales(judged))


def _weights(o: Any) -> dict[str, float]:
    """Return {name: weight} of the pairwise terms; raise OptionError for text that is no NAME:WEIGHT."""
    own = {name: tool(o, f"lambda_{name}", 0.0) for name in OWN_FLAGS}
    found = {name: weight for name, weight in own.items() if weight}
    for text in ",".join(tool(o, "terms", ())).split(","):
        name, colon, number = (word.strip() for word in text.partition(":"))
        if not text.strip():
            continue
        try:
            weight = float(number)
        except ValueError:
            weight = float("nan")
        if not colon or not 0 <= weight < float("inf"):
            remedy = "write NAME:WEIGHT, such as tv:0.1, comma-separated"
            raise OptionError("option", "--terms", f"'{text}' is no name and weight", remedy)
        if name in found:
            raise OptionError("option", "--terms", f"{name} is given twice", "give one weight")
        if weight:
            found[name] = weight
    return found


def _flag_of(name: str) -> str:
    return f"--lambda_{name}" if name in OWN_FLAGS else f"--terms {name}"


def _function(name: str, o: Any, like: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    if name not in DISTANCES:
        return find("term", name)
    return Frozen(DISTANCES[name](o)).to(like.device, like.dtype)
