"""Decide whether a convolution may use its fast CPU kernel instead of torch's."""

import torch
from torch import Tensor, nn

from networks.cpu import torch_private

DEFAULT_CONV = (1, 1), (1, 1), 1, "zeros"  # stride, dilation, groups, padding mode


def is_default_conv(conv: nn.Conv2d) -> bool:
    """Return whether a convolution has stride 1, no dilation or groups, and zero padding of a number of pixels."""
    settings = conv.stride, conv.dilation, conv.groups, conv.padding_mode
    return settings == DEFAULT_CONV and not isinstance(conv.padding, str)


def can_use_cpu_kernel(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether a convolution's fast CPU kernel may replace torch's for input x, (N, C, H, W) if it is valid.

    It may not on other devices, in 16 bits (partial sums would be rounded), while the operations are recorded for
    other sizes (tracing, export) or observed by a torch function mode (inference/receptive_field.py), or if x does not
    fit, because torch's convolution then raises the error.
    """
    if torch_private.missing_name or not x.is_cpu or x.dtype not in (torch.float32, torch.float64):
        return False
    if torch.is_autocast_enabled("cpu") or torch.jit.is_tracing() or torch.compiler.is_exporting():
        return False
    if x.dim() != 4 or x.shape[1] != conv.in_channels:
        return False
    if x.shape[2] < conv.kernel_size[0] or x.shape[3] < conv.kernel_size[1]:
        return False
    return torch.compiler.is_compiling() or not torch_private.has_function_mode()
