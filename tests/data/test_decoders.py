"""Images of every bit depth, number of channels and format are read exactly and written without loss."""

import json

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from data.decoding.images import ReadOptions, open_image
from data.decoding.raster import Raster
from data.transforms import to_tensor
from util.errors import DataError
from util.value_range import UINT8, ValueRange, measure_range, option_range, parse_range

IDENTITY = """
import torch
from models.base import BaseModel, Phase


class Same(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.share = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.share.detach()


class Identity(BaseModel):
    dataset_mode = "single"
    defaults = {"no_html": True, "n_epochs": 1, "n_epochs_decay": 0, "preprocess": "none"}

    def __init__(self, o, spec):
        super().__init__()
        self.G = Same()

    def phases(self):
        return [Phase("G", [self.G], lambda batch, out: {"G": 0 * self.G.share})]

    def forward(self, batch):
        return {"real": batch["A"], "fake": self.G(batch["A"])}
"""
RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 21, 34  # --native keeps what --preprocess none would round to multiples of 4


def numbers(kind, channels):
    """Return (H, W, C) that reach the least and the greatest number of a type, or of a measurement."""
    shape = (HEIGHT, WIDTH, channels)
    if kind.startswith("float"):
        return RNG.normal(3, 2000, shape).astype(kind)
    limits = np.iinfo(kind if np.iinfo(kind).bits <= 16 else {"i": "int16", "u": "uint16"}[kind[0]])
    array = RNG.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    array[0, 0], array[-1, -1] = limits.min, limits.max
    return array


def write(path, array):
    flat = array[:, :, 0] if array.shape[2] == 1 else array
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(flat))
    elif path.suffix == ".npy":
        np.save(path, flat)
    elif path.suffix == ".npz":
        np.savez_compressed(path, picture=flat)
    else:
        contiguous = {"planarconfig": "contig"} if flat.ndim == 3 else {}
        tifffile.imwrite(path, flat, photometric="minisblack", **contiguous)


def read_back(path):
    if path.suffix == ".png":
        array = imagecodecs.png_decode(path.read_bytes())
    else:
        array = np.load(path) if path.suffix == ".npy" else tifffile.imread(path)
    return array[:, :, None] if array.ndim == 2 else array


KINDS = {
    ".png": [("uint8", 1), ("uint8", 3), ("uint8", 4), ("uint16", 1), ("uint16", 3), ("uint16", 4)],
    ".tif": [(kind, c) for kind in ("uint8", "uint16", "int16", "int32", "float32") for c in (1, 3, 4, 7)],
    ".tiff": [("uint16", 1), ("float64", 2)],
    ".npy": [(kind, c) for kind in ("uint8", "uint16", "int8", "uint32", "float32") for c in (1, 3, 5)],
    ".npz": [("float32", 1), ("uint16", 6)],
}
CASES = [(suffix, kind, channels) for suffix, rows in KINDS.items() for kind, channels in rows]


@pytest.mark.parametrize(("suffix", "kind", "channels"), CASES)
def test_an_identity_generator_gives_every_picture_back(suffix, kind, channels, command, tmp_path):
    """Through train.py and test.py --native: whole numbers exactly, floats within a millionth of their range."""
    (tmp_path / "identity.py").write_text(IDENTITY)
    (tmp_path / "data").mkdir()
    arrays = {f"p{n}": numbers(kind, channels) for n in range(2)}
    for name, array in arrays.items():
        write(tmp_path / "data" / (name + suffix), array)
    common = ["--dataroot", tmp_path / "data", "--gpu_ids", -1, "--num_threads", 0]
    ended = command(
        "train",
        *common,
        "--plugin",
        tmp_path / "identity.py",
        "--model",
        "identity",
        "--name",
        "x",
        "--input_nc",
        channels,
        "--output_nc",
        channels,
    )
    assert ended.code == 0, ended.err
    ended = command("test", *common, "--name", "x", "--native")
    assert ended.code == 0, ended.err
    folder = tmp_path / "results" / "x" / "test_latest" / "images"
    usual = kind == "uint8" and channels in (1, 3)
    expected = ".png" if usual else {".npz": ".npy"}.get(suffix, suffix)
    for name, array in arrays.items():
        got = read_back(folder / f"{name}_fake{expected}")
        assert got.shape == array.shape
        assert got.dtype == array.dtype
        if kind.startswith("float"):
            span = max(a.max() for a in arrays.values()) - min(a.min() for a in arrays.values())
            assert np.abs(got.astype(float) - array).max() <= 1e-6 * span
        else:
            assert np.abs(got.astype(np.int64) - array).max() <= (kind in ("int32", "uint32"))
        preview = folder / f"{name}_fake{'_preview' * (expected == '.png' and not usual)}.png"
        with Image.open(preview) as shown:
            assert shown.size == (WIDTH, HEIGHT)
            assert shown.mode == ("L" if channels < 3 else "RGB")
        assert preview.name in (tmp_path / "results" / "x" / "test_latest" / "index.html").read_text()


