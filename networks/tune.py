"""How networks compute in training, as flags ask and devices need: formats, precision, compilation."""

from typing import Any

import torch
from torch import nn

from networks.precision import lower
from networks.recompute import recompute
from util import memory
from util.errors import printable

# by kind of device: what --memory_format auto and --compile auto mean; those of GPUs have not been measured
FORMATS = {"cuda": "channels_last"}  # CPU: 0.83 to 1.0 times the speed of contiguous; where precision is low only
MODES = {"cuda": "default"}  # CPU: some minutes of compiling for 1.05 to 1.1 times the speed


def tune(networks: dict[str, nn.Module], o: Any, device: torch.device) -> None:
    """Have networks train as --memory_format, --grad_checkpoint, --compile and --amp say, on a kind of device."""
    if device.type == "cpu":
        memory.keep()
    form = o.memory_format
    if form == "auto":
        form = FORMATS.get(device.type, "contiguous") if o.amp != "off" else "contiguous"
    mode = MODES.get(device.type, "off") if o.compile == "auto" else o.compile
    for name, net in networks.items():
        if form == "channels_last":
            net.to(memory_format=torch.channels_last)
        if o.grad_checkpoint:
            recompute(net)
        if mode != "off":
            compiled(name, net, mode)
        if o.amp != "off":
            lower(net, o.amp)


def compiled(name: str, net: nn.Module, mode: str) -> None:
    """Have a network's forward compiled by torch; if that fails, it goes on as it was, with a note."""
    plain = net.forward
    fast = torch.compile(plain, mode=mode)

    def forward(*args: Any, **named: Any) -> Any:
        try:
            return fast(*args, **named)
        except torch._dynamo.exc.TorchDynamoException as problem:
            said = str(problem).strip().splitlines()[0]
            print(printable(f"note: network {name} is not compiled ({said})"), flush=True)
            net.forward = plain  # type: ignore[method-assign]
            return plain(*args, **named)

    net.forward = forward  # type: ignore[method-assign]
