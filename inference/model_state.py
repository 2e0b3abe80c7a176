"""Detect whether calls of a model change it, and copy a model or undo the changes."""

import copy
import hashlib
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from options.fields import Options
from registry import loaded
from util.errors import OptionError
from util.image_pool import ImagePool
from util.seeding import generator_states, restore_generators

ATOMIC = (type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device)


OWN_ROOMS = ("torch", "networks", "models", "util")  # util.image_pool is used in training alone


def _room(part: nn.Module) -> str:
    return type(part).__module__.removeprefix(loaded.PREFIX).partition(".")[0]


class ModelWatch:
    """Remembers what a model holds; `changed()` tells whether calls have changed it since.

    That is every attribute of its modules: buffers, numbers, lists, caches, generators of random numbers. Parameters
    count as changed when torch counts a write to them. A model of our own layers keeps nothing in evaluation mode.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.is_known = not any(part.training or _room(part) not in OWN_ROOMS for part in model.modules())
        self.copyable = True  # whether a copy shares nothing that a call may change
        self.digest = self._digest()

    @property
    def verifiable(self) -> bool:
        """Whether changes can be detected; not in a model that holds open files, weak references, generators, ..."""
        return self.digest is not None

    def changed(self) -> bool:
        """Return whether the model differs from what it was when the watch began."""
        return self.digest is None or self._digest() != self.digest

    def _digest(self) -> bytes | None:
        if self.is_known:
            return b""
        digest = Digest()
        try:
            digest.dump(self.model)
        except Exception:  # a plug-in's model may hold anything
            return None
        finally:
            self.copyable = not digest.has_closures
        return digest.hash.digest()


class PluginWatch:
    """The same for what plug-ins keep outside the model: values of their modules, of classes, and default arguments."""

    def __init__(self) -> None:
        self.names = sorted(loaded.plugin_modules())
        self.digests = {name: self._digest(name) for name in self.names}

    def changed(self) -> str:
        """Return the name of a plug-in whose values are not what they were; "" if all are."""
        changed = [n for n in self.names if self.digests[n] is None or self._digest(n) != self.digests[n]]
        return loaded.plugin_of_file(str(sys.modules[changed[0]].__file__)) or "" if changed else ""

    def _digest(self, name: str) -> bytes | None:
        digest = Digest(set(self.names))
        try:
            digest.dump({key: value for key, value in vars(sys.modules[name]).items() if not key.startswith("__")})
        except Exception:  # a lock, an open file, ...
            return None
        return digest.hash.digest()


class CallWatch:
    """Tells whether calls of a model depend on earlier calls: they change it, its plug-in, or draw random numbers."""

    def __init__(self, model: nn.Module):
        self.model, self.plugins = ModelWatch(model), PluginWatch()
        self.parameters, self.generators = _writes(model), generator_states()

    def changed(self) -> bool:
        """Return whether anything has changed, or cannot be compared."""
        return self._has_drawn() or self.model.changed() or bool(self.plugins.changed())

    def affects_others(self) -> bool:
        """Return whether calls changed what copies share: random generators, plug-ins, parameters."""
        return self._has_drawn() or self.parameters != _writes(self.model.model) or bool(self.plugins.changed())

    def undo_draws(self) -> bool:
        """Restore the random generators; return whether numbers were drawn.

        Raise OptionError if calls changed parameters or a plug-in: these are not restored, as others may hold them.
        """
        model = self.model.model
        owner = self.plugins.changed() or (self.parameters != _writes(model) and type(model).__name__)
        if owner:
            why = "an image changed its parameters, or values of its module or class, which other images may have read"
            remedy = "keep them in the model (self....), or set OMP_NUM_THREADS=1 and use the CPU (--gpu_ids -1)"
            raise OptionError("plug-in", owner, why, remedy)
        drawn = self._has_drawn()
        if drawn:
            restore_generators(self.generators)
        return drawn

    def _has_drawn(self) -> bool:
        return not states_equal(self.generators, generator_states())


class Digest(pickle.Pickler):
    """Hashes all that an object holds. Nothing is ever unpickled: pickling only visits each object once.

    Classes and functions count by their names; those of `modules` with what they hold.
    """

    def __init__(self, modules: frozenset[str] | set[str] = frozenset()):
        self.hash = hashlib.blake2b(digest_size=16)
        self.modules = modules
        self.has_closures = (
            False  # whether a function shares an object, other than numbers and the like, with its copies
        )
        super().__init__(self, protocol=5)

    def write(self, data: Any) -> int:
        """Add the pickler's bytes to the hash."""
        self.hash.update(data)
        return len(data)

    def reducer_override(self, thing: Any) -> Any:
        """Return (callable, arguments, state) for an object, as __reduce__ does, with all that counts."""
        if isinstance(thing, Tensor):
            return str, (_tensor_content(thing),)
        if isinstance(thing, nn.Module):
            return str, (type(thing).__qualname__,), {k: v for k, v in vars(thing).items() if not _is_empty(v)}
        if isinstance(thing, FunctionType):
            return str, (thing.__qualname__,), self._function_content(thing)
        if isinstance(thing, type) and thing is not str:  # str stands for all others
            own = thing.__module__ in self.modules
            data = {k: v for k, v in vars(thing).items() if _is_class_data(k, v)} if own else {}
            return str, (thing.__qualname__,), data
        if isinstance(thing, staticmethod | classmethod):
            return str, ("method",), {"function": thing.__func__}
        if isinstance(thing, ModuleType | property):
            return str, (type(thing).__name__,)
        if isinstance(thing, Options):
            return str, ("Options",), vars(thing)
        return NotImplemented

    def _function_content(self, function: FunctionType) -> dict[str, Any]:
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        self.has_closures |= not all(isinstance(value, ATOMIC) for value in cells)
        own = function.__module__ in self.modules
        return {"cells": cells, "defaults": (function.__defaults__, function.__kwdefaults__) if own else ()}


