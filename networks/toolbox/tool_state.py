"""The state of the toolbox: buffers that are in no state_dict, so that keys stay the same, but in a run's state."""

from collections.abc import Mapping

from torch import Tensor, nn

PREFIX = "tool_"  # of the names of these buffers, which are not persistent


def keep(part: nn.Module, name: str, value: Tensor) -> None:
    """Give a part a buffer that is in the run's state and in no state_dict."""
    part.register_buffer(PREFIX + name, value, persistent=False)


def kept(part: nn.Module, name: str) -> Tensor:
    """Return such a buffer; raise KeyError if there is none."""
    value = part._buffers[PREFIX + name]
    assert value is not None
    return value


def state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return {name in the model: value} of all these buffers; {} if no tool has a state."""
    own = {name: value for name, value in model.named_buffers() if name.rpartition(".")[2].startswith(PREFIX)}
    return {name: value.detach() for name, value in own.items()}  # without attributes that torch.compile adds


def load_state_dict(model: nn.Module, saved: Mapping[str, Tensor]) -> list[str]:
    """Restore what state_dict returned; return a note if a tool starts afresh, or if the state of one is dropped.

    Raise ValueError for values of other shapes.
    """
    parts, own = dict(model.named_modules()), state_dict(model)
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    for name in saved.keys() - own.keys():
        path, _, word = name.rpartition(".")
        if shape_of := getattr(parts.get(path), "tool_shape", None):  # it makes its buffers when it first needs them
            shapes[name] = shape_of(word.removeprefix(PREFIX))
    usable = saved.keys() & shapes.keys()
    for name in usable:
        if shapes[name] != tuple(saved[name].shape):
            raise ValueError(f"the state of {name} is {tuple(saved[name].shape)}, not {shapes[name]}")
    for name in usable:
        path, _, word = name.rpartition(".")
        if name in own:
            own[name].copy_(saved[name])
        else:
            keep(parts[path], word.removeprefix(PREFIX), saved[name].to(next(iter(model.parameters())).device))
    afresh = ["note: a tool of the toolbox has no saved state: it starts afresh"] * bool(own.keys() - saved.keys())
    dropped = ["note: the saved state of a tool that is off now is dropped"] * bool(saved.keys() - usable)
    return afresh + dropped
