"""Apply --fast_convolutions, --memory_format, --grad_checkpoint, --compile and --amp to networks, and keep memory."""

from typing import Any

import torch
from torch import nn

from networks.cpu.kernels import apply_cpu_kernels
from networks.runtime.amp import apply_autocast
from networks.runtime.compiled import compile_network
from networks.runtime.grad_checkpoint import checkpoint_activations
from util import malloc
from util.errors import print_line

# The meaning of auto where no trial is made (training/trials). On a CPU, channels_last runs at 0.83 to 1.0 times the
# speed in 32 bits, and minutes of compiling gain a factor of 1.01 to 1.1. On an H100 neither was worth it.
AUTO_MEMORY_FORMAT, AUTO_COMPILE_MODE = "contiguous", "off"


def apply_runtime_options(networks: dict[str, nn.Module], o: Any, device: torch.device) -> None:
    """Set networks up for training on a device, as all of these flags say."""
    if device.type == "cpu":
        malloc.keep_freed_memory()
    memory_format = AUTO_MEMORY_FORMAT if o.memory_format == "auto" else o.memory_format
    compile_mode = AUTO_COMPILE_MODE if o.compile == "auto" else o.compile
    apply_cpu_kernels(networks.values(), o.fast_convolutions, device)
    for name, net in networks.items():
        if memory_format == "channels_last":
            _to_channels_last(net)
        if o.grad_checkpoint:
            checkpoint_activations(net)
            if not any(isinstance(part, nn.Sequential) for part in net.modules()):
                print_line(f"note: --grad_checkpoint has no effect on network {name}, which has no nn.Sequential")
        if compile_mode != "off":
            compile_network(name, net, compile_mode, graphs=device.type == "cuda" and compile_mode != "default")
        if o.amp not in ("off", "auto"):
            apply_autocast(net, o.amp)


def _to_channels_last(net: nn.Module) -> None:
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.dim() == 4:  # a weight may have five
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def apply_inference_options(networks: dict[str, nn.Module], o: Any, device: torch.device) -> None:
    """Set networks up for test.py: with the run's --fast_convolutions; without a run, with the former kernels."""
    apply_cpu_kernels(networks.values(), o.fast_convolutions if o.remembered else None, device)
    if device.type == "cpu" and not o.tile:  # --tile is for huge images, when memory is short
        malloc.keep_freed_memory()
