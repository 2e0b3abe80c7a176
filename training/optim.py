"""Create the optimisers of a model's phases: one for each group of phases that share a network."""

from typing import Any

import torch
from torch import nn
from torch.autograd.graph import increment_version

from util.errors import OptionError

FUSED_DEVICES = ("cpu", "cuda", "mps")  # devices with a fused Adam kernel in PyTorch
ADAM_STATE_KEYS = {"step", "exp_avg", "exp_avg_sq"}  # Adam's state for each parameter


class Optimizers:
    """Adam (Kingma & Ba 2015) for every phase: betas (--beta1, 0.999), one parameter group per network.

    `optimizers[phase.name]` is a phase's optimiser. Phases that share a network share an optimiser.
    Raise OptionError if two phases have the same name, or give one network different learning rates.
    """

    def __init__(self, phases: list[Any], o: Any):
        self.groups: list[list[Any]] = []  # phases that share networks
        names = [phase.name for phase in phases]
        for name in names:
            if names.count(name) > 1:
                raise OptionError(
                    "phase", name, f"is the name of {names.count(name)} phases of the model", "rename one"
                )
        # Merge phases that share a network into one group.
        for phase in phases:
            shared = [g for g in self.groups if any(_shares_parameters(phase, other) for other in g)]
            self.groups = [g for g in self.groups if g not in shared] + [[p for g in shared for p in g] + [phase]]
        # Create one optimiser per group.
        self.by_phase: dict[str, torch.optim.Optimizer] = {}
        for group in self.groups:
            networks = _parameter_groups(group, o.lr)
            params = [{"params": own, "lr": lr, "base_lr": lr, "name": name} for name, own, lr in networks]
            fused = all(p.device.type in FUSED_DEVICES for _, own, _ in networks for p in own)
            adam = torch.optim.Adam(params, lr=o.lr, betas=(o.beta1, 0.999), fused=fused)
            self.by_phase |= {phase.name: adam for phase in group}
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
        """Step a phase's optimiser; with --amp fp16 the step is skipped if its gradients overflowed."""
        self.scaler.step(self[phase_name])
        self.scaler.update()
        # The fused kernel does not bump version counters: autograd would miss that a graph needs the old weights.
        increment_version([p for group in self[phase_name].param_groups for p in group["params"]])

    def set_lr(self, factor: float) -> None:
        """Set every learning rate to its initial value times factor."""
        for group in self.param_groups():
            group["lr"] = group["base_lr"] * factor

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of all optimisers."""
        return [g for phases in self.groups for g in self.by_phase[phases[0].name].param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each optimiser, under the name of its first phase."""
        return {phases[0].name: self.by_phase[phases[0].name].state_dict() for phases in self.groups}

    def moments(self) -> dict[str, torch.Tensor]:
        """Return the tensors in the optimisers' state by names for messages: `exp_avg of phase G's parameter 3`."""
        return {
            f"{name} of phase {phase}'s parameter {number}": value
            for phase, state in self.state_dict().items()
            for number, kept in state["state"].items()
            for name, value in kept.items()
            if isinstance(value, torch.Tensor)
        }

    def load_state_dict(self, state: dict[str, Any], scaler: dict[str, Any] | None = None) -> None:
        """Restore what state_dict returned, and the scaler; raise KeyError or ValueError if the phases differ."""
        if scaler:
            self.scaler.load_state_dict(scaler)
        for phases in self.groups:
            optimizer = self.by_phase[phases[0].name]
            saved = state[phases[0].name]
            if len(saved["param_groups"]) != len(optimizer.param_groups):
                raise ValueError(f"the optimiser of {phases[0].name} has a different number of parameter groups")
            param_groups = [  # betas, fused and the like come from today's options, not from the saved state
                group | {key: value for key, value in own.items() if key not in ("params", "lr")}
                for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True)
            ]
            optimizer.load_state_dict(saved | {"param_groups": param_groups})
            _check_adam_state(optimizer)


def _check_adam_state(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError for missing moments or moments of the wrong shape, because torch loads them unchecked."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            kept = optimizer.state.get(p, {})  # empty for a parameter that no step has updated yet
            if kept and (missing := ADAM_STATE_KEYS - kept.keys()):
                raise ValueError(f"an optimiser lacks the {', '.join(sorted(missing))} of a parameter")
            if kept and any(kept[name].shape != p.shape for name in ADAM_STATE_KEYS - {"step"}):
                raise ValueError("an optimiser's moments do not have the shapes of its parameters")


def trainable_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network that require gradients."""
    return [p for p in net.parameters() if p.requires_grad]


def trained_networks(model: Any, phases: list[Any]) -> dict[str, nn.Module]:
    """Return by name the model's networks that contain a parameter of the phases."""
    trained = {number for phase in phases for number in _parameter_ids(phase)}
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
    return {name: networks[name] for name in model.averaged} or trained_networks(model, model.phases()) or networks


def _shares_parameters(one: Any, other: Any) -> bool:
    return bool(_parameter_ids(one) & _parameter_ids(other))


def _parameter_ids(phase: Any) -> set[int]:
    return {id(p) for net in phase.nets for p in net.parameters()}


def _parameter_groups(phases: list[Any], lr: float) -> list[tuple[str, list[nn.Parameter], float]]:
    """Return (name, parameters, learning rate) per network; a shared parameter is listed once, with its first phase."""
    groups: list[tuple[str, list[nn.Parameter], float]] = []
    first: dict[int, Any] = {}  # the first phase of each parameter
    for phase in phases:
        for number, net in enumerate(phase.nets):
            own = trainable_parameters(net)
            new = [p for p in own if id(p) not in first]
            if new:
                groups.append((f"{phase.name}.{number}", new, phase.lr if phase.lr is not None else lr))
            elif own:
                _check_same_lr(first[id(own[0])], phase, lr)
            first |= dict.fromkeys(map(id, new), phase)
    return groups


def _check_same_lr(first: Any, phase: Any, lr: float) -> None:
    """Raise OptionError if a phase gives a network another learning rate than the network's first phase."""
    rate = first.lr if first.lr is not None else lr
    if phase.lr not in (None, rate):
        why = f"its lr {phase.lr:g} has no effect, because phase {first.name} trains the same network at {rate:g}"
        raise OptionError("phase", phase.name, why, f"omit it, or give phase {first.name} the same lr")