# --- ranges ---------------------------------------------------------------------------------------------------------


def trained(command, tmp_path, *flags, channels=1):
    """Train an identity on tmp_path/data; return what the run remembers of its ranges."""
    (tmp_path / "identity.py").write_text(IDENTITY)
    ended = command(
        "train",
        "--dataroot",
        tmp_path / "data",
        "--gpu_ids",
        -1,
        "--num_threads",
        0,
        "--plugin",
        tmp_path / "identity.py",
        "--model",
        "identity",
        "--name",
        "x",
        "--overwrite",
        "--input_nc",
        channels,
        "--output_nc",
        channels,
        *flags,
    )
    assert ended.code == 0, ended.err
    said = json.loads((tmp_path / "checkpoints" / "x" / "options.json").read_text())["options"]
    return said["range_A"], ended


def seen(path, text, channels=1):
    """Return the tensor of a file under a range."""
    return to_tensor(open_image(str(path), channels), parse_range(text) if "," in text else option_range(text))


@pytest.fixture
def dim(tmp_path):
    """A folder of 16-bit pictures of a 12-bit camera, 100 to 4000."""
    (tmp_path / "data").mkdir()
    for n in range(3):
        array = RNG.integers(100, 4001, (HEIGHT, WIDTH, 1), dtype=np.uint16)
        array[0, n] = (100, 4000, 2000)[n]
        write(tmp_path / "data" / f"{n}.png", array)
    return tmp_path / "data"


def test_the_type_of_the_files_is_their_default_range(command, tmp_path, dim):
    text, ended = trained(command, tmp_path)
    assert text == "uint16"
    assert "hint: the first image of A holds 100 to " in ended.out
    text, ended = trained(command, tmp_path, "--range", "0,4095")
    assert (text, "hint:" in ended.out) == ("0,4095 uint16", False)
    text, ended = trained(command, tmp_path, "--range", "-1000,4095")
    assert text == "-1000,4095 uint16"
    text, ended = trained(command, tmp_path, "--range", "auto")
    assert text == "100,4000 uint16"
    assert "range of A: 100 to 4000, measured on 3 of 3 samples" in ended.out
    assert (seen(dim / "0.png", text).min(), seen(dim / "1.png", text).max()) == (-1, 1)
    # other values, as of another camera
    (tmp_path / "bright").mkdir()
    write(tmp_path / "bright" / "0.png", np.full((HEIGHT, WIDTH, 1), 60000, np.uint16))
    test = ("test", tmp_path / "bright", "--name", "x", "--plugin", tmp_path / "identity.py", "--gpu_ids", -1)
    ended = command(*test)
    (tmp_path / "eight").mkdir()
    write(tmp_path / "eight" / "0.png", RNG.integers(120, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8))
    in_8_bits = "hint: the images of A have 8 bits, and the run was trained on uint16 of 100 to 4000: values are taken"
    eight = command("test", tmp_path / "eight", *test[2:], "--results_dir", tmp_path / "eights")
    assert in_8_bits in eight.out and "--range_A 0,255: 255 is white" in eight.out
    said = "hint: the first image of A holds 60000 to 60000, beyond the range 100 to 4000: what is beyond it is clamped"
    assert ended.code == 0 and said in ended.out, ended
    assert "hint:" not in command(*test[:1], dim, *test[2:]).out


@pytest.mark.parametrize(("given", "is_odd"), [("1000,2000", False), ("0,1", True), ("5000,6000", True)])
def test_a_given_range_may_be_a_window_but_not_beside_the_values(command, tmp_path, dim, given, is_odd):
    _, ended = trained(command, tmp_path, "--range", given)
    assert (f"beyond the range {given.replace(',', ' to ')}: " in ended.out) == is_odd == ("hint:" in ended.out)


