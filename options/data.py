"""The flags that control how files become images."""

from dataclasses import dataclass

from data.shards.settings import DEFAULT_GIGABYTES
from options.fields import option
from util.size import Size

INTERPOLATIONS = ("bicubic", "nearest", "bilinear", "lanczos", "box")


@dataclass
class Data:
    """data"""

    # fmt: off
    pairs: str = option("auto", "layout of the pairs: joined (A|B in one file), sides (trainA and trainB), nested"
        " (A/train and B/train), or a manifest (.csv, .tsv, .json, .jsonl) with columns a, b, label, split;"
        " auto: detected", of_run=True)
    inputs: str = option("", "several inputs, stacked into A: A1,A2 reads folders trainA1 and trainA2, or columns of a"
        " manifest; A1:3,A2:1 also gives their channels; default: A, or if there is none, A1, A2, ...",
        of_run=True, fixed=True)
    split: float | None = option(None,
        "for data without train and test: fraction of the images for training, chosen by a hash of their names;"
        " default: no split",
        above=0, below=1, of_run=True)
    max_dataset_size: float = option(float("inf"), "use at most this many images", at_least=1, endless=True)
    on_bad_image: str = option("stop",
        "when an image cannot be read: stop, or skip it (count it and use another one; test.py leaves it out)",
        choices=("stop", "skip"))
    max_image_pixels: int = option(89_478_485, "refuse images with more pixels", at_least=1, aside=True)
    range: str = option("", "values that become -1 and 1: LO,HI; auto: minimum and maximum of the data; percentile:"
        " auto without 1 value in 1,000 at each end; default: the full range of unsigned 8 and 16 bits, else auto",
        of_run=True)
    range_A: str = option("", "like --range, for input images only; for several inputs also one each, as LO,HI;LO,HI",
        of_run=True)
    range_B: str = option("", "like --range, for output images only", of_run=True)
    interpolation_A: str = option("bicubic",
        "how input images are scaled; nearest mixes no values, as label maps and masks need", choices=INTERPOLATIONS,
        of_run=True)
    interpolation_B: str = option("bicubic", "how output images are scaled", choices=INTERPOLATIONS, of_run=True)
    background: str = option("white", "colour behind transparent images, a name or #rrggbb; none: ignore transparency",
        of_run=True)
    icc: bool = option(True, "convert images with a colour profile to sRGB (--no_icc turns it off)", of_run=True)
    load_size: int | Size = option(286, "scale images to this size; test.py's default: --crop_size, or the run's"
        " --load_size if it cropped without resize or fixsize", at_least=1, at_most=65_536)
    crop_size: int | Size = option(256, "then crop to this size", at_least=1, at_most=65_536, of_run=True)
    preprocess: str = option("resize_and_crop", "none (width and height to multiples of 4), or up to three of"
        " these, joined by _and_: one of resize, scale_width, scale_shortside, fixsize; zoom (random scale); one of"
        " crop, patch, trim (crops only edges longer than --crop_size)",
        of_run=True)
    random_scale_max: float = option(1.25, "with --preprocess zoom: width and height are scaled by random factors"
        " between 1/X and 1, but not below --crop_size", at_least=1)
    no_flip: bool = option(False, "do not mirror images at random")
    augment: str = option("", "further random augmentation, such as 'rotation(10) color_jitter(0.2, 0.2)'; applied"
        " identically to both images of a pair")
    augment_A: str = option("", "like --augment, for input images only")
    augment_B: str = option("", "like --augment, for output images only")
    cache: str = option("off", "keep decoded, scaled images for later epochs: off, ram or disk",
                        choices=("off", "ram", "disk"), aside=True)
    cache_gb: float = option(4.0, "size limit of the cache, in gigabytes", above=0, aside=True)
    cache_dir: str = option("", "folder of --cache disk, and of shards from a server; default: the user's"
        " cache folder, such as ~/.cache/ganvas", aside=True)
    shard_cache_gb: float = option(DEFAULT_GIGABYTES, "size limit of the shards that are kept from a server, in"
        " gigabytes", above=0, aside=True)
    # fmt: on
