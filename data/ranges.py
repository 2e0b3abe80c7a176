"""Which numbers of a data set become -1 and 1, by --range, --range_A and --range_B."""

from collections.abc import Callable
from typing import Any

import numpy as np

from data.raster import pixels
from data.transforms import Picture, asked_ranges
from util.seeding import seeded
from util.values import FULL, measured, parse

SAMPLES = 1000  # that are measured at most, evenly spread
NUMBERS = 20_000  # of a picture that percentiles are taken of
BEYOND = 0.001  # share of the numbers that percentile leaves below, and above


def find_ranges(dataset: Any, sample: Callable[[int], Any]) -> tuple[str, str]:
    """Return texts as --range_A and --range_B take them, measured where need be, and set the data set's values.

    sample: makes a sample, or tells what is wrong with it in its place. "LO,HI KIND" is a range; a KIND alone, the type
    of the files' numbers, stands for all that the type can hold; "" for ordinary pictures of 8 bits.
    """
    first = _Seen(dataset, sample, [0])
    found, unknown = {}, {}
    for side, kind in first.kinds.items():
        asked = asked_ranges(dataset.o)[side]
        if "," in asked:
            found[side] = str(parse(asked, kind))
        elif asked in ("auto", "percentile") or (kind not in FULL and asked not in FULL):
            unknown[side] = asked
        else:
            found[side] = (asked or kind).removeprefix("uint8")
    if unknown:
        step = max(1, -(-len(dataset) // SAMPLES))
        every = _Seen(dataset, sample, list(range(0, len(dataset), step)))
        for side, asked in unknown.items():
            if not asked and len(every.every[side]) > 1:
                print(f"range of {side}: each file's own, for they hold {', '.join(sorted(every.every[side]))}")
                found[side] = ""
                continue
            beyond = BEYOND if asked == "percentile" else 0.0
            values = measured(every.numbers(side, asked), first.kinds[side], beyond)
            extent = f"{values.lo:g} to {values.hi:g}, measured on {every.count} of {len(dataset)} samples"
            print(f"range of {side}: {extent}")
            found[side] = str(values)
    dataset.preprocess.values = {side: parse(text) if "," in text else None for side, text in found.items()}
    return found.get("A", ""), found.get("B", "")


class _Seen:
    """What a data set's preprocessing is given for some samples, by side."""

    def __init__(self, dataset: Any, sample: Callable[[int], Any], indices: list[int]):
        self.kinds: dict[str, str] = {}  # of the first picture
        self.every: dict[str, set[str]] = {side: set() for side in "AB"}
        self.extremes: dict[str, list[np.ndarray]] = {side: [] for side in "AB"}
        self.some: dict[str, list[np.ndarray]] = {side: [] for side in "AB"}
        self.count = len(indices)
        usual, dataset.preprocess.seen = dataset.preprocess.seen, self.note
        try:
            for index in indices:
                with seeded(index):  # whatever it draws, the run's own generators stay untouched
                    sample(index)
        finally:
            dataset.preprocess.seen = usual

    def note(self, side: str, picture: Picture) -> None:
        array = pixels(picture)
        self.kinds.setdefault(side, array.dtype.name)
        self.every[side].add(array.dtype.name)
        self.extremes[side].append(np.array([array.min(), array.max()], dtype=np.float64))
        flat = array.reshape(-1)
        self.some[side].append(flat[:: max(1, flat.size // NUMBERS)].astype(np.float64))

    def numbers(self, side: str, asked: str) -> list[np.ndarray]:
        return self.some[side] if asked == "percentile" else self.extremes[side]