def test_percentiles_leave_a_thousandth_out_at_either_end(command, tmp_path):
    (tmp_path / "data").mkdir()
    array = np.linspace(0, 1, HEIGHT * WIDTH * 9, dtype=np.float32).reshape(-1, WIDTH, 1)
    array[0, 0], array[-1, -1] = -1e9, 1e9
    write(tmp_path / "data" / "1.tif", array)
    values = parse_range(trained(command, tmp_path, "--range", "percentile")[0])
    assert values.dtype == "float32"
    assert values.min == pytest.approx(0.001, abs=5e-4)
    assert values.max == pytest.approx(0.999, abs=5e-4)


def test_floats_are_measured_and_the_run_remembers_the_range(command, tmp_path):
    """Another picture is tested under the range of the training, what lies beyond is clamped."""
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "1.npy", np.linspace(-50, 150, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1).astype("f4"))
    assert trained(command, tmp_path)[0] == "-50,150 float32"
    (tmp_path / "other").mkdir()
    other = np.full((HEIGHT, WIDTH, 1), 100, np.float32)
    other[0, 0], other[1, 1] = -500, 500
    write(tmp_path / "other" / "1.npy", other)
    ended = command("test", "--dataroot", tmp_path / "other", "--name", "x", "--native", "--gpu_ids", -1)
    assert ended.code == 0, ended.err
    got = read_back(tmp_path / "results" / "x" / "test_latest" / "images" / "1_fake.npy")
    assert np.abs(got - other.clip(-50, 150)).max() < 1e-4


def test_both_sides_have_their_own_range(command, tmp_path):
    """MR in 16 bits and CT in floats: each is mapped by its own numbers, and results come back as CT."""
    for phase in ("train", "test"):
        for letter, kind in (("A", "uint16"), ("B", "float32")):
            (tmp_path / "data" / (phase + letter)).mkdir(parents=True)
            for n in range(2):
                write(tmp_path / "data" / (phase + letter) / f"{n}.tif", np.abs(numbers(kind, 1)))
    plug_in = IDENTITY.replace('"single"', '"unaligned"').replace('"real": batch["A"]', '"real_A": batch["A"]')
    (tmp_path / "identity.py").write_text(plug_in.replace('"fake": self.G(batch["A"])', '"fake_B": self.G(batch["B"])'))
    common = ["--dataroot", tmp_path / "data", "--gpu_ids", -1, "--num_threads", 0]
    for direction in ("AtoB", "BtoA"):
        ended = command(
            "train",
            *common,
            "--plugin",
            tmp_path / "identity.py",
            "--model",
            "identity",
            "--name",
            direction,
            "--input_nc",
            1,
            "--output_nc",
            1,
            "--direction",
            direction,
            "--range_A",
            "0,70000",
        )
        assert ended.code == 0, ended.err
        said = json.loads((tmp_path / "checkpoints" / direction / "options.json").read_text())["options"]
        source, target = ("uint16", "float32") if direction == "AtoB" else ("float32", "uint16")
        assert said["range_A"] == f"0,70000 {source}"
        assert said["range_B"].endswith(target)
        assert command("test", *common, "--name", direction, "--native").code == 0
        made = read_back(tmp_path / "results" / direction / "test_latest" / "images" / "0_fake_B.tif")
        assert made.dtype == target


@pytest.mark.parametrize("text", ["5,5", "9,1", "1", "1,2,3", "nan,1", "0,inf", "0,1 text", "autos"])
@pytest.mark.parametrize("flag", ["--range", "--range_A", "--range_B"])
def test_a_range_that_is_none_is_refused(flag, text, command):
    ended = command("train", flag, text)
    assert ended.code == 2
    assert f"option '{flag}'" in ended.last
    assert "LO,HI" in ended.last


def test_numbers_and_tensors_stand_for_each_other():
    values = ValueRange(-1000.0, 3000.0, "int16")
    array = np.array([[-1000, -999, 0, 2999, 3000, 4000]], np.int16)[..., None]
    tensor = to_tensor(Raster(array), values)
    assert tensor[0, 0].tolist() == pytest.approx([-1, -0.9995, -0.5, 0.9995, 1, 1])
    assert values.denormalise(tensor)[0, :, 0].tolist() == [-1000, -999, 0, 2999, 3000, 3000]
    assert parse_range(str(values)) == values
    assert measure_range([np.full((2, 2), 7)], "float32") == ValueRange(7, 8, "float32")
    assert option_range("") == UINT8


