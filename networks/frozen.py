"""Networks that do not learn: frozen for ever, or for the length of a loss."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from serialization.pretrained import NETWORK


class Frozen(nn.Module):
    """A network that never changes: always in evaluation mode, its parameters without gradients, in no state or export.

    It is called like the network and has its methods and attributes; gradients flow through it to its input. It moves
    with the model that it is an attribute of. A run that resumes or is tested builds it again in __init__.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.requires_grad_(False)
        self.train()  # as a new model is

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network returns."""
        return self.net(*args, **kwargs)

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in evaluation mode, and remember whether the model trains: then --amp and --compile apply."""
        super().train(False)
        self.in_training = mode
        return self

    def requires_grad_(self, requires_grad: bool = True) -> "Frozen":
        """Change nothing: the parameters never require gradients."""
        return self

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return an empty state, or add nothing to that of the model."""
        return {} if destination is None else destination

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        # The layers are loaded after this, from what the state has under their names: give them their own values.
        self.net.state_dict(destination=state_dict, prefix=f"{prefix}net.")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "net" not in self.__dict__.get("_modules", {}):  # built or copied just now
                raise
            return getattr(self.net, name)


def frozen_parts(net: nn.Module) -> set[nn.Module]:
    """Return the modules inside the Frozen networks of a network or model."""
    return {part for frozen in net.modules() if isinstance(frozen, Frozen) for part in frozen.modules()}


def frozen_digests(model: nn.Module) -> dict[str, str]:
    """Return {name: SHA-256} of a model's Frozen networks, which no state holds: a run remembers which they were."""
    found = {}
    for name, part in model.named_modules():
        if isinstance(part, Frozen):
            digest = hashlib.sha256()
            for key, value in part.net.state_dict().items():
                digest.update(key.encode())
                digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
            found[NETWORK + name] = digest.hexdigest()
    return found


def without_frozen(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's state without the values of networks that were not yet Frozen when it was saved."""
    frozen = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, Frozen))
    return {key: value for key, value in state.items() if not key.startswith(frozen)}


@contextmanager
def without(*nets: nn.Module) -> Iterator[None]:
    """Let no gradient reach the parameters of networks inside the block; gradients still flow through to their inputs.

    It concerns what is computed inside: `with without(self.D): loss = self.D(fake)`. Afterwards each parameter requires
    gradients as before.
    """
    held = [p for net in nets for p in net.parameters() if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)
