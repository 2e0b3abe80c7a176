"""Mixed precision: run networks under torch.autocast in training and keep weights, outputs and losses in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_disabled_depth = 0  # number of active disable_autocast blocks


def apply_autocast(net: nn.Module, dtype_name: str) -> None:
    """Make a network run under torch.autocast in training, with a dtype of AMP_DTYPES; its outputs are float32.

    Weights stay float32. Evaluation does not use autocast, so samples on the page equal the output of test.py.
    """
    forward = net.forward

    def autocast_forward(*args: Any, **kwargs: Any) -> Any:
        device = next((x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), "cpu")
        if device == "meta":  # torch.autocast does not support it
            return forward(*args, **kwargs)
        with torch.autocast(device, AMP_DTYPES[dtype_name], enabled=net.training and not _disabled_depth):
            return tree_map(_to_float32, forward(*args, **kwargs))

    net.forward = autocast_forward  # type: ignore[method-assign]


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


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in AMP_DTYPES.values() else value
