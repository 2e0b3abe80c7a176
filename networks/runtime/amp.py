"""Mixed precision: run networks under torch.autocast in training and keep weights, outputs and losses in float32."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from networks.runtime.network_calls import Entry, is_training, tune_calls

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PADDINGS = (nn.ReflectionPad2d, nn.ReplicationPad2d)
_disabled_depth = 0  # number of active disable_autocast blocks


def apply_autocast(net: nn.Module, dtype_name: str) -> None:
    """Make a network run under torch.autocast in training, with a dtype of AMP_DTYPES; its outputs are float32.

    So do its other methods and its parts where they are called by themselves. Weights stay float32. Evaluation does not
    use autocast, so samples on the page equal the output of test.py.
    """
    for part in net.modules():
        if type(part) in PADDINGS and "forward" not in vars(part):
            part.forward = partial(_pad_as_is, part)  # type: ignore[method-assign]
    tune_calls("", net, "amp", partial(_autocast_call, dtype=AMP_DTYPES[dtype_name]))


def _pad_as_is(part: Any, x: Tensor) -> Tensor:
    """Return what a padding layer returns, in 16 bits for 16 bits; autocast widens these layers' input on a CPU."""
    with torch.autocast(x.device.type, enabled=False) if x.is_cpu else nullcontext():
        return type(part).forward(part, x)


def _autocast_call(entry: Entry, dtype: torch.dtype) -> Callable:
    def autocast_call(*args: Any, **kwargs: Any) -> Any:
        device = next((x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), "cpu")
        if device == "meta":  # torch.autocast does not support it
            return entry.plain(*args, **kwargs)
        with torch.autocast(device, dtype, enabled=is_training(entry.net) and not _disabled_depth):
            return tree_map(to_float32, entry.plain(*args, **kwargs))

    return autocast_call


@contextmanager
def disable_autocast() -> Iterator[None]:
    """Make all networks compute in float32 inside the block, because second derivatives need full precision."""
    global _disabled_depth
    _disabled_depth += 1
    try:
        yield
    finally:
        _disabled_depth -= 1


def is_autocast_disabled() -> bool:
    """Whether a disable_autocast block is active: second derivatives are being computed."""
    return _disabled_depth > 0


def to_float32(value: Any) -> Any:
    """Return a tensor of 16 bits in float32; other values are unchanged."""
    return value.float() if isinstance(value, Tensor) and value.dtype in AMP_DTYPES.values() else value
