"""What docs/data.md promises of images holds for every type of numbers, container, page and number of channels."""

import zipfile
from itertools import product
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from data.decoding.images import ReadOptions, open_image
from data.prepare.pairs import find_pairs, join_tasks
from tests.support.data_folders import make, sample
from tests.support.images import picture, refused
from util.errors import DataError
from util.image_io import save_array, save_image
from util.value_range import FULL_RANGES, measure_range

HEIGHT, WIDTH = 12, 17
TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32",
         "float64")  # fmt: skip
READ_AS = {"bool": "uint8", "float16": "float32", "int64": "float64", "uint64": "float64"}  # others stay
PNG_TYPES = ("bool", "uint8", "uint16")


def stored(kind, channels=1):
    """Return (H, W, C) of a type, with its least and its greatest number (as far as float64 holds it)."""
    rng, shape = np.random.default_rng(channels), (HEIGHT, WIDTH, channels)
    if kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if kind.startswith("float"):
        return rng.normal(3, 200, shape).astype(kind)
    limits = [max(-(2**53), int(np.iinfo(kind).min)), min(2**53, int(np.iinfo(kind).max))]
    array = rng.integers(*limits, shape, dtype=kind, endpoint=True)
    array[0, 0], array[-1, -1] = limits
    return array


def as_read(array):
    return (
        array.astype(np.uint8) * 255
        if array.dtype == bool
        else array.astype(READ_AS.get(array.dtype.name, array.dtype))
    )


def first_axis(array):
    return np.ascontiguousarray(np.moveaxis(array, 2, 0))


def flat(array):
    return array[:, :, 0] if array.shape[2] == 1 else array


def png(path, array):
    if array.dtype == bool:
        Image.fromarray(array[:, :, 0]).save(path)
    else:
        path.write_bytes(imagecodecs.png_encode(flat(array)))


# arrangement: (extension, function that writes it, numbers of channels that it holds)
ARRANGEMENTS = {
    "png": ("png", png, (1, 2, 3, 4)),
    "npy": ("npy", lambda path, array: np.save(path, flat(array)), (1, 2, 3, 4, 5)),
    "npy, big-endian": ("npy", lambda path, array: np.save(path, flat(array).astype(array.dtype.newbyteorder(">"))),
                        (1, 3)),
    "npy, Fortran": ("npy", lambda path, array: np.save(path, np.asfortranarray(flat(array))), (1, 5)),
    "npy, first axis": ("npy", lambda path, array: np.save(path, first_axis(array)), (1, 2, 3, 5)),
    "npz": ("npz", lambda path, array: np.savez_compressed(path, flat(array)), (1, 3)),
    "tif, bands": ("tif", lambda path, array: tifffile.imwrite(path, flat(array), photometric="minisblack",
                                                                planarconfig="contig" if array.shape[2] > 1 else None),
                   (1, 2, 3, 4, 5)),
    "tif, planes": ("tif", lambda path, array: tifffile.imwrite(path, first_axis(array), photometric="minisblack",
                                                                 planarconfig="separate"), (2, 3, 5)),
    "tif, pages": ("tif", lambda path, array: tifffile.imwrite(path, first_axis(array), photometric="minisblack"),
                   (2, 4, 5)),
    "tif, compressed": ("tif", lambda path, array: tifffile.imwrite(path, flat(array), compression="zlib",
                                                                    photometric="minisblack"), (1,)),
}  # fmt: skip
# bits are packed for one band only; a writer of several bands that takes them would have to say so
CASES = [
    (name, kind, channels)
    for (name, (_, _, numbers)), kind in product(ARRANGEMENTS.items(), TYPES)
    for channels in numbers
    if (name != "png" or kind in PNG_TYPES) and not (kind == "bool" and channels > 1 and name in ("png", "tif, bands"))
]


def write(name, path, kind, channels):
    """Write an image, and return its path and what is to be read."""
    suffix, writer, _ = ARRANGEMENTS[name]
    array = stored(kind, channels)
    writer(path.with_suffix(f".{suffix}"), array)
    return path.with_suffix(f".{suffix}"), as_read(array)


