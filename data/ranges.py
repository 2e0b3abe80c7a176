"""Which numbers of a data set become -1 and 1, by --range, --range_A and --range_B."""

from collections.abc import Callable
from typing import Any

import numpy as np

from data.decoding.raster import Picture, pixels
from data.transforms import Preprocess, asked_ranges
from util.seeding import seeded
from util.value_range import FULL, TO_BE_MEASURED, Values, measured, of_type, parse

SAMPLES = 1000  # that are measured at most, evenly spread
NUMBERS = 20_000  # of a picture that percentiles are taken of
LITTLE = 0.1  # share of a range below which people are told
BEYOND = 0.001  # share of the numbers that percentile leaves below, and above


class Seen:
    """What preprocessing is given while this is entered: kinds of numbers by side, and their extremes.

    keeps: some of the numbers too, for percentiles.
    """

    def __init__(self, preprocess: Preprocess, keeps: bool = False):
        self.preprocess, self.keeps = preprocess, keeps
        self.kinds: dict[str, str] = {}  # of the first picture
        self.every: dict[str, set[str]] = {side: set() for side in "AB"}
        self.extremes: dict[str, list[np.ndarray]] = {side: [] for side in "AB"}
        self.some: dict[str, list[np.ndarray]] = {side: [] for side in "AB"}

    def __enter__(self) -> "Seen":
        self.before, self.preprocess.seen = self.preprocess.seen, self._note
        return self

    def __exit__(self, *problem: object) -> None:
        self.preprocess.seen = self.before

    def _note(self, side: str, picture: Picture) -> None:
        array = pixels(picture)
        self.kinds.setdefault(side, array.dtype.name)
        self.every[side].add(array.dtype.name)
        self.extremes[side].append(np.array([array.min(), array.max()], dtype=np.float64))
        if self.keeps:
            flat = array.reshape(-1)
            self.some[side].append(flat[:: max(1, flat.size // NUMBERS)].astype(np.float64))

    def values(self, side: str, asked: str) -> Values:
        """Return the range of what was seen, without the outermost thousandths for "percentile"."""
        if asked == "percentile":
            return measured(self.some[side], self.kinds[side], BEYOND)
        return measured(self.extremes[side], self.kinds[side])


def find_ranges(dataset: Any, first: Seen, sample: Callable[[int], Any]) -> tuple[str, str]:
    """Return texts as --range_A and --range_B take them, measured where need be, and set the data set's values.

    first: what preprocessing was given for the first sample. sample: makes one, or tells in its place what is wrong
    with it. "LO,HI KIND" is a range; a KIND alone, the type of the files' numbers, stands for all that the type can
    hold; "" for ordinary pictures of 8 bits.
    """
    found, unknown = {}, {}
    for side, kind in first.kinds.items():
        asked = asked_ranges(dataset.o)[side]
        if "," in asked:
            found[side] = str(parse(asked, kind))
        elif asked in TO_BE_MEASURED or (kind not in FULL and asked not in FULL):
            unknown[side] = asked
        else:
            found[side] = (asked or kind).removeprefix("uint8")
    if unknown:
        indices = range(0, len(dataset), max(1, -(-len(dataset) // SAMPLES)))
        with Seen(dataset.preprocess, keeps="percentile" in unknown.values()) as every:
            for index in indices:
                with seeded(index):  # whatever it draws, the run's own generators stay untouched
                    sample(index)
        for side, asked in unknown.items():
            if not asked and len(every.every[side]) > 1:
                print(f"range of {side}: each file's own, for they hold {', '.join(sorted(every.every[side]))}")
                found[side] = ""
                continue
            values = every.values(side, asked)
            said = f"range of {side}: {values.lo:g} to {values.hi:g}"
            kinds = ", ".join(sorted(every.every[side]))
            mixed = f"; one range for files of {kinds}" if len(every.every[side]) > 1 else ""
            print(f"{said}, measured on {len(indices)} of {len(dataset)} samples{mixed}")
            found[side] = str(values)
    for side, text in found.items():
        _hint(side, first, parse(text) if "," in text else of_type(text))
    dataset.preprocess.values |= {side: parse(text) if "," in text else None for side, text in found.items()}
    return found.get("A", ""), found.get("B", "")


def _hint(side: str, first: Seen, values: Values | None) -> None:
    """Say so where the first picture uses little of a range, as 12 bits in files of 16 do: results would look good."""
    if values is None or not first.extremes[side]:  # ordinary pictures of 8 bits may be dark
        return
    lo, hi = (float(n) for n in first.extremes[side][0])
    if hi - lo < LITTLE * (values.hi - values.lo):
        print(f"hint: the first picture of {side} holds {lo:g} to {hi:g}, a little of the range {values.lo:g} to "
              f"{values.hi:g}; --range auto uses all of it")  # fmt: skip
