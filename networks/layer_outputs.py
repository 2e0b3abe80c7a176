"""The outputs of a network's layers in one forward pass."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from networks.runtime.eager import eager
from util.errors import OptionError
from util.spelling import typing_errors

NAMES_SUGGESTED = 3


class _LastLayerReached(BaseException):
    """Ends a forward pass when nothing more is needed; not an Exception, so that no handler in a network catches it."""


def features(net: nn.Module, x: Tensor | tuple, layers: str | Sequence[str]) -> dict[str, Tensor]:
    """Return {name: output} of a network's layers for an input, in one forward pass that ends at the last of them.

    x: the input (N, C, H, W), or a tuple of the arguments if the network takes several. layers: names as in
    `net.named_modules()`; "" is the network itself. The layers compute in the precision of an ordinary call; under
    --amp their outputs become float32, like a network's. Gradients flow through them. Raises OptionError for a name
    that the network does not have, for a layer that the pass does not call, or that it calls twice before it ends, and
    for an output that is not a tensor.
    """
    names = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    modules = dict(net.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules:
            near = sorted(filter(None, modules), key=partial(typing_errors, str(name)))[:NAMES_SUGGESTED]
            why = f"{type(net).__name__} has no such layer"
            raise OptionError("layer", name, why, f"the nearest names are {', '.join(near) or 'none'}")
    outputs = _Outputs(names, any(getattr(part, "inplace", False) for part in net.modules()))
    hooks = [modules[name].register_forward_hook(partial(outputs.keep, name)) for name in names]
    try:
        with eager():
            net(*x) if isinstance(x, tuple) else net(x)
    except _LastLayerReached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return outputs.checked()


class _Outputs:
    """What the layers of one pass return. copied: whether a later layer may overwrite an output in place."""

    def __init__(self, names: list[str], copied: bool):
        self.names, self.copied = names, copied
        self.kept: dict[str, tuple[Tensor, int]] = {}  # with the number of writes to it

    def keep(self, name: str, layer: nn.Module, args: Any, output: Any) -> None:
        """Keep a layer's output; end the pass if it is the last one needed."""
        if not isinstance(output, Tensor):
            raise OptionError("layer", name, f"it returns a {type(output).__name__}, not a tensor", "name a part of it")
        if name in self.kept:
            why = "the network calls it more than once in a pass, so its output is not one tensor"
            raise OptionError("layer", name, why, "give the network a layer of its own for each call")
        if not output.is_meta and output.is_floating_point() and torch.is_autocast_enabled(output.device.type):
            output = output.float()
        if self.copied:
            output = output.clone()
        self.kept[name] = output, output._version
        if len(self.kept) == len(self.names):
            raise _LastLayerReached

    def checked(self) -> dict[str, Tensor]:
        """Return the outputs in the order of their names; raise OptionError if one is missing or overwritten."""
        for name in self.names:
            if name not in self.kept:
                raise OptionError("layer", name, "the network does not call it", "name a layer that its forward calls")
            output, version = self.kept[name]
            if output._version != version:
                why = "the network overwrites its output in place after it"
                raise OptionError("layer", name, why, "compute the next operation without inplace or +=")
        return {name: self.kept[name][0] for name in self.names}
