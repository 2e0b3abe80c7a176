"""Mixed precision: networks in training compute in 16 bits where that is safe, all around them stays in 32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_disabled_depth = 0  # how many blocks of disable_autocast are open


def apply_autocast(net: nn.Module, dtype_name: str) -> None:
    """Have a network compute in `dtype_name` of AMP_DTYPES in training, by torch.autocast; its results have 32 bits.

    Weights keep 32 bits. In evaluation nothing changes, so that samples on the page are what test.py gives.
    """
    forward = net.forward

    def autocast_forward(*args: Any, **kwargs: Any) -> Any:
        device = next((x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), "cpu")
        if device == "meta":  # which has no such thing
            return forward(*args, **kwargs)
        with torch.autocast(device, AMP_DTYPES[dtype_name], enabled=net.training and not _disabled_depth):
            return tree_map(_to_float32, forward(*args, **kwargs))

    net.forward = autocast_forward  # type: ignore[method-assign]


@contextmanager
def disable_autocast() -> Iterator[None]:
    """Have all networks compute in 32 bits inside the block: for what is differentiated twice."""
    global _disabled_depth
    _disabled_depth += 1
    try:
        yield
    finally:
        _disabled_depth -= 1


def _to_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in AMP_DTYPES.values() else value
