"""What a step keeps or reads outside the device, which a graph of its kernels would freeze."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inference.model_state import Digest, PluginWatch, states_equal
from util.image_pool import ImagePool

READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive",
         "equal", "bincount", "repeat_interleave.Tensor")  # operations that wait for a device's values  # fmt: skip


class HostState:
    """What a model and its plug-in hold outside the values of tensors; `changed()` compares with the first look.

    Values of tensors may change, as a graph writes them where they are; another tensor, number or list may not. Image
    pools are left out (training/graphs/host_inputs.py).
    """

    def __init__(self, model: nn.Module):
        self.model, self.plugins, self.digest = model, PluginWatch(), _digest(model)

    def changed(self) -> str:
        """Return what differs, in words; "" if nothing does."""
        if self.digest is None:
            return "the model holds objects that cannot be compared"
        if _digest(self.model) != self.digest:
            return f"a step changes what {type(self.model).__name__} holds besides tensors"
        plugin = self.plugins.changed()
        return f"a step changes values of {plugin}" if plugin else ""


def _digest(model: nn.Module) -> bytes | None:
    digest = _Places()
    try:
        digest.dump(model)
    except Exception:  # a plug-in's model may hold anything
        return None
    return digest.hash.digest()


class _Places(Digest):
    """Hashes all that a model holds; a tensor counts by its place in memory, a pool not at all."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Tensor):
            return str, (f"{id(thing)} {thing.data_ptr()} {thing.requires_grad}",)
        return (str, ("pool",)) if isinstance(thing, ImagePool) else super().reducer_override(thing)


class HostDraws:
    """The generators of the host: random, numpy, and torch's of the CPU."""

    def __init__(self) -> None:
        self.states = _host_states()

    def were_made(self) -> bool:
        """Whether numbers were drawn since."""
        return not states_equal(self.states, _host_states())


def _host_states() -> list[Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return [torch.get_rng_state(), random.getstate(), kind, np.asarray(keys).tobytes(), rest]


class DeviceReads(TorchDispatchMode):
    """Calls found(text) for each operation that makes the host wait for values of a device: item(), masks, copies."""

    def __init__(self, device: torch.device, found: Callable[[str], None]):
        super().__init__()
        self.device, self.found = device, found

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        here = [x for x in tensors if x.device.type == self.device.type]
        is_mask = name.startswith("index.") and any(x.dtype is torch.bool for x in tensors[1:])
        if here and (is_mask or name in READS or name.split(".")[0] in READS):
            self.found(name)
        out = func(*args, **(kwargs or {}))
        moved = isinstance(out, Tensor) and bool(tensors) and {x.device.type for x in (out, *tensors)} > {"cpu"}
        if moved and name.split(".")[0] in ("_to_copy", "copy_"):
            self.found("a copy between host and device")
        return out