def pixels(path, channels, **options):
    image = open_image(str(path), channels, ReadOptions(**options))
    array = np.asarray(getattr(image, "array", image))
    return array[:, :, None] if array.ndim == 2 else array


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()


@pytest.mark.parametrize(("name", "kind", "channels"), CASES)
def test_values_are_read_unchanged_from_disk_and_zip(name, kind, channels, tmp_path):
    path, expected = write(name, tmp_path / "x", kind, channels)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(path, path.name)
    for place in (path, tmp_path / "d.zip" / path.name):
        assert same(pixels(place, channels), expected)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind, channels in CASES if channels == 1])
def test_grey_is_repeated_and_has_no_other_channels(name, kind, tmp_path):
    path, expected = write(name, tmp_path / "x", kind, 1)
    assert same(pixels(path, 3), expected.repeat(3, axis=2))
    for channels in (2, 4, 5):
        assert f"has 1 channel and cannot be converted to {channels}; use --input_nc 1" in refused(path, channels)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind, channels in CASES if channels == 3])
def test_colours_become_luminance(name, kind, tmp_path):
    path, expected = write(name, tmp_path / "x", kind, 3)
    grey = pixels(path, 1)
    exact = expected.astype(float) @ [0.299, 0.587, 0.114]
    assert grey.dtype == expected.dtype and grey.shape == (HEIGHT, WIDTH, 1)
    assert np.abs(grey[:, :, 0] - exact).max() <= max(1, 1e-6 * np.abs(exact).max())
    assert "has 3 channels and cannot be converted to 5" in refused(path, 5)


@pytest.mark.parametrize(
    ("name", "kind", "channels"), [case for case in CASES if case[2] in (2, 4) and case[0] != "png"]
)
def test_bands_are_never_taken_for_transparency(name, kind, channels, tmp_path):
    """Only a file that says so has transparency; of arrays, those of 8 bits with four channels, as of screenshots."""
    path, expected = write(name, tmp_path / "x", kind, channels)
    if name == "npy" and (kind, channels) == ("uint8", 4):
        share = expected[:, :, 3:] / 255
        assert np.abs(pixels(path, 3) - (expected[:, :, :3] * share + 255 * (1 - share))).max() <= 1
    elif "pages" in name or ("bands" in name and (kind, channels) == ("uint8", 2)):  # the first is used, as Pillow does
        assert same(pixels(path, 1), expected[:, :, :1])
    else:
        for wanted in (1, 3):
            alpha = f"convert it to {wanted} channel{'s' * (wanted > 1)} (as PNG if the last is transparency)"
            said = f"has {channels} channels and cannot be converted to {wanted}; use --input_nc {channels} or "
            assert refused(path, wanted).endswith(f"{said}--output_nc {channels} in training, or {alpha}")
        assert pixels(path, channels).shape[2] == channels  # the flag's advice works
        Image.fromarray((expected > 0).astype("uint8")).save(tmp_path / "x.png")  # and so does the file's
        assert [pixels(tmp_path / "x.png", wanted).shape[2] for wanted in (1, 3)] == [1, 3]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_with_webp_compression_says_what_to_save(channels, tmp_path, capfd):
    """Before the first step, too, and without lines of other libraries."""
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (tmp_path / "d").mkdir()
    tifffile.imwrite(tmp_path / "d" / "x.tif", image, photometric="rgb", compression="webp", metadata=None)
    said = "x.tif': is a TIFF with WebP compression, which is read once it is saved as PNG; "
    assert refused(tmp_path / "d" / "x.tif", channels).endswith(said + "convert it to PNG")
    with pytest.raises(DataError, match=said):
        make("single", tmp_path / "d", "--input_nc", channels).spec()
    assert "configured" not in capfd.readouterr().err
    save_image(image, tmp_path / "d" / "x.png")
    if channels < 4:
        assert pixels(tmp_path / "d" / "x.png", channels).shape[2] == channels


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("extra", ["unspecified", "unassalpha"])
def test_the_fourth_band_of_rgb_counts_as_the_file_says(kind, extra, tmp_path):
    array = stored(kind, 4)
    if kind == "float32":
        array = (array - array.min()) / np.ptp(array)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb", extrasamples=[extra])
    assert same(pixels(tmp_path / "x.tif", 4), array)
    share = array[:, :, 3:] / (1 if kind == "float32" else np.iinfo(kind).max)
    shown = array[:, :, :3] * share + (1 - share) * (1 if kind == "float32" else np.iinfo(kind).max)
    expected = array[:, :, :3] if extra == "unspecified" else shown
    assert np.abs(pixels(tmp_path / "x.tif", 3) - expected).max() <= (1e-6 if kind == "float32" else 1)


