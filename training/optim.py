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
        self.by_phase: dict[str, torch.optim.Optimizer] = {}
        for group in groups:
            networks = _parameter_groups(group, o.lr)
            fused = all(p.device.type in FUSED_DEVICES for network in networks for p in network["params"])
            adam = torch.optim.Adam(networks, lr=o.lr, betas=(o.beta1, 0.999), fused=fused)
            self.distinct[group[0].name] = adam
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
        """Step a phase's optimiser; not without gradients, nor if they overflowed with --amp fp16."""
        trained = [p for group in self[phase_name].param_groups for p in group["params"]]
        if all(p.grad is None for p in trained):  # the loss had nothing to do
            return
        self.scaler.step(self[phase_name])
        self.scaler.update()
        # The fused kernel does not bump version counters: autograd would miss that a graph needs the old weights.
        increment_version(trained)

    def set_lr(self, factor: float) -> None:
        """Set every learning rate to its initial value times factor."""
        for group in self.param_groups():
            group["lr"] = group["base_lr"] * factor

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of all optimisers."""
        return [group for optimizer in self.distinct.values() for group in optimizer.param_groups]

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

    def load_state_dict(self, state: dict[str, Any], scaler: dict[str, Any] | None = None) -> None:
        """Restore what state_dict returned, and the scaler; raise KeyError or ValueError if the phases differ."""
        if scaler:
            self.scaler.load_state_dict(scaler)
        for name, optimizer in self.distinct.items():
            saved = state[name]
            if len(saved["param_groups"]) != len(optimizer.param_groups):
                raise ValueError(f"the optimiser of {name} has a different number of parameter groups")
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


def _parameter_groups(phases: list[Any], lr: float) -> list[dict[str, Any]]:
    """Return a parameter group of Adam per network; a shared parameter is listed once, with its first phase."""
    groups: list[dict[str, Any]] = []
    first: dict[int, Any] = {}  # the first phase of each parameter
    for phase in phases:
        for number, net in enumerate(phase.nets):
            own = trainable_parameters(net)
            new = [p for p in own if id(p) not in first]
            if new:
                own_lr = lr if phase.lr is None else phase.lr
                groups.append({"params": new, "lr": own_lr, "base_lr": own_lr, "name": f"{phase.name}.{number}"})
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
