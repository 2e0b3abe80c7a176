"""Pictures of any size: padded around to what a network needs and cut back, or refused before training."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from util.errors import DataError, OptionError

SIZE_REMEDY = "choose --crop_size, --load_size and --preprocess for such sizes, or another --netD"


def any_size(net: Callable[[Tensor], Tensor], x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Return net(x), for x (N, C, H, W) of any H and W, of a `net` that takes multiples of `multiple` only.

    Other sides, and those below `least`, are padded by reflection, alike on both sides, and what comes out is cut back
    to H and W. A size that fits passes untouched. Differentiable; for networks of plug-ins too.
    """
    height, width = x.shape[2:]
    (top, rows), (left, columns) = (padded_side(side, multiple, least) for side in (height, width))
    if (rows, columns) == (height, width):
        return net(x)
    return net(reflect_pad(x, (top, rows), (left, columns)))[:, :, top : top + height, left : left + width]


def padded_side(side: int, multiple: int, least: int = 1) -> tuple[int, int]:
    """Return how many pixels go before a side, and how long it is then: a multiple, and `least` or more."""
    padded = max(side, least)
    padded += -padded % multiple
    return (padded - side) // 2, padded


def reflect_pad(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return x (N, C, H, W) with (pad_before, padded) rows and columns, the new ones reflected about first and last."""
    for dim, (pad_before, padded) in ((2, rows), (3, columns)):
        if padded != x.shape[dim]:
            x = x.index_select(dim, reflected_indices(x.shape[dim], pad_before, padded, x.device))
    return x


def reflected_indices(side: int, pad_before: int, padded: int, device: torch.device | str = "cpu") -> Tensor:
    """Return which of `side` pixels each of `padded` ones is, by reflections that repeat as often as needed.

    torch's own reflection padding raises where it exceeds the picture.
    """
    period = max(2 * (side - 1), 1)
    steps = torch.arange(-pad_before, padded - pad_before, device=device) % period
    return torch.minimum(steps, period - steps) if side > 1 else torch.zeros_like(steps)


def unfit(height: int, width: int, why: str) -> DataError:
    """Return the error for a picture of a size that a network cannot take."""
    return DataError("picture", f"{width}x{height}", why, SIZE_REMEDY)


def check_sizes(networks: Iterable[nn.Module], height: int, width: int) -> None:
    """Raise OptionError if a network's `check_size` refuses pictures of this size."""
    for net in networks:
        check = getattr(net, "check_size", None)
        if check is not None:
            try:
                check(height, width)
            except DataError as problem:
                raise OptionError(
                    "option", "--crop_size", f"pictures are {width}x{height}; {problem.args[2]}", SIZE_REMEDY
                ) from None
