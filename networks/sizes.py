"""Whether pictures of a size fit the networks, asked before training and at every batch."""

from collections.abc import Iterable

from torch import nn

from util.errors import DataError, OptionError

REMEDY = "choose --crop_size, --load_size and --preprocess for such sizes, or another --netG or --netD"


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
