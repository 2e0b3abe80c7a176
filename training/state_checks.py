"""Check that a model's state can be saved and loaded again."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._pytree import tree_map

from networks.frozen import Frozen
from registry.contract import contract_error
from serialization import safe_load
from util.errors import first_line


def state_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters and persistent buffers, the tensors of a state_dict."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for prefix, part in model.named_modules():
        for name, value in part._buffers.items():
            if value is not None and name not in part._non_persistent_buffers_set:
                shapes[f"{prefix}.{name}".lstrip(".")] = tuple(value.shape)
    return shapes


def check_state_shapes(model: Any, name: str, before: dict[str, tuple[int, ...]]) -> None:
    """Raise OptionError if parameters or buffers were added, removed or changed in shape after the model was built.

    A newly built model could not load them. Models with a custom _load_from_state_dict are not checked.
    """
    kinds: set[Any] = {type(part) for part in model.modules()}
    loading = {kind for kind in kinds if kind._load_from_state_dict is not nn.Module._load_from_state_dict}
    if not all(kind is Frozen or kind.__module__.startswith("torch.") for kind in loading):
        return
    now = state_shapes(model)
    for key in now | before:
        if now.get(key) != before.get(key):
            changed = f"was {'added' if key in now else 'removed'} after __init__"
            if key in now and key in before:
                changed = f"changed from {before[key]} to {now[key]}"
            why = f"its parameter or buffer '{key}' {changed}: a resumed run could not load it"
            raise contract_error(name, why, "build it in __init__ in its final size, or keep it in get_extra_state")


@contextmanager
def no_new_layers(model: Any, name: str) -> Iterator[None]:
    """Raise OptionError if a step inside the block makes a layer, or adds, removes or resizes parameters or buffers.

    A layer made in a step is made again in every step: it is never trained. Where it is on another device than the
    step's tensors, which are on the meta device, torch's error gives way to this one.
    """
    start, made = state_shapes(model), list[tuple[str, nn.Parameter]]()

    def note(part: nn.Module, parameter: str, value: nn.Parameter | None) -> None:
        made.extend([(type(part).__name__, value)] if value is not None else [])

    hook = register_module_parameter_registration_hook(note)
    try:
        yield
    except RuntimeError as problem:
        if "meta" in str(problem).lower():
            check_state_shapes(model, name, start)
            _check_none_made(made, name)
        raise
    finally:
        hook.remove()
    check_state_shapes(model, name, start)
    _check_none_made(made, name)


def _check_none_made(made: list[tuple[str, nn.Parameter]], name: str) -> None:
    for layer, value in made:
        if value.requires_grad:
            why = f"a training step makes a layer {layer}: it is new and untrained in every step"
            raise contract_error(
                name, why, "make it in __init__ (self.layer = ...), or freeze it (requires_grad_(False))"
            )


def modules_by_extra_state_key(model: Any) -> dict[str, Any]:
    """Return the modules of a model by the key of their extra state in its state_dict."""
    return {f"{prefix}._extra_state".lstrip("."): part for prefix, part in model.named_modules()}


def check_state(model: Any, name: str) -> dict[str, Any]:
    """Return the model's extra state (get_extra_state); raise OptionError if it cannot be saved and read back.

    The trial file holds empty tensors, so that the check costs little at every save.
    """
    # Refuse tensors that repeat values without storing them.
    extra = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if torch.is_tensor(value) and not value.is_meta and value.numel() > 1 and 0 in value.stride():
            why = f"its '{key}' repeats values without storing them (expand), so a state cannot be loaded into it"
            raise contract_error(name, why, "add .clone() or .contiguous()")
    # Collect extra state.
    for key, part in modules_by_extra_state_key(model).items():
        if type(part).get_extra_state is nn.Module.get_extra_state:
            continue
        if type(part).set_extra_state is nn.Module.set_extra_state:
            why = f"{type(part).__name__} has get_extra_state() but no set_extra_state(state)"
            raise contract_error(name, why, "define both: set_extra_state takes what get_extra_state returns")
        extra[key] = part.get_extra_state()
    # Save it to memory and read it back.
    file = io.BytesIO()
    try:
        torch.save(tree_map(_with_empty_tensor, extra), file)
        safe_load.scan_file(file)
    except Exception as problem:  # any failure to save or read it is an error of the plug-in
        why = f"the state of {', '.join(extra)} cannot be read back ({first_line(problem)})"
        raise contract_error(name, why, "keep only tensors, numbers, strings, lists and dicts") from problem
    return extra


def _with_empty_tensor(value: Any) -> Any:
    """Return an empty tensor for a plain one; other values are unchanged."""
    is_plain = type(value) is torch.Tensor and value.layout == torch.strided
    return torch.empty(0, dtype=value.dtype) if is_plain else value
