"""Data sets by name, one file per layout; importing this imports no torch."""

from util.registry import Table

DATASETS = Table("dataset", {
    "aligned": "data.aligned:Aligned",
    "unaligned": "data.unaligned:Unaligned",
    "single": "data.single:Single",
    "labeled": "data.labeled:Labeled",
    "colorization": "data.colorization:Colorization",
})  # fmt: skip
