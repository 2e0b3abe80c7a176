"""Determine which values in a dataset's files become -1 and 1, from --range, --range_A and --range_B."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from data.decoding.raster import Picture, to_array
from data.transforms import Preprocess, range_flag
from util.errors import OptionError, print_line
from util.seeding import fork_rng
from util.value_range import (
    FULL_RANGES,
    MEASURED_RANGES,
    ValueRange,
    dtype_range,
    measure_range,
    parse_range,
)

MAX_MEASURED_SAMPLES = 1000  # samples measured at most, evenly spread over the dataset
MAX_VALUES_PER_IMAGE = 20_000  # values kept per image for percentiles, about
BEYOND_FRACTION = 0.05  # of a range: values further beyond it count as clamped
MAX_BEYOND, MAX_BEYOND_GIVEN = 0.01, 0.9  # share of such values above which a hint is printed
SMALL_RANGE_FRACTION = 0.1  # a hint is printed if an image uses a smaller fraction of its range
PERCENTILE_TAIL_FRACTION = 0.001  # fraction of the values that "percentile" cuts off at each end


class RangeProbe:
    """Context manager that records dtypes and extremes of the images that preprocessing receives, by side.

    keep_values: also keep some of the values, for percentiles.
    """

    def __init__(self, preprocess: Preprocess, keep_values: bool = False):
        self.preprocess, self.keep_values = preprocess, keep_values
        self.dtypes: dict[str, str] = {}  # of the first image
        self.all_dtypes: dict[str, set[str]] = defaultdict(set)
        self.extremes: dict[str, list[np.ndarray]] = defaultdict(list)
        self.sampled_values: dict[str, list[np.ndarray]] = defaultdict(list)

    def __enter__(self) -> "RangeProbe":
        self.previous_probe, self.preprocess.probe = self.preprocess.probe, self._record
        return self

    def __exit__(self, *problem: object) -> None:
        self.preprocess.probe = self.previous_probe

    def _record(self, side: str, picture: Picture) -> None:
        array = to_array(picture)
        self.dtypes.setdefault(side, array.dtype.name)
        self.all_dtypes[side].add(array.dtype.name)
        self.extremes[side].append(np.array([array.min(), array.max()], dtype=np.float64))
        if self.keep_values:
            flat = array.reshape(-1)
            self.sampled_values[side].append(flat[:: max(1, flat.size // MAX_VALUES_PER_IMAGE)].astype(np.float64))

    def value_range(self, side: str, mode: str) -> ValueRange:
        """Return the range of the recorded values; "percentile" cuts off a thousandth of them at each end."""
        if mode == "percentile":
            return measure_range(self.sampled_values[side], self.dtypes[side], PERCENTILE_TAIL_FRACTION)
        return measure_range(self.extremes[side], self.dtypes[side])


def find_ranges(dataset: Any, first: RangeProbe, make_sample: Callable[[int], Any]) -> tuple[str, str]:
    """Return the ranges of A and B in the format of --range_A and --range_B, and set them in dataset.preprocess.

    They are measured on samples if the flags and the dtype do not determine them. first: the record of the first
    sample, with values. make_sample: makes a sample, or returns its error. "LO,HI KIND" is a range of the dtype KIND; a
    KIND alone is the full range of this dtype; "" stands for 8-bit images, and for mixed dtypes, each file with its own
    range. Those of several inputs are joined by a semicolon. Raises OptionError in training for a --range_B that no
    image has.
    """
    if dataset.o.isTrain and "range_B" in dataset.o.given and "B" not in first.dtypes:
        why = f"{dataset.o.dataset_mode} does not preprocess images of B separately"
        raise OptionError("option", "--range_B", why, "omit it, or use --range_A")
    # Take the ranges that flags or dtypes determine.
    texts, to_measure = {}, {}
    for side, dtype in first.dtypes.items():
        mode = range_flag(dataset.o, side)
        if "," in mode:
            texts[side] = str(parse_range(mode, dtype))
        elif mode in MEASURED_RANGES or (dtype not in FULL_RANGES and mode not in FULL_RANGES):
            to_measure[side] = mode
        else:
            texts[side] = (mode or dtype).removeprefix("uint8")
    # Measure the others.
    if to_measure:
        indices = range(0, len(dataset), max(1, -(-len(dataset) // MAX_MEASURED_SAMPLES)))
        with RangeProbe(dataset.preprocess, keep_values="percentile" in to_measure.values()) as probe:
            for index in indices:
                with fork_rng(index):  # the generators of the run must not change
                    make_sample(index)
        for side, mode in to_measure.items():
            if not mode and len(probe.all_dtypes[side]) > 1:
                types = ", ".join(sorted(probe.all_dtypes[side]))
                print_line(
                    f"range of {side}: each file uses its own range, because the files have several types: {types}"
                )
                texts[side] = ""
                continue
            values = probe.value_range(side, mode)
            said = f"range of {side}: {values.min:g} to {values.max:g}"
            dtypes = ", ".join(sorted(probe.all_dtypes[side]))
            mixed = f"; one range for files of {dtypes}" if len(probe.all_dtypes[side]) > 1 else ""
            print_line(f"{said}, measured on {len(indices)} of {len(dataset)} samples{mixed}")
            texts[side] = str(values)
    # Warn about unlikely ranges, and set the values.
    for side, text in texts.items():
        is_given = not dataset.o.given.isdisjoint(("range", f"range_{side[0]}"))
        known = parse_range(text) if "," in text else dtype_range(text)
        _print_range_hint(side, first, known, is_given)
    dataset.preprocess.use_ranges(texts)
    of_inputs = [texts[side] for side in sorted(texts.keys() - {"B"}, key=lambda side: int(side[1:] or 0))]
    return ";".join(of_inputs) if any(of_inputs) else "", texts.get("B", "")


def _print_range_hint(side: str, first: RangeProbe, values: ValueRange | None, is_given: bool) -> None:
    """Print a hint if the first image uses little of its range, as 12-bit data in 16-bit files does, or goes beyond it.

    Also for images of 8 bits in a run of more. Results would look good nevertheless: errors are small on such a scale,
    and clamped values are equal. A given range, such as a window of a CT, may leave out much, but not almost all.
    """
    if values is None or not first.extremes[side]:  # 8 bits, or several types: each file has its own range
        return
    lo, hi = (float(n) for n in first.extremes[side][0])
    low, high, trained = values
    margin, some = BEYOND_FRACTION * (high - low), first.sampled_values[side][0]
    beyond = float(((some < low - margin) | (some > high + margin)).mean())
    if beyond > (MAX_BEYOND_GIVEN if is_given else MAX_BEYOND):
        print_line(
            f"hint: the first image of {side} holds {lo:g} to {hi:g}, beyond the range {low:g} to {high:g}: what is "
            f"beyond it is clamped (--range)"
        )
    elif first.dtypes[side] == "uint8" != trained and not is_given:
        print_line(
            f"hint: the images of {side} have 8 bits, and the run was trained on {trained} of {low:g} to {high:g}: "
            f"values are taken as they are (--range_{side[0]} 0,255: 255 is white)"
        )
    elif hi - lo < SMALL_RANGE_FRACTION * (high - low):
        print_line(
            f"hint: the first image of {side} holds {lo:g} to {hi:g}, a small part of the range {low:g} to "
            f"{high:g}; --range auto uses all of it"
        )
