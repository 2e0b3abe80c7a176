"""The flags of test.py alone."""

from dataclasses import dataclass

from options.fields import option
from util.size import Size


@dataclass
class Test:
    """testing"""

    results_dir: str = option("./results/", "where results pages go")
    aspect_ratio: float = option(1.0, "width over height by which saved pictures are stretched", above=0)
    phase: str = option("test", "sub-folder of dataroot to read")
    eval: bool = option(True, "networks in evaluation mode (--no_eval: batch statistics and dropout)")
    native: bool = option(False, "every picture at its own size, in and out")
    tile: int | Size = option(0, "translate in tiles of this size, for pictures too large for memory; 0: whole",
                              at_least=0, at_most=65_536)  # fmt: skip
    overlap: int | None = option(
        None, "pixels by which tiles overlap; default: as far as the generator sees", at_least=0
    )
    tile_norm: str = option("shared", "statistics of instance norm: of the whole picture (shared), or of each tile",
                            choices=("shared", "local"))  # fmt: skip
    num_samples: int = option(16, "pictures of each class, for models that generate without input", at_least=1)
    num_test: int | None = option(None, "how many images; default: all", at_least=1)
