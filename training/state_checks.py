"""Check that the state of a model can be saved and loaded again."""

import io
from typing import Any

from registry.contract import _is_tensor, contract_error


def state_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters and lasting buffers, of which a state consists."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for prefix, part in model.named_modules():
        for name, value in part._buffers.items():
            if value is not None and name not in part._non_persistent_buffers_set:
                shapes[f"{prefix}.{name}".lstrip(".")] = tuple(value.shape)
    return shapes


def check_state_shapes(model: Any, name: str, before: dict[str, tuple[int, ...]]) -> None:
    """Raise OptionError if parameters or buffers came, went or changed their shape since the model was built.

    A model built anew could not load them. What loads itself in its own way (_load_from_state_dict) is trusted.
    """
    from torch import nn

    custom_loading = any(type(part)._load_from_state_dict is not nn.Module._load_from_state_dict
                         and not type(part).__module__.startswith("torch.") for part in model.modules())  # fmt: skip
    now = {} if custom_loading else state_shapes(model)
    for key in [*now, *(key for key in before if key not in now)] if now else ():
        if now.get(key) != before.get(key):
            changed = f"has changed from {before.get(key)} to {now.get(key)}" if key in before and key in now else (
                "was added after __init__" if key in now else "is gone since __init__")  # fmt: skip
            why = f"its parameter or buffer '{key}' {changed}: a continued run could not load it"
            raise contract_error(name, why, "build it in __init__ in its final size, or keep it in get_extra_state")


def modules_by_extra_state_key(model: Any) -> dict[str, Any]:
    """Return each part of a model under the key that its extra state has in the model's state_dict."""
    return {f"{prefix}._extra_state".lstrip("."): part for prefix, part in model.named_modules()}


def check_state(model: Any, name: str) -> dict[str, Any]:
    """Return the model's state beside its tensors (get_extra_state); OptionError if it could not be read again.

    Tensors in it are tried empty, so that this costs little at every save.
    """
    import torch

    from serialization import safe_load

    extra = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if _is_tensor(value) and not value.is_meta and value.numel() > 1 and 0 in value.stride():
            why = f"its '{key}' repeats values without holding them (expand), so that no state could be loaded into it"
            raise contract_error(name, why, "add .clone() or .contiguous()")
    for key, part in modules_by_extra_state_key(model).items():
        if type(part).get_extra_state is torch.nn.Module.get_extra_state:
            continue
        if type(part).set_extra_state is torch.nn.Module.set_extra_state:
            why = f"{type(part).__name__} has get_extra_state() but no set_extra_state(state)"
            raise contract_error(name, why, "define both: one gives what the other takes")
        extra[key] = part.get_extra_state()
    file = io.BytesIO()
    try:
        torch.save({key: _with_empty_tensors(value) for key, value in extra.items()}, file)
        safe_load.scan_file(file)
    except Exception as problem:  # whatever saving or reading says of it, the plug-in has to change
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        why = f"the state of {', '.join(extra)} could not be read again ({first})"
        raise contract_error(name, why, "keep tensors, numbers, texts, lists and dictionaries") from problem
    return extra


def _with_empty_tensors(value: Any) -> Any:
    """Return a structure with its plain tensors empty; everything else as it is."""
    import torch

    if type(value) is torch.Tensor and value.layout == torch.strided:
        return torch.empty(0, dtype=value.dtype)
    if type(value) is dict:
        return {key: _with_empty_tensors(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with_empty_tensors(item) for item in value)
    return value