CONTENTS = {
    "png": lambda path, array: Image.fromarray(array).save(path, "PNG"),
    "bmp": lambda path, array: Image.fromarray(array).save(path, "BMP"),
    "tif": lambda path, array: Image.fromarray(array).save(path, "TIFF"),
    "deep tif": lambda path, array: tifffile.imwrite(path, array.astype(np.uint16)),
    "npy": lambda path, array: np.save(open(path, "wb"), array),
    "npz": lambda path, array: np.savez(open(path, "wb"), array),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "npy", "npz"])
def test_the_content_decides_not_the_extension(content, extension, tmp_path):
    array = stored("uint8")[:, :, 0]
    CONTENTS[content](tmp_path / f"x.{extension}", array)
    assert (pixels(tmp_path / f"x.{extension}", 1)[:, :, 0] == array).all()
    assert len(make("single", tmp_path).spec().__dict__) > 0


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("name", "kind", "channels"), [case for case in CASES if case[2] in (1, 5)])
def test_the_limit_of_pixels_is_exact(name, kind, channels, tmp_path):
    path, expected = write(name, tmp_path / "x", kind, channels)
    assert same(pixels(path, channels, max_pixels=HEIGHT * WIDTH), expected)
    with pytest.raises(DataError, match="more pixels than --max_image_pixels"):
        pixels(path, channels, max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ["tif, bands", "npy"])
@pytest.mark.parametrize("flag", ["", "auto", "-5,100"])
def test_the_range_of_a_type_becomes_minus_1_to_1(flag, name, kind, tmp_path):
    """8 and 16 bits without sign: the full range. Others: what was measured. Flags go before both."""
    (tmp_path / "d").mkdir()
    expected = write(name, tmp_path / "d" / "x", kind, 1)[1]
    read = expected.dtype.name
    if flag == "-5,100":
        lo, hi = -5, 100
    elif not flag and read in FULL_RANGES:
        lo, hi = FULL_RANGES[read]
    else:
        lo, hi, _ = measure_range([expected.astype(float)], read)
    dataset = make("single", tmp_path / "d", "--input_nc", 1, "--preprocess", "crop", "--crop_size", "17x12",
                   "--no_flip", "--range", flag)  # fmt: skip
    text = dataset.spec().range_A
    exact = ((expected.astype(float) - lo) / (hi - lo)).clip(0, 1) * 2 - 1
    assert np.abs(sample(dataset)["A"].numpy()[0] - exact[:, :, 0]).max() < 1e-6
    assert text == ("" if read == "uint8" else read) if not flag and read in FULL_RANGES else text.endswith(f" {read}")


