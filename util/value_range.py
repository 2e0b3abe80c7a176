"""Map the values of image files to [-1, 1] and back."""

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# dtypes whose full range is used; the range of others is measured
FULL_RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")  # dtypes of images
MEASURED_RANGES = ("auto", "percentile")
NUMBER_PATTERN = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class ValueRange(NamedTuple):
    """A range of values of one dtype ("uint8", "float32", ...): min maps to -1 and max to 1.

    As text: "0,65535 uint16".
    """

    min: float
    max: float
    dtype: str = "uint8"

    def __str__(self) -> str:
        return f"{self.min:.17g},{self.max:.17g} {self.dtype}"

    @property
    def is_uint8(self) -> bool:
        """Whether this is the range of plain 8-bit images."""
        return self == UINT8

    def normalise(self, array: np.ndarray) -> np.ndarray:
        """Return the values of a file as float32 in [-1, 1]; values beyond min and max are clamped."""
        fraction = (array.astype(np.float64) - self.min) / (self.max - self.min)
        return (fraction.clip(0, 1) * 2 - 1).astype(np.float32)

    def denormalise(self, image: "Tensor") -> np.ndarray:
        """Return a tensor (C, H, W) in [-1, 1] as an array (H, W, C) of this dtype; integer dtypes are rounded."""
        fraction = (image.detach().cpu().double().clamp(-1, 1).permute(1, 2, 0).contiguous().numpy() + 1) / 2
        numbers = fraction * (self.max - self.min) + self.min
        if self.dtype.startswith("float"):
            return numbers.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return numbers.round().clip(limits.min, limits.max).astype(self.dtype)


UINT8 = ValueRange(0.0, 255.0)


def parse_range(text: str, kind: str = "") -> ValueRange:
    """Return the range in "LO,HI" or "LO,HI KIND"; ValueError for any other text, and unless LO < HI.

    kind: the dtype if the text names none; "" means float32.
    """
    match = re.fullmatch(rf"\s*({NUMBER_PATTERN})\s*,\s*({NUMBER_PATTERN})(?:\s+(\w+))?\s*", text)
    named = match[3] if match else None
    if not match or (named and named not in DTYPES):
        raise ValueError(f"'{text}' is not a range")
    lo, hi = float(match[1]), float(match[2])
    if not (np.isfinite([lo, hi]).all() and lo < hi):
        raise ValueError(f"'{text}' does not go from a lower to a higher number")
    return ValueRange(lo, hi, named or kind or "float32")


def dtype_range(dtype: str) -> ValueRange | None:
    """Return the full range of a dtype; None for a dtype whose range must be measured."""
    return ValueRange(*FULL_RANGES[dtype], dtype) if dtype in FULL_RANGES else None


def measure_range(arrays: list[np.ndarray], kind: str, beyond: float = 0.0) -> ValueRange:
    """Return the range from the minimum to the maximum of arrays; beyond: the fraction cut off at each end."""
    if beyond:
        lo, hi = np.quantile(np.concatenate([array.reshape(-1) for array in arrays]), (beyond, 1 - beyond))
    else:
        lo, hi = min(array.min() for array in arrays), max(array.max() for array in arrays)
    return ValueRange(float(lo), float(hi) if hi > lo else float(lo) + 1, kind)


def option_range(text: str) -> ValueRange:
    """Return the range for a run's --range_A or --range_B: "LO,HI KIND", a KIND only, or "" for uint8."""
    return parse_range(text) if "," in text else dtype_range(text) or UINT8


def range_of_input(text: str, side: str) -> str:
    """Return the part of --range_A for a side: the second of "0,255;0,4095" for A2, the first for A, all of "auto"."""
    parts = text.split(";")
    return parts[min(int(side[1:] or 1), len(parts)) - 1]