def _tensor_content(tensor: Tensor) -> str:
    """Return a text that differs for other values; a parameter, which may be large, counts its writes instead."""
    if isinstance(tensor, nn.Parameter):
        return f"{id(tensor)} {tensor.data_ptr()} {tensor._version}"
    values = tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.blake2b(values, digest_size=16).hexdigest()}"


def _writes(model: nn.Module) -> list[int]:
    return [p._version for p in model.parameters()]


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | set) and not value


def _is_class_data(name: str, value: Any) -> bool:
    return not name.startswith("__") and not hasattr(type(value), "__set__")  # without slots and other descriptors


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:  # a name that is not assigned yet
        return False


def own_copy(model: Any) -> Any:
    """Return a copy that shares the parameters, so that a model with a memory begins each call as it was loaded.

    A model that keeps nothing in evaluation mode is returned itself.
    """
    copies = [] if ModelWatch(model).is_known else shared_copies(model, 1)
    return copies[0] if copies else model


def shared_copies(model: nn.Module, number: int) -> list[nn.Module]:
    """Return copies that share the model's parameters and nothing else; [] if it cannot be copied."""
    parameters = {id(p): p for p in model.parameters()}
    try:
        return [copy.deepcopy(model, dict(parameters)) for _ in range(number)]
    except Exception:  # a plug-in's model may hold anything
        return []


@contextmanager
def undone_changes(model: nn.Module) -> Iterator[None]:
    """Undo after the block what it changes of a model, except its parameters: modes, buffers, other attributes.

    Attributes that cannot be copied stay as the block leaves them.
    """
    parts = list(model.modules())
    kept = [dict(vars(part)) for part in parts]
    images = [image for part in parts if isinstance(part, ImagePool) for image in part.images]  # never written to
    shared = {id(x): x for x in [*parts, *model.parameters(), *images]}
    for part, own in zip(parts, kept):
        vars(part).update({name: _copied(value, shared) for name, value in own.items()})
    try:
        yield
    finally:
        for part, own in zip(parts, kept):
            vars(part).clear()
            vars(part).update(own)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # see shared_copies
        return value


def states_equal(one: Any, other: Any) -> bool:
    """Return whether two states of the random number generators are equal."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(states_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(states_equal, one, other))
    return bool(one == other)
