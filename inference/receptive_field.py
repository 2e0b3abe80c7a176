"""Measure a network's receptive field and size multiple by tracing its operations."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from networks.toolbox.noise_input import image_channels

CONV_ARGUMENTS = "input", "weight", "bias", "stride", "padding", "dilation", "groups"
CONV_TRANSPOSE_ARGUMENTS = "input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"
# in pixels of the input
INTERPOLATION_RADIUS = {"nearest": 0.5, "nearest-exact": 0.5, "area": 0.5, "bilinear": 1.0, "bicubic": 2.0}


class ReceptiveField(NamedTuple):
    """Output pixels depend on input pixels up to `radius` away; the network works on multiples of `multiple`."""

    radius: float
    multiple: int


def receptive_field(net: nn.Module) -> ReceptiveField | None:
    """Return the receptive field of a network whose output is an image of its input's size, None for other networks.

    Every operation adds half its kernel's width in input pixels. Branches are added up as if they were a sequence, so
    the radius may be too large, but never too small. It is infinite if an operation pools the whole image, or takes a
    softmax of (N, positions, positions), as attention does. Statistics of norms do not count. The trace uses meta
    tensors (shapes without values); if the network fails on them, it uses a real image of 256x256 pixels.
    """
    for device, side in (("meta", 1024), (None, 256)):
        try:
            return _measure(net, device, side)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):  # other inputs, or it needs values
            continue
    return None


def _measure(net: nn.Module, device: str | None, side: int) -> ReceptiveField | None:
    in_channels = image_channels(net, 3)
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    state = {name: value.detach().to(device or value.device, copy=True) for name, value in state.items()}
    reference = next((value for value in state.values() if value.is_floating_point()), torch.zeros(0))
    picture = torch.zeros(1, in_channels, side, side, device=device or reference.device, dtype=reference.dtype)
    with torch.no_grad(), torch.random.fork_rng(), _ReceptiveFieldMode(side) as mode:
        out = functional_call(net, state, (picture,))
    if not isinstance(out, Tensor) or out.dim() != 4 or out.shape[2:] != picture.shape[2:]:
        return None
    return ReceptiveField(mode.radius, mode.multiple)


class _ReceptiveFieldMode(TorchFunctionMode):
    """Adds up the reach of all operations, whether a layer or a forward method calls them."""

    def __init__(self, side: int):
        super().__init__()
        self.side, self.radius, self.multiple = side, 0.0, 1

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("conv2d", "conv_transpose2d"):
            names = CONV_TRANSPOSE_ARGUMENTS if "transpose" in name else CONV_ARGUMENTS
            bound = dict(zip(names, args)) | (kwargs or {})
            reach = max(_pair(bound.get("dilation", 1))[i] * (bound["weight"].shape[2 + i] - 1) / 2 for i in (0, 1))
            self._add(reach, out if "transpose" in name else bound["input"])
            self._add(0, out)
        elif name in ("max_pool2d", "avg_pool2d", "max_pool2d_with_indices"):
            bound = dict(zip(("input", "kernel_size"), args)) | (kwargs or {})
            self._add((max(_pair(bound["kernel_size"])) - 1) / 2, bound["input"])
        elif name == "interpolate":
            bound = inspect.signature(func).bind(*args, **(kwargs or {})).arguments
            self._add(INTERPOLATION_RADIUS.get(bound.get("mode", "nearest"), 2.0), bound["input"])
        elif name.startswith("adaptive_") or (name == "softmax" and out.dim() == 3):  # attention over positions
            self.radius = math.inf
        return out

    def _add(self, reach: float, x: Tensor) -> None:
        """Add a reach in pixels of x; a pixel of x covers as many input pixels as the input is wider than x."""
        if x.shape[-1] == 1:  # one value for the whole image
            self.radius = math.inf
            return
        pixel = self.side / x.shape[-1]
        pixel = round(pixel) if pixel > 0.75 else pixel  # round, because x may be padded
        self.radius += reach * pixel
        self.multiple = max(self.multiple, round(pixel))


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) * (2 // len(value)) if isinstance(value, tuple | list) else (value, value)
