"""Pad images to a size that a network accepts and crop its output, or reject sizes before training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from util.errors import DataError, OptionError

SIZE_REMEDY = "choose --crop_size, --load_size and --preprocess to give such sizes, or another --netD"


def any_size(net: Callable[[Tensor], Tensor], x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Return net(x) for x (N, C, H, W) of any H and W, where `net` accepts only multiples of `multiple`.

    Other sides, and sides below `least`, are padded by reflection, evenly on both ends, and the output is cropped to
    H and W. An x that fits is passed on unchanged. Differentiable; plug-ins may use it for their networks. While the
    operations are recorded for an export, those that serve any H and W are recorded.
    """
    is_free = torch.compiler.is_exporting() and not all(isinstance(side, int) for side in x.shape[2:])
    if torch.jit.is_tracing() or is_free:
        return _recorded(net, x, multiple, least)
    height, width = x.shape[2:]
    (top, rows), (left, columns) = (padded_side(side, multiple, least) for side in (height, width))
    if (rows, columns) == (height, width):
        return net(x)
    return net(reflect_pad(x, (top, rows), (left, columns)))[:, :, top : top + height, left : left + width]


def _recorded(net: Callable[[Tensor], Tensor], x: Tensor, multiple: int, least: int) -> Tensor:
    """Return what `any_size` returns, without a decision that depends on H or W, so that a recording has none.

    Numbers that depend on them are computed as tensors, because torch's exporters record these for every size.
    """
    height, width = x.shape[2:]
    (rows, top), (columns, left) = (_recorded_indices(side, multiple, least) for side in (height, width))
    out = net(x.index_select(2, rows.to(x.device)).index_select(3, columns.to(x.device)))
    return out[:, :, top : top + height, left : left + width]


def _recorded_indices(side: int, multiple: int, least: int) -> tuple[Tensor, int]:
    """Return the source of each pixel of a padded side, as `reflected_indices`, and the pixels added before it."""
    least_factor = -(-least // multiple)
    factor: Any = (torch.arange(side + multiple - 1, side + multiple) // multiple).clamp(min=least_factor)
    if torch.jit.is_tracing():
        factor = factor[0]
    else:  # an integer that torch.export knows nothing about, so that it cannot depend on its value
        factor = factor.item()
        torch._check(factor >= least_factor)
    padded = factor * multiple
    before = (padded - side) // 2
    last = torch.arange(side - 1, side)
    period = (2 * last).clamp(min=1)
    steps = torch.remainder(torch.arange(padded) - torch.arange(before, before + 1), period)
    return torch.minimum(torch.minimum(steps, period - steps), last), before


def padded_side(side: int, multiple: int, least: int = 1) -> tuple[int, int]:
    """Return (pixels added before a side, its padded length); the length is a multiple and at least `least`."""
    padded = max(side, least)
    padded += -padded % multiple
    return (padded - side) // 2, padded


def reflect_pad(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return x (N, C, H, W) padded by reflection; rows and columns are (pixels added before, padded length)."""
    for dim, (pad_before, padded) in ((2, rows), (3, columns)):
        if padded != x.shape[dim]:
            x = x.index_select(dim, reflected_indices(x.shape[dim], pad_before, padded, x.device))
    return x


def reflected_indices(side: int, pad_before: int, padded: int, device: torch.device | str = "cpu") -> Tensor:
    """Return for each of `padded` pixels the index of its source in `side` pixels, reflected as often as needed.

    torch's own reflection padding raises an error if the padding is not smaller than the image.
    """
    period = max(2 * (side - 1), 1)
    steps = torch.arange(-pad_before, padded - pad_before, device=device) % period
    return torch.minimum(steps, period - steps) if side > 1 else torch.zeros_like(steps)


def unfit(height: int, width: int, why: str) -> DataError:
    """Return the error for an image of a size that a network cannot process."""
    return DataError("picture", f"{width}x{height}", why, SIZE_REMEDY)


@contextmanager
def checked_sizes(model: nn.Module) -> Iterator[None]:
    """Inside the block, images are checked by the `check_size` of every network that is given them.

    Raises OptionError for the first image that a network cannot process; `unfit` raised by a forward pass counts too.
    """
    parts = [part for part in model.modules() if callable(getattr(part, "check_size", None))]
    hooks = [part.register_forward_pre_hook(_check_input, with_kwargs=True) for part in parts]
    try:
        yield
    except DataError as problem:
        if problem.args[0] != "picture":
            raise
        why = f"images are {problem.args[1]}; {problem.args[2]}"
        raise OptionError("option", "--crop_size", why, SIZE_REMEDY) from None
    finally:
        for hook in hooks:
            hook.remove()


def _check_input(net: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    for image in (*args, *named.values()):
        if isinstance(image, Tensor) and image.dim() == 4:
            net.check_size(*image.shape[2:])
            return
