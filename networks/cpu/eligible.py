"""When a convolution that knows a faster way on a CPU has to compute as torch's does."""

import torch
from torch import Tensor, nn


def can_use_cpu_kernel(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether a convolution may compute x, said to be (N, C, H, W), in a way of its own.

    It may not on other devices, in 16 bits (each part of a sum would be rounded), while what it does is written down
    for other sizes (traced, exported) or looked at (inference/receptive_field.py), or where x does not fit, which
    torch's tells.
    """
    if not x.is_cpu or x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return False
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return False
    if x.dim() != 4 or x.shape[1] != conv.in_channels:
        return False
    if x.shape[2] < conv.kernel_size[0] or x.shape[3] < conv.kernel_size[1]:
        return False
    return torch.compiler.is_compiling() or not torch.overrides._len_torch_function_stack()
