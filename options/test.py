"""The flags that only test.py has."""

from dataclasses import dataclass

from options.fields import option
from util.size import Size


@dataclass
class Test:
    """testing"""

    # fmt: off
    results_dir: str = option("./results/", "folder for the result pages")
    aspect_ratio: float = option(1.0, "factor by which saved images are stretched: width over height", above=0)
    phase: str = option("test", "set of images to read: train, val, test, ...; test: the folder test, or testA and"
        " testB")
    eval: bool = option(True, "run networks in evaluation mode (--no_eval: batch statistics and dropout)")
    native: bool | None = option(None, "keep every image at its own size, input and output; default: images are"
        " scaled as --preprocess says, and runs trained on crops get whole images (--no_native: a random crop,"
        " load_size = crop_size)")
    tile: int | Size = option(0, "translate in tiles of this size, for images too large for memory; 0: whole images",
        at_least=0, at_most=65_536)
    overlap: int | None = option(None,
        "pixels by which tiles overlap; default: the radius of the generator's receptive field", at_least=0)
    tile_norm: str = option("shared", "instance norm statistics: of the whole image (shared), or of each tile (local)",
        choices=("shared", "local"))
    translate: bool = option(False, "translate images, with a model that also generates images from noise")
    generate: bool = option(False, "generate images from noise, with a model that also translates (default, unless"
        " a folder or file is given and the model was trained on two sides)")
    num_results: int = option(1, "results for each input image, of models that draw noise; a result depends on --seed,"
        " its number and the image alone", at_least=1, at_most=1000)
    num_samples: int = option(16, "images per class, for models that generate without input", at_least=1)
    num_test: int | None = option(None, "number of images to test; default: all", at_least=1)
    watch: str = option("", "translate the images that arrive in this folder, each once, until Ctrl-C; only the"
        " translations are written", momentary=True)
    results_only: str = option("",
        "write only these images, such as fake_B, each named like its input, and no page; default: all, and a page")
    format: str = option("auto", "files of results: png, jpg (loses detail) or keep, the format of each input; auto:"
        " png, and where 8 bits do not hold the values a second file", choices=("auto", "keep", "png", "jpg"))
    # fmt: on
