"""How networks compute in training, as flags ask and devices need: formats, precision, compilation."""

from typing import Any

import torch
from torch import nn

from networks.runtime.amp import lower
from networks.runtime.compiled import compiled
from networks.runtime.grad_checkpoint import recompute
from util import malloc

# What --memory_format auto and --compile auto mean. Measured was a CPU, where channels_last has 0.83 to 1.0 times the
# speed and minutes of compiling bring 1.01 to 1.1 times, and an H100 (docs/performance.md), where neither paid
AUTO_FORMAT, AUTO_MODE = "contiguous", "off"


def tune(networks: dict[str, nn.Module], o: Any, device: torch.device) -> None:
    """Have networks train as --memory_format, --grad_checkpoint, --compile and --amp say, on a kind of device."""
    if device.type == "cpu":
        malloc.keep()
    form = AUTO_FORMAT if o.memory_format == "auto" else o.memory_format
    mode = AUTO_MODE if o.compile == "auto" else o.compile
    for name, net in networks.items():
        if form == "channels_last":
            net.to(memory_format=torch.channels_last)
        if o.grad_checkpoint:
            recompute(net)
        if mode != "off":
            compiled(name, net, mode, graphs=device.type == "cuda" and mode != "default")
        if o.amp != "off":
            lower(net, o.amp)
