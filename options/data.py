"""The flags that say how files become pictures."""

from dataclasses import dataclass

from options.fields import option
from util.size import Size


@dataclass
class Data:
    """data"""

    pairs: str = option(
        "auto",
        "where pairs lie: joined (A|B in one file), sides (trainA and trainB), nested (A/train and B/train), or a CSV"
        " or JSON file with columns a, b, label, split; auto: found by looking",
        of_run=True,
    )
    split: float | None = option(
        None, "a folder without train and test: this share of its pictures is for training, by their names", above=0,
        below=1, of_run=True,
    )  # fmt: skip
    max_dataset_size: float = option(float("inf"), "use at most this many images", at_least=1, endless=True)
    on_bad_image: str = option("stop", "a picture that cannot be read: stop, or take another and count it",
                               choices=("stop", "skip"))  # fmt: skip
    max_image_pixels: int = option(89_478_485, "refuse pictures of more pixels", at_least=1, aside=True)
    range: str = option(
        "",
        "values that become -1 and 1: LO,HI, auto (least and greatest of the data) or percentile (1 in 1,000 beyond);"
        " default: what the files' type can hold, of floats auto",
        of_run=True,
    )
    range_A: str = option("", "the same, of input pictures alone", of_run=True)
    range_B: str = option("", "the same, of output pictures alone", of_run=True)
    background: str = option(
        "white", "colour behind transparent pictures, a name or #rrggbb; none: transparency is left out", of_run=True
    )
    icc: bool = option(True, "bring pictures with a colour profile to sRGB", of_run=True)
    load_size: int | Size = option(
        286, "scale images to this size, N or WxH (test: the crop size)", at_least=1, at_most=65_536
    )
    crop_size: int | Size = option(256, "then crop to this size, N or WxH", at_least=1, at_most=65_536, of_run=True)
    preprocess: str = option(
        "resize_and_crop",
        "steps joined by _and_: one of resize, scale_width, scale_shortside, fixsize, then crop or patch; or none (each"
        " side to a multiple of 4)",
        of_run=True,
    )
    no_flip: bool = option(False, "do not mirror images at random")
    augment: str = option(
        "", "what else is done to pictures at random, such as 'rotation(10) color_jitter(0.2, 0.2)'; alike to both of a"
        " pair",
    )  # fmt: skip
    augment_A: str = option("", "the same, to input pictures alone")
    augment_B: str = option("", "the same, to output pictures alone")
    cache: str = option("off", "keep decoded, scaled pictures for later epochs: off, ram or disk",
                        choices=("off", "ram", "disk"), aside=True)  # fmt: skip
    cache_gb: float = option(4.0, "at most so many gigabytes of them", above=0, aside=True)
    cache_dir: str = option(
        "", "where --cache disk keeps them; default: a folder ganvas in the user's cache", aside=True
    )
