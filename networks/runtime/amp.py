"""Mixed precision: networks in training compute in 16 bits where that is safe, all around them stays in 32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_in_full = 0  # how many blocks of full_precision are open


def lower(net: nn.Module, kind: str) -> None:
    """Have a network compute in `kind` of KINDS in training, by torch.autocast; what it returns has 32 bits.

    Weights keep 32 bits. In evaluation nothing changes, so that samples on the page are what test.py gives.
    """
    forward = net.forward

    def lowered(*args: Any, **named: Any) -> Any:
        device = next((x.device.type for x in (*args, *named.values()) if isinstance(x, Tensor)), "cpu")
        if device == "meta":  # which has no such thing
            return forward(*args, **named)
        with torch.autocast(device, KINDS[kind], enabled=net.training and not _in_full):
            return tree_map(_widened, forward(*args, **named))

    net.forward = lowered  # type: ignore[method-assign]


@contextmanager
def full_precision() -> Iterator[None]:
    """Have all networks compute in 32 bits inside the block: for what is differentiated twice."""
    global _in_full
    _in_full += 1
    try:
        yield
    finally:
        _in_full -= 1


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in KINDS.values() else value
