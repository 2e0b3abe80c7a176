"""Note images that are scaled to several times their size."""

from typing import Any

from data.joined_pairs import halves, measure
from data.notes.label_maps import sample_files

NOTED_FACTOR = 4  # times as wide and high


def enlargement_notes(dataset: Any) -> list[str]:
    """Return a note with the size and the flag if most images of a dataset are enlarged NOTED_FACTOR times or more."""
    lists = [paths for group in dataset.header_groups for paths in group if len(paths)]
    if not lists:
        return []
    sizes = measure(sample_files(lists), dataset.read_options.max_pixels)
    if dataset.sides == "AB" and dataset.paired and len(lists) == 1:  # files of A|B
        sizes = halves(sizes)
    scaled = [(size, dataset.preprocess.scaled_size(size)) for size in sizes if size and size.width]
    if not scaled:
        return []
    factors = sorted(((to[0] * to[1] / (size.width * size.height)) ** 0.5, size, to) for size, to in scaled)
    factor, size, (width, height) = factors[(len(factors) - 1) // 2]  # of half of the images it is greater
    if factor < NOTED_FACTOR:
        return []
    flag = "crop_size" if "fixsize" in dataset.preprocess.steps else "load_size"
    given = f"--{flag} {getattr(dataset.o, flag)}"
    return [f"note: {given} enlarges images of {size} to {width}x{height}, {factor:.3g} times as wide and high"]
