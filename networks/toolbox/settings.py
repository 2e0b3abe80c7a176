"""Read the toolbox's flags, and mark what the builders of networks return, so that the toolbox finds it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn  # flags are declared without torch

OWNER = "toolbox"  # of the flags in options/toolbox.py
ROLE, CHANNELS = "toolbox_role", "toolbox_channels"  # attributes of networks


def tool(o: Any, name: str, off: Any) -> Any:
    """Return the value of a flag of the toolbox, or `off` if a model has a flag of this name of its own, or no flag."""
    flag = getattr(o, "flags", {}).get(name)
    return off if flag is not None and flag.owner != OWNER else getattr(o, name, off)


def mark(net: "nn.Module", role: str, channels: Sequence[int] = ()) -> "nn.Module":
    """Return a network after noting its role, "G" or "D", and the channels of each picture in its input."""
    setattr(net, ROLE, role)
    if channels:
        setattr(net, CHANNELS, tuple(channels))
    return net


def has_role(net: "nn.Module", role: str) -> bool:
    """Return whether a network, or a part of it, was marked with a role."""
    return any(getattr(part, ROLE, "") == role for part in net.modules())


def channels_of(net: "nn.Module") -> tuple[int, ...]:
    """Return the channels of each picture in a network's input as its builder was told; () if it was not."""
    return next((found for part in net.modules() if (found := getattr(part, CHANNELS, ()))), ())
