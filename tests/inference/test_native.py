"""test.py --native writes every image under its own name, at its own upright size."""

import numpy as np
import pytest
from PIL import Image

from data.decoding.images import open_image
from data.decoding.raster import Raster, to_array
from tests.support.architectures import NAMES
from tests.support.images import ODD_SIDES, picture
from tests.support.runs import SMALL

# pytest shows warnings that data/decoding/images.py suppresses
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
RATIOS = ((1, 1), (1, 50), (50, 1), (20, 180), (64, 16))  # width, height
GENERATORS = [*NAMES["generator"], "stylegan2"]


@pytest.fixture
def translate(command, tmp_path):
    """Train a few steps on generated pictures, then translate a folder: translate(folder, ...) -> Ended."""

    def run(folder, netG="resnet_4blocks", *more):
        argv = [*SMALL, "--model", "pix2pix", "--dataroot", "demo", "--netG", netG, "--netD", "pixel", "--name", netG,
                "--n_epochs", 1, "--n_epochs_decay", 0, "--max_dataset_size", 2, "--no_html", "--overwrite",
                "--norm", "instance"]  # fmt: skip
        if not (tmp_path / "checkpoints" / netG).is_dir():
            assert command("train", *argv).code == 0
        return command(
            "test",
            "--name",
            netG,
            "--model",
            "test",
            "--dataset_mode",
            "single",
            "--dataroot",
            folder,
            "--native",
            "--gpu_ids",
            -1,
            "--num_threads",
            0,
            *more,
        )

    return run


def results(tmp_path, netG="resnet_4blocks"):
    """Return {name without its label: (input, output)} as saved, as paths."""
    folder = tmp_path / "results" / netG / "test_latest" / "images"
    fakes = sorted(folder.rglob("*_fake.png"))
    return {
        str(path.relative_to(folder))[: -len("_fake.png")]: (path.with_name(path.name.replace("_fake", "_real")), path)
        for path in fakes
    }


def size(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("netG", GENERATORS)
def test_odd_sizes_and_ratios_come_back_as_they_were(netG, translate, tmp_path):
    (tmp_path / "in").mkdir()
    sizes = [*((side, ODD_SIDES[-1 - n]) for n, side in enumerate(ODD_SIDES)), *RATIOS]
    for width, height in sizes:
        picture(width * height, width, height).save(tmp_path / "in" / f"{width}x{height}.png")
    ended = translate(tmp_path / "in", netG)
    assert ended.code == 0, ended.err
    found = results(tmp_path, netG)
    assert {name: size(fake) for name, (_, fake) in found.items()} == {f"{w}x{h}": (w, h) for w, h in sizes}
    for name, (real, _) in found.items():
        assert (np.asarray(Image.open(real)) == np.asarray(Image.open(tmp_path / "in" / f"{name}.png"))).all()


# --- real oddities --------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(shared):
    """The folder of a collection of odd pictures."""
    folder = shared / "data" / "odd_images"
    if not folder.is_dir():
        pytest.skip("there is no ../shared/data/odd_images")
    return folder


@pytest.mark.parametrize("kind", ["readable", "wrong_extension"])
def test_every_odd_picture_has_a_result_of_its_upright_size(kind, odd, translate, tmp_path):
    """Of 8-bit ones the input that is shown is, to the bit, what was read; extensions may lie."""
    ended = translate(odd / kind)
    assert ended.code == 0, ended.err
    found = results(tmp_path)
    files = sorted(odd.joinpath(kind).iterdir())
    assert len(found) == len(files)
    for path in files:
        names = [name for name in found if name.rpartition("/")[2] in (path.stem, path.name)]
        read = open_image(str(path), 3)
        assert any(size(found[name][1]) == read.size for name in names), path.name
        if not isinstance(read, Raster):
            shown = [np.asarray(Image.open(found[name][0])) for name in names]
            assert any(np.array_equal(array, to_array(read)) for array in shown), path.name


def test_each_unreadable_odd_picture_is_named_in_one_line(odd, translate, tmp_path):
    names = [path for path in sorted((odd / "unreadable").iterdir()) if not path.name.startswith(".")]
    assert len(names) > 15
    for path in names:
        folder = tmp_path / path.stem
        folder.mkdir()
        (folder / path.name).write_bytes(path.read_bytes())
        ended = translate(folder)
        if path.name == "truncated_jpeg.jpg":  # it lacks one byte, of the marker after its last pixel
            assert ended.code == 0, ended.err
        else:
            assert ended.code == 3, path.name
            assert ended.last.startswith(f"error: image '{folder}/{path.name}': "), ended.err
            assert ended.err.strip().count("\n") == 0
