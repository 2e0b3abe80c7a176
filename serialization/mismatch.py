"""Find where weights differ from a network, or a state from the current options, and what would make them fit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from util.size import Size

ARCHITECTURE_FLAGS = ("model", "netG", "netD", "ngf", "ndf", "n_layers_D", "num_D", "norm", "no_dropout", "padding",
                      "input_nc", "output_nc", "crop_size")  # fmt: skip


def first_difference(own: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    """Return a text about the first key that differs, with the value on each side; "" if the weights fit."""
    for key in [*own, *(key for key in weights if key not in own)]:
        have, want = (_describe(state[key]) if key in state else ("absent", "") for state in (weights, own))
        if have != want:
            which = 0 if have[0] != want[0] else 1  # the shape, or else the kind of numbers
            return f"'{str(key)[:100]}' is {have[which]} in the file and {want[which]} in the network"
    return ""


def is_assignable(own: Tensor, value: Tensor) -> bool:
    """Whether a tensor can take another's values: same shape, and both integer, both floating point or both complex."""
    return own.shape == value.shape and _number_kind(own) == _number_kind(value)


def overflows(own: Tensor, value: Tensor) -> bool:
    """Whether finite values would become Inf in the dtype of `own`."""
    if not (own.is_floating_point() and value.is_floating_point() and value.numel()):
        return False
    limit = torch.finfo(own.dtype).max
    return torch.finfo(value.dtype).max > limit and bool(value.abs().max() > limit)


def explain_mismatch(net: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Return the network's explanation (`explain_misfit`) of why weights do not fit; "" without that method."""
    explain = getattr(net, "explain_misfit", None)
    return explain(weights) if callable(explain) else ""


def flags_remedy(o: Any, saved: Mapping[str, Any]) -> str:
    """Return the remedy for a state that does not fit: the flags to omit, with the run's own values."""
    kept = [name for name in saved if name in o.given and not o.flags[name].meta["momentary"]]
    changed = [name for name in kept if to_saved_value(getattr(o, name)) != to_saved_value(saved[name])]
    shaping = [name for name in changed if name in ARCHITECTURE_FLAGS or o.flags[name].owner == o.model]
    own = " ".join(_flag_text(o.flags[name], saved[name]) for name in shaping)
    flags = ", ".join(f"--{name}" for name in shaping)
    remedy = f"omit {flags} to continue it with {own}" if flags else "repeat the options it was started with"
    return f"{remedy}, or give a new run another --name (--overwrite replaces this one)"


def to_saved_value(value: Any) -> Any:
    """Return an option's value in the form stored in a state."""
    return str(value) if isinstance(value, Size) else list(value) if isinstance(value, tuple) else value


def _flag_text(flag: Any, value: Any) -> str:
    """Return a flag with its value as on a command line."""
    return f"--{flag.name if value else flag.opposite}" if flag.is_switch else f"--{flag.name} {value}"


def _describe(value: Any) -> tuple[str, str]:
    if not isinstance(value, Tensor):
        return ("not a tensor", "")
    return ("x".join(map(str, value.shape)) or "one number", _number_kind(value))


def _number_kind(value: Tensor) -> str:
    return "complex" if value.is_complex() else "floating point" if value.is_floating_point() else "integer"
