"""Image sizes as text: one number if square, else WIDTHxHEIGHT."""

import math
import re
from typing import NamedTuple


class Size(NamedTuple):
    """Width and height in pixels; its text is 512x256."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_size(text: str) -> int | Size:
    """Return 256 for "256" and "256x256", Size(512, 256) for "512x256"; ValueError for anything else."""
    if not (match := re.fullmatch(r"\s*(\d{1,9})(?:\s*[xX×]\s*(\d{1,9}))?\s*", text)):
        raise ValueError(f"'{text}' is not a size")
    width, height = int(match[1]), int(match[2] or match[1])
    return width if width == height else Size(width, height)


def to_size(size: int | Size) -> Size:
    """Return the width and height of a size in either form."""
    return size if isinstance(size, Size) else Size(size, size)


def nearest_power_of_two(*sizes: int | Size) -> int:
    """Return the power of two that is nearest, on a logarithmic scale, to the smallest side of some sizes."""
    return 2 ** round(math.log2(min(side for size in sizes for side in to_size(size))))
