"""Registries of the datasets (one file per layout) and the augmentations; importing it does not import torch."""

from data.augment.table import AUGMENTATIONS
from registry.lookup import Table

__all__ = ["AUGMENTATIONS", "DATASETS"]

DATASETS = Table("dataset", {
    "aligned": "data.aligned:Aligned",
    "unaligned": "data.unaligned:Unaligned",
    "single": "data.single:Single",
    "singleimage": "data.singleimage:SingleImage",
    "labeled": "data.labeled:Labeled",
    "colorization": "data.colorization:Colorization",
    "semantic": "data.published.semantic:Semantic",
    "domains": "data.published.domains:Domains",
})  # fmt: skip
