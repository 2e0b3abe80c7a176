"""Equip a model with the toolbox: what its flags ask for, in any model, or an error if a flag reaches nothing."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

from torch import nn

from networks.gan_loss import GANLoss
from networks.toolbox import spectral_norm
from networks.toolbox.attention import has_attention
from networks.toolbox.input_augment import ADA_INTERVAL, adapt, augment_inputs, augmentation_of
from networks.toolbox.minibatch_std import add_minibatch_std
from networks.toolbox.network_roles import Roles
from networks.toolbox.noise_input import noise_channels
from networks.toolbox.settings import tool
from registry.contract import plugin_name
from registry.training_position import Now
from util.errors import OptionError

NO_D = "it has no phase that trains a discriminator alone"
NO_PAIRS = "its forward returns none of its pairs with a gradient"
IDLE = {
    "--lambda_lecam": "no phase of its discriminators judges by GANLoss",
    "--ada": "no phase of its discriminators judges real images by GANLoss, or they are not given images",
    "--diffaugment": "its discriminators are never called with images",
    "--lambda_feat": "its phases of generators show no generated image of its pairs to a discriminator",
}
BUILDERS = {"D": "discriminator", "G": "generator"}
NO_G = "it names no networks as averaged"


@dataclass(frozen=True)
class _Check:
    """A flag, the phases in which it must work on something, and whether it has."""

    flag: str
    phases: set[str]
    worked: Callable[[], bool]


@dataclass
class Toolbox:
    """What a run uses of the toolbox; nothing by default. `phases` are the model's, with the changes of the flags."""

    phases: list[Any] = field(default_factory=list)
    discriminators: list[nn.Module] = field(default_factory=list)
    losses: list[GANLoss] = field(default_factory=list)  # those that watch predictions
    judging: set[str] = field(default_factory=set)  # names of the phases that train discriminators
    terms: Any = None  # the ExtraTerms of training/extra_terms.py
    ada: tuple[float, float] | None = None  # r_t to be kept, images
    unseen: list[_Check] = field(default_factory=list)  # the flags that have not yet worked on anything
    ran: set[str] = field(default_factory=set)  # names of the phases that had something to do
    who: str = ""  # the model, for messages
    no_D: str = NO_D  # why no discriminator is known

    @classmethod
    def from_options(cls, model: Any, roles: Roles, o: Any, terms: Any = None) -> "Toolbox":
        """Equip a model's networks and losses in place; raise OptionError for a flag that can reach nothing in it."""
        phases = roles.phases
        self = cls(phases, roles.discriminators, terms=terms, who=plugin_name(model))
        self.no_D = NO_D if roles.generators else NO_G
        self.judging = {phase.name for phase in phases if roles.trains_discriminators(phase)}
        self._slow_generators(tool(o, "n_critic", 1), roles)
        self._compare_samples(o, getattr(model, "judges_one_batch", False))
        self._normalise(tool(o, "spectral_norm", "none"), roles)
        if tool(o, "noise_nc", 0) and not any(map(noise_channels, roles.generators)):
            raise self._error("noise_nc", "none of its generators is built by generator()")
        for letter, nets in (("D", roles.discriminators), ("G", roles.generators)):
            if letter in tool(o, "attention", "none") and not any(map(has_attention, nets)):
                raise self._error("attention", f"none of its networks is built by {BUILDERS[letter]}()")
        self._watch_losses(model, o)
        self._augment(tool(o, "diffaugment", ()), o)
        if tool(o, "lr_D", None) is not None and not roles.discriminators:
            raise self._error("lr_D", self.no_D)
        if self.terms is not None:
            names = {phase.name for phase in roles.generator_phases}
            self.unseen += [
                _Check(flag, names, partial(self.terms.seen.__contains__, flag)) for flag in self.terms.flags
            ]
        if self.unseen:
            self.phases = [_changed(phase, loss=self._loss(phase, roles)) for phase in self.phases]
        return self

    def _slow_generators(self, n_critic: int, roles: Roles) -> None:
        if n_critic == 1:
            return
        if not (roles.discriminators and roles.generator_phases):
            raise self._error("n_critic", self.no_D if roles.generator_phases else NO_G)
        slow = {phase.name for phase in roles.generator_phases}
        if (most := min(phase.every for phase in roles.generator_phases)) > 1:
            why = f"{self.who} trains its generators once in {most} steps already"
            raise OptionError("option", "--n_critic", why, "omit it, or the flag that says so")
        self.phases = [_changed(p, every=p.every * n_critic) if p.name in slow else p for p in self.phases]

    def _compare_samples(self, o: Any, in_one_batch: bool) -> None:
        if not tool(o, "minibatch_std", False):
            return
        if not self.discriminators:
            raise self._error("minibatch_std", self.no_D)
        if o.batch_size // o.accumulate < 2:
            why = f"compares samples, and --batch_size {o.batch_size} with --accumulate {o.accumulate} computes one"
            raise OptionError("option", "--minibatch_std", why, "use a larger --batch_size")
        for net in self.discriminators:
            if not add_minibatch_std(net, in_one_batch):
                why = f"{type(net).__name__} has no layer that makes predictions, one channel, without a spectral norm"
                raise self._error("minibatch_std", why)

    def _normalise(self, which: str, roles: Roles) -> None:
        for letter, nets in (("D", roles.discriminators), ("G", roles.generators)):
            if letter in which.upper() and which != "none":
                if not nets:
                    raise self._error("spectral_norm", self.no_D if letter == "D" else NO_G)
                for net in nets:
                    if not spectral_norm.add_spectral_norm(net) and not any(spectral_norm.norms(net)):
                        why = f"{type(net).__name__} has no layers without one"
                        raise self._error("spectral_norm", why)

    def _watch_losses(self, model: Any, o: Any) -> None:
        lecam, ada = tool(o, "lambda_lecam", 0.0), tool(o, "ada", False)
        if not (lecam or ada):
            return
        self.losses = [part for part in model.modules() if isinstance(part, GANLoss)] if self.discriminators else []
        if not self.losses:
            raise self._error("ada" if ada else "lambda_lecam", "it judges no discriminator by GANLoss")
        for gan in self.losses:
            boundary = getattr(gan.objective, "boundary", 0.0)
            if ada and boundary is None:
                why = f"the sign of a prediction says nothing with --gan_mode {gan.gan_mode}"
                raise OptionError("option", "--ada", why, "use another --gan_mode, such as vanilla or hinge")
            gan.judgements.lambda_lecam, gan.judgements.counts_signs = lecam, ada
            gan.judgements.boundary = boundary
        for flag, is_on in (("lambda_lecam", lecam), ("ada", ada)):
            self.unseen += [_Check("--" + flag, self.judging, partial(self._is_judged, flag))] if is_on else []

    def _is_judged(self, flag: str) -> bool:
        return any(flag in gan.judgements.seen for gan in self.losses)

    def _augment(self, names: tuple[str, ...], o: Any) -> None:
        adaptive = tool(o, "ada", False)
        if not (names or adaptive):
            return
        if not self.discriminators:
            raise self._error("diffaugment" if names else "ada", self.no_D)
        hooks = [augmentation_of(net) or augment_inputs(net, names, adaptive) for net in self.discriminators]
        flag = "--diffaugment" if names else "--ada"
        self.unseen.append(_Check(flag, self.judging, lambda: any(hook.was_called for hook in hooks)))
        if adaptive:
            self.ada = tool(o, "ada_target", 0.6), 1000 * tool(o, "ada_kimg", 500.0)

    def _loss(self, phase: Any, roles: Roles) -> Callable[..., Any]:
        """Return a phase's loss with the added terms, which also notes that the phase had something to do."""
        trains_generators = phase.name in {p.name for p in roles.generator_phases}

        @wraps(phase.loss)
        def loss(batch: Any, out: Any, **now: Any) -> Any:
            if self.terms is not None and trains_generators:
                terms = self.terms.extend(phase, phase.loss, batch, out, **now)
            else:
                terms = phase.loss(batch, out, **now)
            self.ran |= {phase.name} if terms else set()
            return terms

        return loss

    @contextmanager
    def during(self, phase: Any) -> Iterator[None]:
        """Inside the block, which is a phase, predictions are watched if it trains a discriminator."""
        for gan in self.losses:
            gan.judgements.watching = phase.name in self.judging
        yield

    def end_step(self, now: Now) -> None:
        """Update LeCam's averages and ADA's probability; raise OptionError once if a flag reached nothing."""
        for gan in self.losses:
            gan.judgements.end_step()
        if self.ada and (now.step + 1) % ADA_INTERVAL == 0:
            signs = [found for gan in self.losses if (found := gan.judgements.take_signs()) is not None]
            if signs:
                adapt(self.discriminators, sum(signs[1:], signs[0]), *self.ada)
        self.unseen = [check for check in self.unseen if not check.worked()]
        for check in self.unseen:
            if check.phases & self.ran if check.phases == self.judging else check.phases <= self.ran:
                raise self._error(check.flag.removeprefix("--"), IDLE.get(check.flag, NO_PAIRS))

    def _error(self, flag: str, why: str) -> OptionError:
        return OptionError("option", f"--{flag}", f"reaches nothing in {self.who}: {why}", "omit it")


def _changed(phase: Any, **values: Any) -> Any:
    """Return a copy of a phase with other values."""
    changed = copy.copy(phase)
    for name, value in values.items():
        object.__setattr__(changed, name, value)  # a Phase is frozen
    return changed