# --- kinds of files -------------------------------------------------------------------------------------------------


def arrays(path, channels):
    picture = open_image(str(path), channels)
    return picture.array if isinstance(picture, Raster) else np.asarray(picture).reshape(picture.height, -1, channels)


@pytest.mark.parametrize("how", [
    dict(compression="lzw"), dict(compression="zlib", predictor=True), dict(compression="zstd"), dict(bigtiff=True),
    dict(byteorder=">"), dict(tile=(16, 16)), dict(compression="packbits"), dict(planarconfig="separate"),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_tiffs_of_every_inner_form_give_their_numbers(channels, how, tmp_path):
    array = numbers("uint16", channels)
    form = {"planarconfig": "contig"} | how if channels > 1 else {k: v for k, v in how.items() if k != "planarconfig"}
    stored = np.moveaxis(array, 2, 0) if form.get("planarconfig") == "separate" else array.squeeze()
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="minisblack", **form)
    assert (arrays(tmp_path / "x.tif", channels) == array).all()


@pytest.mark.parametrize("order", ["pages", "imagej", "channels first"])
def test_channels_may_be_pages_or_come_first(order, tmp_path):
    array = numbers("uint16", 5)
    first = np.ascontiguousarray(np.moveaxis(array, 2, 0))
    if order == "channels first":
        np.save(tmp_path / "x.npy", first)
        assert (arrays(tmp_path / "x.npy", 5) == array).all()
        return
    tifffile.imwrite(
        tmp_path / "x.tif",
        first,
        imagej=order == "imagej",
        photometric="minisblack",
        metadata={"axes": "CYX"} if order == "imagej" else None,
    )
    assert (arrays(tmp_path / "x.tif", 5) == array).all()
    assert (arrays(tmp_path / "x.tif", 1) == array[:, :, :1]).all(), "of a stack the first page"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_upright_like_all_others(orientation, tmp_path):
    upright = numbers("uint16", 1)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    tifffile.imwrite(
        tmp_path / "x.tif", np.ascontiguousarray(stored[:, :, 0]), extratags=[(274, 3, 1, orientation, True)]
    )
    assert (arrays(tmp_path / "x.tif", 1) == upright).all()


def test_white_may_be_stored_as_zero(tmp_path):
    array = numbers("uint16", 1)
    tifffile.imwrite(tmp_path / "x.tif", 65535 - array[:, :, 0], photometric="miniswhite")
    assert (arrays(tmp_path / "x.tif", 1) == array).all()


def test_deep_colours_become_grey_and_alpha_shows_the_background(tmp_path):
    rgba = numbers("uint16", 4)
    write(tmp_path / "x.png", rgba)
    share = rgba[:, :, 3:] / 65535
    expected = rgba[:, :, :3] * share + 65535 * (1 - share)
    assert np.abs(arrays(tmp_path / "x.png", 3) - expected).max() <= 1
    assert np.abs(arrays(tmp_path / "x.png", 1)[:, :, 0] - expected @ [0.299, 0.587, 0.114]).max() <= 1
    assert (arrays(tmp_path / "x.png", 4) == rgba).all()
    bare = open_image(str(tmp_path / "x.png"), 3, ReadOptions(background=None))
    assert (bare.array == rgba[:, :, :3]).all()


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_premultiplied_colours_are_divided_by_their_alpha(kind, tmp_path):
    """Half transparent white is white, in 16 bits as in 8."""
    top = np.iinfo(kind).max
    array = np.full((4, 4, 4), top // 2, kind)
    array[0] = 0
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(arrays(tmp_path / "x.tif", 3).astype(int) - top).max() <= 1
    kept = arrays(tmp_path / "x.tif", 4)
    assert (kept[:, :, 3] == array[:, :, 3]).all() and np.abs(kept[1:, :, :3].astype(int) - top).max() <= 2


def spoilt(kind, path):
    if kind == "not finite":
        write(path / "x.npy", np.full((4, 4, 1), np.nan, np.float32))
    elif kind == "objects":
        np.save(path / "x.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    elif kind == "complex":
        write(path / "x.npy", np.ones((4, 4, 1), np.complex64))
    elif kind == "a row":
        np.save(path / "x.npy", np.arange(5))
    elif kind == "four axes":
        np.save(path / "x.npy", np.zeros((2, 2, 2, 2)))
    elif kind == "cut short":
        write(path / "x.npy", np.ones((40, 40, 1)))
        (path / "x.npy").write_bytes((path / "x.npy").read_bytes()[:200])
    elif kind == "giant":
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
        (path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    elif kind == "several":
        np.savez(path / "x.npz", a=np.ones((4, 4)), b=np.ones((4, 4)))
        return path / "x.npz"
    elif kind == "no zip":
        (path / "x.npz").write_bytes(b"PK")
        return path / "x.npz"
    elif kind == "other channels":
        write(path / "x.tif", numbers("uint16", 5))
        return path / "x.tif"
    return path / "x.npy"


SPOILT = {"not finite": "NaN or Inf", "objects": "Python objects", "complex": "complex64", "a row": "shape (5,)",
          "four axes": "shape (2, 2, 2, 2)", "cut short": "it ends after", "giant": "--max_image_pixels",
          "several": "2 arrays", "no zip": "cannot be read", "other channels": "--input_nc 5"}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_no_picture_is_named_in_one_line(kind, tmp_path):
    path = spoilt(kind, tmp_path)
    with pytest.raises(DataError) as caught:
        open_image(str(path), 1)
    assert str(caught.value).startswith(f"image '{path}': ")
    assert SPOILT[kind] in str(caught.value)
    assert "\n" not in str(caught.value)


# --- colours --------------------------------------------------------------------------------------------------------


def exchanged():
    """Return a profile like sRGB but for its red and green primaries, which are each other's."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    renamed = plain.replace("sRGB".encode("utf-16-be"), "odd!".encode("utf-16-be"))
    table, rest = renamed[:400], renamed[400:]
    return table.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ") + rest


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_with_a_profile_become_srgb(mode, tmp_path):
    """A profile of sRGB changes nothing, a damaged one neither, --no_icc leaves all alone."""
    image = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert(mode)
    rgb = np.asarray(image.convert("RGB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("odd", exchanged()), ("srgb", srgb), ("damaged", exchanged()[:60])):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
    assert np.abs(arrays(tmp_path / "odd.png", 3).astype(int) - rgb[:, :, [1, 0, 2]]).max() <= 1
    for name in ("srgb.png", "damaged.png"):
        assert (arrays(tmp_path / name, 3) == rgb).all(), name
    assert (np.asarray(open_image(str(tmp_path / "odd.png"), 3, ReadOptions(icc=False))) == rgb).all()


def srgb_of_lab(lab):
    """Return the sRGB colours of CIE L*a*b* (D50), of [0, 255], not rounded (formulas: ICC.1, IEC 61966-2-1)."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.96422, 1, 0.82521)
    red, green = (3.1338561, -1.6168667, -0.4906146), (-0.9787684, 1.9161415, 0.0334540)
    linear = (xyz @ np.transpose((red, green, (0.0719453, -0.2289914, 1.4052427)))).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_lab_becomes_srgb(tmp_path):
    lightness, a, b = np.meshgrid(np.arange(0, 256, 15), np.arange(-126, 127, 18), np.arange(-126, 127, 18))
    stored = np.stack([lightness, a, b], -1).reshape(18, -1, 3)  # lightness in 255 steps, a and b signed
    Image.frombytes("LAB", stored.shape[1::-1], stored.astype(np.uint8).tobytes()).save(tmp_path / "x.tif")
    expected = srgb_of_lab(stored * (100 / 255, 1, 1))
    assert np.abs(arrays(tmp_path / "x.tif", 3) - expected).max() <= 1


def test_a_continued_run_keeps_its_range(command, tmp_path, dim):
    """A run of deep pictures goes on where it stopped, under the range it began with."""
    trained(command, tmp_path, "--range", "auto")
    write(dim / "9.png", np.full((HEIGHT, WIDTH, 1), 60000, np.uint16))
    ended = command("train", "--name", "x", "--continue_train", "--n_epochs", 2, "--gpu_ids", -1, "--allow_data_change")
    assert ended.code == 0, ended.err
    assert "range of" not in ended.out
    said = json.loads((tmp_path / "checkpoints" / "x" / "options.json").read_text())["options"]
    assert said["range_A"] == "100,4000 uint16"
