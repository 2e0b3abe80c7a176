"""Select the device for --gpu_ids, and copy scalars and batches between devices."""

import os
from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from util import ranks
from util.errors import EnvironmentFault, OptionError


def select_device(gpu_ids: str | None) -> torch.device:
    """Return the device: None for the best one, "-1" CPU, "0" first GPU, "mps"; EnvironmentFault if it is absent."""
    if ranks.world_size() > 1:
        return _own_device(gpu_ids)
    if gpu_ids is None:
        best = "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    word = gpu_ids.strip(", ").lower()
    if word in ("-1", "cpu", ""):
        return torch.device("cpu")
    if word == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        raise EnvironmentFault("option", "--gpu_ids", "there is no MPS device here", "omit it or use -1")
    if not word.removeprefix("cuda:").isdigit():
        raise OptionError(
            "option", "--gpu_ids", f"'{gpu_ids}' is not a device", "give -1 (CPU), 0 (the first GPU), or mps"
        )
    index = int(word.removeprefix("cuda:"))
    if index < torch.cuda.device_count():
        torch.cuda.set_device(index)  # for code that uses the current device: pinning, generators
        return torch.device("cuda", index)
    count = torch.cuda.device_count()
    gpu_names = ", ".join(f"{i} {torch.cuda.get_device_name(i)}" for i in range(count)) or "no CUDA device"
    why = f"there is no GPU {index} here ({gpu_names})"
    raise EnvironmentFault("option", "--gpu_ids", why, "use --gpu_ids -1 for the CPU")


def _own_device(gpu_ids: str | None) -> torch.device:
    """Return the device of this process, one of several on this machine."""
    words = [word.strip() for word in (gpu_ids or "").lower().split(",") if word.strip()]
    if (gpu_ids is None and not torch.cuda.is_available()) or set(words) & {"-1", "cpu"} or gpu_ids == "":
        return torch.device("cpu")
    if "mps" in words:
        raise OptionError("option", "--gpu_ids", "MPS does not work with several processes", "use -1, the CPU")
    own = int(os.environ.get("LOCAL_RANK", ranks.rank()))
    number = (words[own] if own < len(words) else "none") if len(words) > 1 else str(own)
    if not number.removeprefix("cuda:").isdigit() or int(number.removeprefix("cuda:")) >= torch.cuda.device_count():
        why = f"there is no GPU for process {own} of this machine, which has {torch.cuda.device_count()}"
        raise EnvironmentFault("option", "--gpu_ids", why, "start as many processes as GPUs, or use --gpu_ids -1")
    device = torch.device("cuda", int(number.removeprefix("cuda:")))
    torch.cuda.set_device(device)
    return device


def copy_to_cpu(value: Any) -> Any:
    """Start copying a GPU scalar to the CPU; float() of the result waits for the copy, not for later GPU work."""
    return _AsyncScalar(value) if isinstance(value, torch.Tensor) and value.is_cuda else value


class _AsyncScalar:
    """A copy of a scalar in pinned memory with an event; a plain copy would wait for all queued GPU work."""

    def __init__(self, value: torch.Tensor):
        self.copy = torch.empty((), dtype=value.dtype, pin_memory=True)
        self.copy.copy_(value, non_blocking=True)
        self.copied = torch.cuda.Event()
        self.copied.record()

    def __float__(self) -> float:
        self.copied.synchronize()
        return float(self.copy)


captures: list[Any] = []  # what records a CUDA graph now, the last one: see training/graphs/host_inputs.py


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device, nested ones too; objects with a method `to` move themselves."""
    return map_leaves(lambda value: _move(value, device), batch)


def _move(value: Any, device: torch.device) -> Any:
    if torch.is_tensor(value):
        return value.to(device, non_blocking=True)
    return value.to(device) if hasattr(value, "to") else value


def map_leaves(
    function: Callable[..., Any], value: Any, *others: Any, is_leaf: Callable[[Any], bool] = lambda value: False
) -> Any:
    """Return nested dictionaries, lists, tuples and dataclasses with `function` applied to what they hold.

    others: values of the same structure, whose leaves are the function's further arguments; ValueError if they differ.
    is_leaf: containers that the function is given as they are. So are objects with a method `to`, such as a
    PackedSequence.
    """

    def apply(leaf: Any, *rest: Any) -> Any:
        if not is_dataclass(leaf) or isinstance(leaf, type) or hasattr(leaf, "to") or is_leaf(leaf):
            return function(leaf, *rest)
        return with_fields(leaf, lambda name: inner(*(getattr(each, name) for each in (leaf, *rest))))

    def inner(*trees: Any) -> Any:
        return tree_map(apply, *trees, is_leaf=lambda tree: hasattr(tree, "to") or is_leaf(tree))

    return inner(value, *others)


def with_fields(instance: Any, make: Callable[[str], Any]) -> Any:
    """Return a copy of a dataclass's instance, frozen or not, whose fields are make(name)."""
    made = copy(instance)
    for each in fields(instance):
        object.__setattr__(made, each.name, make(each.name))
    return made
