"""Create the optimisers of a model's phases: one for each group of phases that share a network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import increment_version

from networks.toolbox.settings import tool
from training.stepping.optimizer_kinds import DEFAULT, OptimizerKind
from util.errors import OptionError

GIVEN_KEYS = {"base_lr", "betas", "name", "optimizer"}  # of a parameter group, which an optimiser only reads
FLAGS = ("lr", "beta1", "beta2", "optimizer")  # what a phase may replace


class Optimizers:
    """One optimiser (--optimizer, --beta1, --beta2, or what the phase says) for every phase, a group per network.

    `optimizers[phase.name]` is a phase's optimiser. Phases that share a network share an optimiser. judges: the
    discriminators, whose rate is --lr_D.
    Raise OptionError if two phases have the same name, or give one network different rates, betas or optimisers.
    """

    def __init__(self, phases: list[Any], o: Any, judges: Sequence[nn.Module] = ()):
        names = [phase.name for phase in phases]
        for name in names:
            if (count := names.count(name)) > 1:
                raise OptionError("phase", name, f"is the name of {count} phases of the model", "rename one")
        # Merge phases that share a network into one group.
        groups: list[list[Any]] = []
        for phase in phases:
            shared = [group for group in groups if _parameter_ids([phase]) & _parameter_ids(group)]
            groups = [g for g in groups if g not in shared] + [[p for g in shared for p in g] + [phase]]
        # Create one optimiser per group.
        self.distinct: dict[str, torch.optim.Optimizer] = {}  # by the name of its first phase
        self.kinds: dict[str, OptimizerKind] = {}  # likewise
        self.by_phase: dict[str, torch.optim.Optimizer] = {}
        self.flags: set[str] = set()  # the names of the flags that some network is trained with
        self.unused_betas: dict[str, str] = {}  # {phase that gives betas: name of its optimiser, which takes none}
        self.clip_grad, self.warmup, self.factor = tool(o, "clip_grad", 0.0), tool(o, "warmup", 0), 1.0
        rates = _UsualRates(o, judges)
        for group in groups:
            kind, name = _shared_kind(group, o.optimizer), group[0].name
            optimizer = kind.build(_parameter_groups(group, o, rates), o.lr)
            self.flags |= _flags_used(group, kind, rates)
            self.distinct[name], self.kinds[name] = optimizer, kind
            self.by_phase |= {phase.name: optimizer for phase in group}
            given = [phase.name for phase in group if phase.betas is not None and not kind.beta_flags]
            self.unused_betas |= dict.fromkeys(given, kind.name)
        if rates.lr_D is not None and judges and "lr_D" not in self.flags:
            why = "has no effect: each phase that trains a discriminator has its own rate"
            raise OptionError("option", "--lr_D", why, "omit it")
        device = next((p.device.type for group in self.param_groups() for p in group["params"]), "cpu")
        self.scaler = torch.amp.GradScaler(device, enabled=o.amp == "fp16" and device != "meta")

    def __getitem__(self, phase_name: str) -> torch.optim.Optimizer:
        return self.by_phase[phase_name]

    def zero_grad(self, phase_name: str) -> None:
        """Drop the gradients of all networks that a phase's optimiser trains."""
        self[phase_name].zero_grad(set_to_none=True)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Scale a loss for backward: with --amp fp16 it is enlarged so that small gradients do not underflow to 0."""
        return self.scaler.scale(loss)

    def step(self, phase_name: str) -> None:
        """Step a phase's optimiser; not without gradients, nor if they overflowed with --amp fp16. It frees them."""
        trained = [p for group in self[phase_name].param_groups for p in group["params"]]
        if all(p.grad is None for p in trained):  # the loss had nothing to do
            return
        if not trained[0].is_meta:  # in a check before training: an optimiser may need values
            if self.clip_grad:  # Pascanu et al. 2013: the norm of all gradients of the phase together
                self.scaler.unscale_(self[phase_name])
                nn.utils.clip_grad_norm_(trained, self.clip_grad)
            self.scaler.step(self[phase_name])
            self.scaler.update()
        self.zero_grad(phase_name)  # the next phase needs the memory
        # The fused kernel does not bump version counters: autograd would miss that a graph needs the old weights.
        increment_version(trained)

    def set_lr(self, factor: float, step: int | None = None) -> None:
        """Set every learning rate to its initial value times factor; with --warmup less before so many steps are done.

        step: the training steps done. In step n of N the rate is n / N of its value (Goyal et al. 2017, section 2.2).
        """
        self.factor = factor
        warm = 1.0 if step is None or step >= self.warmup else (step + 1) / self.warmup
        for group in self.param_groups():
            group["lr"] = group["base_lr"] * factor * warm

    def warm_up(self, step: int) -> None:
        """Set the rates of --warmup for the step after `step` training steps, within an epoch."""
        if step <= self.warmup and self.warmup:
            self.set_lr(self.factor, step)

    def warmup_notes(self, steps: int) -> list[str]:
        """Return a note if a run of so many steps ends before --warmup does."""
        why = f"the run has {steps} steps, so the learning rates never reach their values"
        return [f"note: --warmup {self.warmup}: {why}"] if 0 < steps < self.warmup else []

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of all optimisers."""
        return [group for optimizer in self.distinct.values() for group in optimizer.param_groups]

    def unused_settings(self, given: set[str]) -> list[str]:
        """Return a note for each flag that was given and for each phase's betas that no network is trained with."""
        flags = [flag for flag in FLAGS if flag in given and flag not in self.flags]
        return [f"note: --{flag} has no effect: no phase of the model trains with it" for flag in flags] + [
            f"note: the betas of phase {phase} have no effect: its optimizer {optimizer} takes none"
            for phase, optimizer in self.unused_betas.items()
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each optimiser, under the name of its first phase."""
        return {name: optimizer.state_dict() for name, optimizer in self.distinct.items()}

    def moments(self) -> dict[str, torch.Tensor]:
        """Return the tensors in the optimisers' state by names for messages: `exp_avg of phase G's parameter 3`."""
        return {
            f"{name} of phase {phase}'s parameter {number}": value
            for phase, state in self.state_dict().items()
            for number, kept in state["state"].items()
            for name, value in kept.items()
            if isinstance(value, torch.Tensor)
        }

    def load_state_dict(self, state: dict[str, Any], scaler: dict[str, Any] | None = None) -> list[str]:
        """Restore what state_dict returned, and the scaler; return a note for each optimiser that starts afresh.

        It does if another kind of optimiser was saved. Raise KeyError or ValueError if the phases differ.
        """
        if scaler:
            self.scaler.load_state_dict(scaler)
        notes = []
        for name, optimizer in self.distinct.items():
            saved = state[name]
            if len(saved["param_groups"]) != len(optimizer.param_groups):
                raise ValueError(f"the optimiser of {name} has a different number of parameter groups")
            was, now = saved["param_groups"][0].get("optimizer", DEFAULT), self.kinds[name]
            if not now.is_named(was):
                optimizer.state.clear()
                notes.append(
                    f"note: the optimiser of phase {name} starts afresh: the saved one is {was}, this is {now.name}"
                )
                continue
            # Betas, fused and the like come from today's options, not from the saved state. In the groups of optimisers
            # that are not torch's, such as schedule-free ones, other entries may be state: counters, averages.
            is_torchs = type(optimizer).__module__.startswith("torch.optim.")
            param_groups = []
            for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True):
                keys = own.keys() - {"params", "lr"} if is_torchs else own.keys() & GIVEN_KEYS
                param_groups.append(group | {key: own[key] for key in keys})
            optimizer.load_state_dict(saved | {"param_groups": param_groups})
            now.check_state(optimizer)
            _lay_out_like_parameters(optimizer)
        return notes


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory order of their parameters; fused kernels expect it, and the state may have another one.

    It does if the run was saved with another --memory_format.
    """
    for p, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                kept[name] = torch.empty_like(p, dtype=value.dtype).copy_(value)


def trainable_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network that require gradients."""
    return [p for p in net.parameters() if p.requires_grad]


def trained_networks(model: Any, phases: list[Any]) -> dict[str, nn.Module]:
    """Return by name the model's networks that contain a parameter of the phases."""
    trained = _parameter_ids(phases)
    return {n: net for n, net in model.networks().items() if any(id(p) in trained for p in net.parameters())}


def inference_networks(model: Any) -> dict[str, nn.Module]:
    """Return the networks for inference: those in model.averaged, else the trained ones, else all.

    Raise OptionError if model.averaged names a network that the model does not have.
    """
    networks = model.networks()
    for name in model.averaged:
        if name not in networks:
            why = f"its averaged names '{name}', but its networks are {', '.join(networks)}"
            raise OptionError("plug-in", type(model).__name__, why, "name the networks that test.py loads")
    saved = {name: net for name, net in networks.items() if net.state_dict()}  # those that are Frozen are not
    return {name: networks[name] for name in model.averaged} or trained_networks(model, model.phases()) or saved


def _parameter_ids(phases: list[Any]) -> set[int]:
    return {id(p) for phase in phases for net in phase.nets for p in net.parameters()}


def _shared_kind(phases: list[Any], usual: str) -> OptimizerKind:
    """Return the optimiser of phases that share one: that of the first; raise OptionError if another one differs."""

    def kind_of(phase: Any) -> OptimizerKind:
        named = phase.optimizer is not None
        return OptimizerKind.find(phase.optimizer if named else usual, f"optimizer of phase {phase.name}" * named)

    first = phases[0]
    kind = kind_of(first)
    for phase in phases[1:]:
        if phase.optimizer is not None and (own := kind_of(phase)) != kind:
            why = f"its optimizer {own.name} has no effect: it shares that of phase {first.name}, {kind.name}"
            raise OptionError("phase", phase.name, why, f"omit it, or give phase {first.name} the same one")
    return kind


class _UsualRates:
    """The learning rates of networks whose phase gives none: --lr, of discriminators --lr_D."""

    def __init__(self, o: Any, judges: Sequence[nn.Module]):
        self.lr, self.lr_D = o.lr, tool(o, "lr_D", None)
        self.judges = {id(p) for net in judges for p in net.parameters()}

    def flag(self, own: list[nn.Parameter]) -> str:
        """Return the name of the flag that is the rate of these parameters."""
        return "lr_D" if self.lr_D is not None and any(id(p) in self.judges for p in own) else "lr"


def _flags_used(phases: list[Any], kind: OptimizerKind, rates: _UsualRates) -> set[str]:
    """Return the names of the flags that an optimiser's settings come from, not from its phases."""
    used = {"optimizer"} if phases[0].optimizer is None else set()
    seen: set[int] = set()  # the parameters of earlier phases, whose settings count
    for phase in phases:
        for net, rate in zip(phase.nets, phase.rates, strict=True):
            own = set(map(id, trainable_parameters(net)))
            if own - seen:
                usual = {rates.flag(trainable_parameters(net))}
                used |= (usual if rate is None else set()) | (kind.beta_flags if phase.betas is None else set())
            seen |= own
    return used


def _parameter_groups(phases: list[Any], o: Any, rates: _UsualRates) -> list[dict[str, Any]]:
    """Return a parameter group per network; a shared parameter is listed once, with its first phase."""
    groups: list[dict[str, Any]] = []
    first: dict[int, tuple[Any, dict[str, Any]]] = {}  # the first phase of each parameter, and its group
    for phase in phases:
        for number, (net, rate) in enumerate(zip(phase.nets, phase.rates, strict=True)):
            own = trainable_parameters(net)
            new = [p for p in own if id(p) not in first]
            if new:
                usual = getattr(rates, rates.flag(new))
                lr, betas = usual if rate is None else rate, phase.betas or (o.beta1, o.beta2)
                name = f"{phase.name}.{number}"
                groups.append({"params": new, "lr": lr, "base_lr": lr, "betas": betas, "name": name})
                first |= dict.fromkeys(map(id, new), (phase, groups[-1]))
            elif own:
                _check_same_settings(*first[id(own[0])], phase, rate)
    _correct_lazy(groups, phases)
    return groups


def _check_same_settings(first: Any, group: dict[str, Any], phase: Any, rate: float | None) -> None:
    """Raise OptionError if a phase gives a network another learning rate or betas than the network's first phase."""
    for word, own, used in (("lr", rate, group["base_lr"]), ("betas", phase.betas, group["betas"])):
        if own not in (None, used):
            own_text, at = (f"{value:g}" if word == "lr" else str(value) for value in (own, used))
            effect = f"{own_text} {'has' if word == 'lr' else 'have'} no effect"
            why = f"its {word} {effect}, because phase {first.name} trains the same network at {at}"
            raise OptionError("phase", phase.name, why, f"omit it, or give phase {first.name} the same {word}")


def _correct_lazy(groups: list[dict[str, Any]], phases: list[Any]) -> None:
    """Correct rates and betas for phases with lazy_correction (Karras et al. 2020, StyleGAN2, appendix B).

    A phase at every k-th step, beside one at every step, makes (k + 1) / k updates a step of the networks that both
    train. So the rate is multiplied by c = k / (k + 1), and the betas become beta**c.
    """
    main = _parameter_ids([phase for phase in phases if not phase.lazy_correction])
    lazy = {phase.name: _parameter_ids([phase]) & main for phase in phases if phase.lazy_correction}
    for name, ids in lazy.items():
        if not ids:
            why = "its lazy_correction corrects nothing, because no other phase trains its networks"
            raise OptionError("phase", name, why, "omit it")
    for group in groups:
        own = {id(p) for p in group["params"]}
        correction = 1 / (1 + sum(1 / phase.every for phase in phases if own & lazy.get(phase.name, set())))
        group["lr"] = group["base_lr"] = group["base_lr"] * correction
        group["betas"] = tuple(beta**correction for beta in group["betas"])
