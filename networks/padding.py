"""Pictures of any size: padded around to what a network needs and cut back, or refused before training."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from util.errors import DataError, OptionError

REMEDY = "choose --crop_size, --load_size and --preprocess for such sizes, or another --netD"


def any_size(net: Callable[[Tensor], Tensor], x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Return net(x), for x (N, C, H, W) of any H and W, of a `net` that takes multiples of `multiple` only.

    Other sides, and those below `least`, are padded by reflection, alike on both sides, and what comes out is cut back
    to H and W. A size that fits passes untouched. Differentiable; for networks of plug-ins too.
    """
    height, width = x.shape[2:]
    (top, rows), (left, columns) = (around(side, multiple, least) for side in (height, width))
    if (rows, columns) == (height, width):
        return net(x)
    return net(reflected(x, (top, rows), (left, columns)))[:, :, top : top + height, left : left + width]


def around(side: int, multiple: int, least: int = 1) -> tuple[int, int]:
    """Return how many pixels go before a side, and how long it is then: a multiple, and `least` or more."""
    whole = max(side, least)
    whole += -whole % multiple
    return (whole - side) // 2, whole


def reflected(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return x (N, C, H, W) with (before, whole) rows and columns, the new ones reflected about the first and last."""
    for dim, (before, whole) in ((2, rows), (3, columns)):
        if whole != x.shape[dim]:
            x = x.index_select(dim, places(x.shape[dim], before, whole, x.device))
    return x


def places(side: int, before: int, whole: int, device: torch.device | str = "cpu") -> Tensor:
    """Return which of `side` pixels each of `whole` ones is, by reflections that repeat as often as needed.

    torch's own reflection padding raises where it exceeds the picture.
    """
    period = max(2 * (side - 1), 1)
    steps = torch.arange(-before, whole - before, device=device) % period
    return torch.minimum(steps, period - steps) if side > 1 else torch.zeros_like(steps)


def unfit(height: int, width: int, why: str) -> DataError:
    """Return the error for a picture of a size that a network cannot take."""
    return DataError("picture", f"{width}x{height}", why, REMEDY)


def check_sizes(networks: Iterable[nn.Module], height: int, width: int) -> None:
    """Raise OptionError if a network's `check_size` refuses pictures of this size."""
    for net in networks:
        check = getattr(net, "check_size", None)
        if check is not None:
            try:
                check(height, width)
            except DataError as problem:
                raise OptionError(
                    "option", "--crop_size", f"pictures are {width}x{height}; {problem.args[2]}", REMEDY
                ) from None
