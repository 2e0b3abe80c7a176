"""Torch's private names that the CPU kernels need; where a torch lacks one, convolutions are torch's own."""

from torch import Tensor, nn
from torch.autograd import forward_ad

try:
    from torch._C import _are_functorch_transforms_active
    from torch._C._functorch import is_legacy_batchedtensor
    from torch.overrides import _len_torch_function_stack

    _ = nn.Conv2d._conv_forward, forward_ad._current_level
    missing_name = ""
except (AttributeError, ImportError) as problem:
    missing_name = str(problem).partition(" (")[0]


def has_function_mode() -> bool:
    """Return whether a torch function mode observes the operations."""
    return bool(_len_torch_function_stack())


def has_transform() -> bool:
    """Return whether torch.func or forward-mode differentiation transforms the operations."""
    return _are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_batched(x: Tensor) -> bool:
    """Return whether x is a batch of tensors of torch's earlier vmap, which vectorised Jacobians use."""
    return is_legacy_batchedtensor(x)
