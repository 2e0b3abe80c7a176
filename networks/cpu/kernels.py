"""Put CPU kernels into the convolutions of networks, whose layers stay plain nn.Conv2d."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from networks.cpu import narrow_conv, torch_private, winograd_conv
from util.errors import print_line

KERNELS = {"winograd": winograd_conv, "narrow": narrow_conv}


def mark_former_kernel(conv: nn.Conv2d, name: str) -> nn.Conv2d:
    """Return a convolution after naming the kernel that it has also in runs begun before --fast_convolutions."""
    conv.former_kernel = name  # type: ignore[assignment]
    return conv


def apply_cpu_kernels(networks: Iterable[nn.Module], fast_convolutions: bool | None, device: torch.device) -> None:
    """Make convolutions compute with their CPU kernels, as --fast_convolutions says; do nothing on other devices.

    True: each layer for which a kernel is faster. False: none. None: those whose architecture names a `former_kernel`,
    for runs whose options do not have the flag. A kernel replaces `_conv_forward` of the instance, so the class of the
    layer, its keys, hooks and copies are a plain convolution's. Layers that define their own convolution keep it.
    """
    if fast_convolutions is False or device.type != "cpu":
        return
    if torch_private.missing_name:
        print_line(f"note: convolutions are torch's own, which are slower ({torch_private.missing_name})")
        return
    for conv in (layer for net in networks for layer in net.modules() if isinstance(layer, nn.Conv2d)):
        name = getattr(conv, "former_kernel", None)
        if fast_convolutions and not name:
            name = next((name for name, kernel in KERNELS.items() if kernel.fits(conv)), None)
        if name and type(conv)._conv_forward is nn.Conv2d._conv_forward:
            conv._conv_forward = partial(KERNELS[name].convolve, conv)  # type: ignore[method-assign]