@pytest.mark.parametrize("first", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("second", ["uint8", "uint16", "int16", "float64"])
def test_files_of_several_types_have_the_range_of_their_own(first, second, tmp_path, capsys):
    (tmp_path / "d").mkdir()
    arrays = [write("npy", tmp_path / "d" / name, kind, 1)[1] for name, kind in (("1", first), ("2", second))]
    argv = [tmp_path / "d", "--input_nc", 1, "--preprocess", "crop", "--crop_size", "17x12", "--no_flip"]
    dataset = make("single", *argv)
    text = dataset.spec().range_A
    if first != second:
        assert text == ("uint16" if first == "uint16" else "")
        for index, array in enumerate(arrays):
            lo, hi = FULL_RANGES.get(array.dtype.name, (float(array.min()), float(array.max())))
            exact = (array[:, :, 0].astype(float) - lo) / (hi - lo) * 2 - 1
            assert np.abs(sample(dataset, index)["A"].numpy()[0] - exact).max() < 1e-6
    assert make("single", *argv, "--range", "0,7").spec().range_A == f"0,7 {first}"


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_results_have_the_type_that_was_read(channels, kind, tmp_path):
    """What an identity would make of an image is written and read as it was."""
    expected = as_read(stored(kind, channels))
    values = measure_range([expected.astype(float)], expected.dtype.name)
    made = values.denormalise(torch.from_numpy(values.normalise(expected)).permute(2, 0, 1))
    step = (values.max - values.min) * 2**-24  # networks see float32
    assert made.dtype == expected.dtype and np.abs(made.astype(float) - expected.astype(float)).max() <= max(
        1, 2 * step
    )
    suffixes = [".tif", ".npy"] + [".png"] * (expected.dtype.name in PNG_TYPES and channels < 5)
    for suffix in suffixes:
        save_array(made, tmp_path / f"x{suffix}")
        assert same(pixels(tmp_path / f"x{suffix}", channels), made), suffix


@pytest.mark.parametrize("kind", TYPES)
def test_a_cache_changes_nothing(kind, tmp_path):
    (tmp_path / "d").mkdir()
    write("npy", tmp_path / "d" / "x", kind, 2)
    argv = [tmp_path / "d", "--input_nc", 2, "--load_size", 40, "--crop_size", 32]
    plain, kept = (make("single", *argv, "--cache", cache) for cache in ("off", "ram"))
    assert plain.spec() == kept.spec()
    for draw in range(3):
        assert (sample(plain, 0, draw)["A"] == sample(kept, 0, draw)["A"]).all()


@pytest.mark.parametrize(("name", "kind", "channels"), [
    *[("npy", kind, channels) for kind in TYPES for channels in (1, 2, 3, 4, 5)],
    *[("tif, bands", kind, channels) for kind in TYPES for channels in (1, 2, 3, 5)],
    *[("tif, pages", "uint8", 2), ("tif, pages", "int16", 5), ("png", "uint8", 4), ("png", "uint16", 3)],
])  # fmt: skip
def test_joined_files_and_two_folders_give_the_same_pairs(name, kind, channels, tmp_path):
    suffix, writer, _ = ARRANGEMENTS[name]
    array = stored(kind, channels)[:, :16]
    for folder, part in (("one/train", array), ("two/trainA", array[:, :8]), ("two/trainB", array[:, 8:])):
        (tmp_path / folder).mkdir(parents=True)
        writer(tmp_path / folder / f"x.{suffix}", np.ascontiguousarray(part))
    argv = ["--input_nc", channels, "--output_nc", channels, "--preprocess", "none", "--range", "0,255"]
    one, two = (sample(make("aligned", tmp_path / folder, *argv)) for folder in ("one", "two"))
    assert all((one[side] == two[side]).all() and one[side].shape == (channels, 12, 8) for side in "AB")


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("suffix", ["npy", "tif"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value, suffix, kind, tmp_path):
    array = stored(kind)[:, :, 0]
    array[3, 4] = value
    np.save(tmp_path / "x.npy", array) if suffix == "npy" else tifffile.imwrite(tmp_path / "x.tif", array)
    assert "NaN or Inf" in refused(tmp_path / f"x.{suffix}", 1)


@pytest.mark.parametrize("kind", ["int64", "uint64"])
@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_integers_that_would_be_rounded_are_refused(suffix, kind, tmp_path):
    array = np.full((4, 4), 2**53 + 2, kind)
    np.save(tmp_path / "x.npy", array) if suffix == "npy" else tifffile.imwrite(tmp_path / "x.tif", array)
    assert "beyond 2**53" in refused(tmp_path / f"x.{suffix}", 1)


@pytest.mark.parametrize(
    ("kind", "channels", "said"),
    [
        ("uint8", 5, False),
        ("uint16", 5, False),
        ("uint8", 3, True),
        ("uint16", 3, False),
        ("uint8", 1, True),
        ("uint16", 1, True),
    ],
)
def test_pages_that_are_channels_are_not_said_to_be_left_out(kind, channels, said, tmp_path, capsys):
    (tmp_path / "d").mkdir()
    pages = stored(kind, max(2, channels))
    tifffile.imwrite(tmp_path / "d" / "x.tif", first_axis(pages), photometric="minisblack")
    make("single", tmp_path / "d", "--input_nc", channels).spec()
    assert ("hold several frames" in capsys.readouterr().out) == said


@pytest.mark.parametrize("shape", [(7, 64, 64), (64, 64, 7), (6, 20, 30)])
def test_an_array_of_other_channels_names_their_number(shape, tmp_path):
    """The advice works: that many channels are read, and the image has its height and width."""
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random(shape))
    number = min(shape)
    for channels in (1, 3, 4):
        assert f"has {number} channels and cannot be converted to {channels}; use --input_nc {number} or" in refused(
            tmp_path / "x.npy", channels
        )
    assert pixels(tmp_path / "x.npy", number).shape == (*[n for n in shape if n != number], number)


def other_profile():
    """Return sRGB's profile under another name with another gamma: conversions change grey and colours."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    renamed = profile.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))
    return renamed.replace(bytes.fromhex("00026666"), bytes.fromhex("00016666"))  # 2.4 and 1.4, in 16.16 bits


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
@pytest.mark.parametrize("container", ["png", "tif", "webp", "jpg"])
def test_halves_of_a_pair_are_converted_from_their_profile_once(container, mode, tmp_path):
    """Also grey with a profile of colours, which cannot be converted: both layouts leave it as it is."""
    if (container, mode) in (("webp", "L"), ("webp", "P"), ("jpg", "P")):
        pytest.skip("the format has no such images")
    profile = other_profile()
    extra = {"lossless": True} if container == "webp" else {"quality": 100} if container == "jpg" else {}
    both = picture(3, 64, 32).convert(mode)
    for folder, part in (("one/train", both), ("two/trainA", both.crop((0, 0, 32, 32))),
                         ("two/trainB", both.crop((32, 0, 64, 32)))):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        part.save(tmp_path / folder / f"x.{container}", icc_profile=profile, **extra)
    for flags in ([], ["--no_icc"]):
        one, two = (sample(make("aligned", tmp_path / f, "--preprocess", "none", *flags)) for f in ("one", "two"))
        differences = [(one[side] - two[side]).abs() for side in "AB"]
        assert all(each.mean() < 0.05 if container == "jpg" else not each.any() for each in differences)


@pytest.mark.parametrize("side", "AB")
def test_grey_with_a_profile_of_colours_is_joined_unconverted(side, tmp_path):
    """Grey with a profile of colours cannot be converted: joined with it to colours, it must not be either."""
    for letter in "AB":
        (tmp_path / "two" / f"train{letter}").mkdir(parents=True)
        image = picture(3, mode="L" if letter == side else "RGB")
        image.save(tmp_path / "two" / f"train{letter}" / "x.png", icc_profile=other_profile())
    (tmp_path / "one" / "train").mkdir(parents=True)
    o = SimpleNamespace(resize="", format="keep", num_threads=1, on_bad_image="stop")
    tasks, _ = join_tasks(
        find_pairs(tmp_path / "two" / "trainA", tmp_path / "two" / "trainB"), tmp_path / "one" / "train", o
    )
    for task in tasks:
        task.write(task.target)
    one, two = (sample(make("aligned", tmp_path / folder, "--preprocess", "none")) for folder in ("one", "two"))
    assert all((one[letter] - two[letter]).abs().max() < 0.02 for letter in "AB")
