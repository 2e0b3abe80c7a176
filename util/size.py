"""A size of pictures: one number where it is square, else WIDTHxHEIGHT."""

import re
from typing import NamedTuple


class Size(NamedTuple):
    """Width and height in pixels, as people write them: 512x256."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_size(text: str) -> int | Size:
    """Return 256 for "256" and "256x256", Size(512, 256) for "512x256"; ValueError for anything else."""
    if not (match := re.fullmatch(r"\s*(\d{1,9})(?:\s*[xX×]\s*(\d{1,9}))?\s*", text)):
        raise ValueError(f"'{text}' is no size")
    width, height = int(match[1]), int(match[2] or match[1])
    return width if width == height else Size(width, height)


def to_size(size: int | Size) -> Size:
    """Return width and height of either spelling."""
    return size if isinstance(size, Size) else Size(size, size)
