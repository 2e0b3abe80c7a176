"""One line names the size of images that are enlarged much, and the flag."""

import pytest

from tests.support.data_folders import make, save
from tests.support.images import picture

CASES = {  # data set, size of the files, flags: what is said; "" for nothing
    "files of A|B": ("aligned", (64, 32), ["--load_size", 256], "256 enlarges images of 32x32 to 256x256, 8 "),
    "less than 4 times": ("aligned", (64, 32), ["--load_size", 127], ""),
    "4 times": ("aligned", (64, 32), ["--load_size", 128], "of 32x32 to 128x128, 4 times as wide and high"),
    "no scaling": ("aligned", (64, 32), ["--preprocess", "none"], ""),
    "width": ("single", (32, 40), ["--preprocess", "scale_width", "--load_size", 320], "of 32x40 to 320x400, 10 "),
    "crop size": ("single", (32, 32), ["--preprocess", "fixsize", "--crop_size", 160], "--crop_size 160 enlarges"),
    "two sizes": ("single", (32, 32), ["--load_size", "256x128"], "256x128 enlarges images of 32x32 to 256x"),
    "smaller": ("single", (400, 400), [], ""),
}  # fmt: skip


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("case", CASES)
def test_much_enlarged_images_are_noted(tmp_path, case, phase):
    mode, size, flags, said = CASES[case]
    for number in range(3):
        save(picture(number, *size), tmp_path / phase / f"{number}.png")
    root = tmp_path if mode == "aligned" else tmp_path / phase
    found = [note for note in make(mode, root, *flags, phase=phase).file_notes() if "enlarges" in note]
    assert len(found) == bool(said) and said in "".join(found)


def test_one_small_image_among_others_is_not_noted(tmp_path):
    for number, size in enumerate([16, 200, 200]):
        save(picture(number, size, size), tmp_path / f"{number}.png")
    assert not [note for note in make("single", tmp_path, "--load_size", 256).file_notes() if "enlarges" in note]


def test_generated_images_are_not_noted():
    assert not [note for note in make("unaligned", "demo", "--load_size", 2048).file_notes() if "enlarges" in note]
