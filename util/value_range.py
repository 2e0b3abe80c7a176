"""What the numbers in picture files mean: which of them become -1 and 1, and the way back."""

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

FULL = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}  # of types whose whole range is used; others are measured
KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")  # as pictures are read
TO_BE_MEASURED = ("auto", "percentile")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


class Values(NamedTuple):
    """Numbers of one kind ("uint8", "float32", ...), of which lo becomes -1 and hi becomes 1.

    As text: "0,65535 uint16".
    """

    lo: float
    hi: float
    kind: str = "uint8"

    def __str__(self) -> str:
        return f"{self.lo:.17g},{self.hi:.17g} {self.kind}"

    @property
    def usual(self) -> bool:
        """Whether these are plain 8-bit pictures."""
        return self == USUAL

    def scaled(self, array: np.ndarray) -> np.ndarray:
        """Return numbers of a file as float32 in [-1, 1]; what is beyond lo and hi is clamped."""
        share = (array.astype(np.float64) - self.lo) / (self.hi - self.lo)
        return (share.clip(0, 1) * 2 - 1).astype(np.float32)

    def restored(self, image: "Tensor") -> np.ndarray:
        """Return a tensor (C, H, W) in [-1, 1] as numbers of its kind, (H, W, C); whole numbers are rounded."""
        share = (image.detach().cpu().double().clamp(-1, 1).permute(1, 2, 0).contiguous().numpy() + 1) / 2
        numbers = share * (self.hi - self.lo) + self.lo
        if self.kind.startswith("float"):
            return numbers.astype(self.kind)
        limits = np.iinfo(self.kind)
        return numbers.round().clip(limits.min, limits.max).astype(self.kind)


USUAL = Values(0.0, 255.0)


def parse(text: str, kind: str = "") -> Values:
    """Return the values that "LO,HI" or "LO,HI KIND" names; ValueError for any other text, and unless LO < HI.

    kind: where the text names none; "" stands for float32.
    """
    match = re.fullmatch(rf"\s*({NUMBER})\s*,\s*({NUMBER})(?:\s+(\w+))?\s*", text)
    named = match[3] if match else None
    if not match or (named and named not in KINDS):
        raise ValueError(f"'{text}' is no range")
    lo, hi = float(match[1]), float(match[2])
    if not (np.isfinite([lo, hi]).all() and lo < hi):
        raise ValueError(f"'{text}' does not go from a lower to a higher number")
    return Values(lo, hi, named or kind or "float32")


def of_type(kind: str) -> Values | None:
    """Return the values of a type whose whole range is used; None for one whose pictures have to be measured."""
    return Values(*FULL[kind], kind) if kind in FULL else None


def measured(arrays: list[np.ndarray], kind: str, beyond: float = 0.0) -> Values:
    """Return the least and the greatest number of some arrays as values; beyond: the share left out at either end."""
    if beyond:
        lo, hi = np.quantile(np.concatenate([array.reshape(-1) for array in arrays]), (beyond, 1 - beyond))
    else:
        lo, hi = min(array.min() for array in arrays), max(array.max() for array in arrays)
    return Values(float(lo), float(hi) if hi > lo else float(lo) + 1, kind)


def of_option(text: str) -> Values:
    """Return the values of results under a run's --range_A or --range_B: "LO,HI KIND", the KIND alone, or ""."""
    return parse(text) if "," in text else of_type(text) or USUAL


def side(label: str) -> str:
    """Return of which side, "A" or "B", the pictures of a label are: real_A and rec_A of A, fake and idt_B of B."""
    return "A" if re.search(r"(^|_)A(_|$)", label) or label == "real" else "B"
