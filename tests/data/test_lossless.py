"""data/prepare/lossless.py keeps every bit of an image when it reads, joins, scales and writes."""

import io
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from data.decoding.images import DEFAULT_READ_OPTIONS, open_image
from data.decoding.raster import to_array
from data.prepare import lossless
from tests.support.images import picture
from util.errors import DataError

KINDS = [
    (kind, dtype, channels)
    for kind, dtypes in lossless.CHANNELS_OF_FORMAT.items()
    for dtype, numbers in dtypes.items()
    for channels in numbers
]
KINDS += [
    (kind, dtype, n)
    for kind in ("TIFF", "NPY")
    for dtype in ("uint8", "uint16", "int16", "int32", "float32")
    for n in (1, 3, 4, 6)
]


def numbers(dtype, channels, height=6, width=9, seed=0):
    """Values from the least to the greatest that the kind of number has."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    if dtype == "float32":
        return rng.normal(size=shape).astype(np.float32) * 1e4
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


@pytest.mark.parametrize(("kind", "dtype", "channels"), [row for row in KINDS if row[0] != "JPEG"])
def test_what_is_written_is_read_back_bit_by_bit(tmp_path, kind, dtype, channels):
    values = numbers(dtype, channels)
    path = tmp_path / f"x{lossless.SUFFIXES[kind]}"
    lossless.write_image(lossless.LosslessImage(values, kind), path, kind)
    back = lossless.read_image(path)
    assert back.format == kind
    if kind == "GIF":  # its palette, of greys, is looked up
        back = lossless.LosslessImage(back.values[..., 0], kind)
    assert back.values.dtype == values.dtype and np.array_equal(back.values, values)
    head = lossless.read_header(path)
    assert (head.width, head.height, head.format, head.frames) == (9, 6, kind, 1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_keeps_nearly_everything(tmp_path, mode):
    values = np.asarray(picture(1, mode=mode))
    lossless.write_image(lossless.LosslessImage(values, "JPEG"), tmp_path / "x", "JPEG")
    back = lossless.read_image(tmp_path / "x").values
    assert back.shape == values.shape and np.abs(back.astype(int) - values).mean() < 2


@pytest.mark.parametrize(("kind", "dtype", "channels"), [
    ("JPEG", "uint16", 1), ("JPEG", "uint8", 4), ("PNG", "int32", 1), ("PNG", "float32", 1),
    ("BMP", "uint16", 1), ("GIF", "uint8", 3), ("WEBP", "uint8", 1), ("PPM", "uint8", 4)])  # fmt: skip
def test_a_format_that_would_lose_something_is_refused(tmp_path, kind, dtype, channels):
    with pytest.raises(DataError, match=f"cannot be stored in a {kind} file"):
        lossless.write_image(lossless.LosslessImage(numbers(dtype, channels), kind), tmp_path / "x", kind)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("channels", "planes"), [(2, "contig"), (4, "contig"), (4, "separate"), (5, "contig")])
def test_bands_are_kept_and_are_no_transparency(tmp_path, dtype, channels, planes):
    """Pillow dropped near infrared of 8 bits; that of 16 bits was cut off as what follows the colours."""
    values = numbers(dtype, channels)
    kind, more = ("minisblack", 1) if channels == 2 else ("rgb", channels - 3)
    stored = np.moveaxis(values, 2, 0) if planes == "separate" else values
    extra = {"extrasamples": ["UNSPECIFIED"] * more}
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=kind, planarconfig=planes, metadata=None, **extra)
    image = lossless.read_image(tmp_path / "x.tif")
    assert np.array_equal(image.values, values) and image.is_bands
    both = lossless.join_side_by_side(image, image, "x")
    lossless.write_image(both, tmp_path / "both.tif", "TIFF")
    again = lossless.read_image(tmp_path / "both.tif")
    assert np.array_equal(again.values, np.hstack([values, values])) and again.is_bands
    assert np.array_equal(
        to_array(open_image(str(tmp_path / "both.tif"), channels, DEFAULT_READ_OPTIONS)), again.values
    )
    clear = values.copy()
    clear[..., -1] = 0
    assert lossless.resize(replace(image, values=clear), (4, 3), "bicubic").values[..., 0].any(), "0 is not transparent"
    with pytest.raises(DataError, match="cannot be stored in a PNG file"):
        lossless.write_image(image, tmp_path / "x.png", "PNG")
    with pytest.raises(DataError, match="one file cannot have both"):
        lossless.join_side_by_side(image, lossless.LosslessImage(numbers(dtype, 3), "TIFF"), "x")


def test_colours_of_16_bits_are_read_with_all_of_them(shared):
    file = shared / "data/odd_images/readable/tiff_16bit_RGB.tiff"
    assert lossless.read_header(file).mode == "RGB;16"
    values = lossless.read_image(file).values
    assert values.shape == (40, 100, 3) and values.dtype == np.uint16 and len(np.unique(values & 255)) > 100


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(3, 20, 12).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(lossless.read_image(tmp_path / "x.png").values, upright)
    head = lossless.read_header(tmp_path / "x.png")
    assert (head.height, head.width) == upright.shape[:2]


@pytest.mark.parametrize(("mode", "shape"), [
    ("1", (40, 48)), ("L", (40, 48)), ("LA", (40, 48, 2)), ("P", (40, 48, 3)), ("CMYK", (40, 48, 3)),
    ("RGBA", (40, 48, 4)), ("I;16", (40, 48)), ("F", (40, 48))])  # fmt: skip
def test_every_mode_is_read(tmp_path, mode, shape):
    source = picture(5, mode="L" if mode in ("I;16", "F") else "RGB").convert(mode)
    source.save(tmp_path / "x.tif")
    values = lossless.read_image(tmp_path / "x.tif").values
    assert values.shape == shape
    if mode not in ("I;16", "F"):
        same = source.convert({2: "L", 3: "RGB"}[len(shape)] if len(shape) == 2 or shape[2] == 3 else mode)
        assert np.array_equal(values, np.asarray(same))


def test_a_palette_stays_one_only_if_asked_for(tmp_path):
    source = picture(6).quantize(7)
    source.save(tmp_path / "x.png")
    kept, looked_up = lossless.read_image(tmp_path / "x.png", indexed=True), lossless.read_image(tmp_path / "x.png")
    assert np.array_equal(kept.values, np.asarray(source)) and looked_up.values.shape == (40, 48, 3)
    lossless.write_image(lossless.resize(kept, (24, 20), "nearest"), tmp_path / "y.png", "PNG")
    with Image.open(tmp_path / "y.png") as small:
        assert small.mode == "P" and small.getpalette()[:21] == source.getpalette()[:21]
        assert np.array_equal(np.asarray(small), np.asarray(source.resize((24, 20), Image.Resampling.NEAREST)))
    with pytest.raises(ValueError, match="cannot be interpolated"):
        lossless.resize(kept, (24, 20), "bicubic")


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_within_their_range(channels):
    values = numbers("uint16", channels, 10, 8)  # scaled up, so that lobes of the filter go beyond
    small = lossless.resize(lossless.LosslessImage(values, "PNG"), (13, 16), "lanczos")
    assert small.values.shape[:2] == (16, 13) and small.values.dtype == np.uint16
    plane = values if channels == 1 else values[..., 1]
    wanted = np.asarray(Image.fromarray(plane.astype(np.float32)).resize((13, 16), Image.Resampling.LANCZOS))
    found = small.values if channels == 1 else small.values[..., 1]
    assert np.array_equal(found, wanted.round().clip(0, 65535).astype(np.uint16))
    assert wanted.max() > 65535 or wanted.min() < 0, "the case needs values that have to be cut"
    nearest = lossless.resize(lossless.LosslessImage(values, "PNG"), (13, 16), "nearest").values
    assert set(nearest.ravel()) <= set(values.ravel())


def test_joining_widens_pictures_and_never_rounds_them():
    grey, colour, alpha = (lossless.LosslessImage(numbers("uint8", n), "PNG") for n in (1, 3, 4))
    deep = lossless.LosslessImage(numbers("uint16", 1), "PNG")
    both = lossless.join_side_by_side(grey, colour, "x").values
    assert np.array_equal(both[:, 9:], colour.values) and (both[:, :9] == grey.values[..., None]).all()
    both = lossless.join_side_by_side(grey, alpha, "x").values
    assert np.array_equal(both[:, 9:], alpha.values) and (both[:, :9, 3] == 255).all()
    both = lossless.join_side_by_side(grey, deep, "x").values
    assert both.dtype == np.uint16 and np.array_equal(both[:, 9:], deep.values)
    assert np.array_equal(both[:, :9] >> 8, grey.values) and both[:, :9].max() == 65535
    assert lossless.join_side_by_side(deep, deep, "x").values.shape == (6, 18)
    with pytest.raises(DataError, match=r"pair 'x': A holds uint16 and B float32"):
        lossless.join_side_by_side(deep, lossless.LosslessImage(numbers("float32", 1), "TIFF"), "x")


def test_profiles_are_kept_or_become_srgb(tmp_path, shared):
    source = shared / "data/odd_images/readable/rgb.jpg"
    raw = lossless.read_image(source)
    assert raw.profile and lossless.read_image(source, srgb=True).profile is None
    assert lossless.join_side_by_side(raw, raw, "x").profile == raw.profile
    lossless.write_image(raw, tmp_path / "x.png", "PNG")
    assert lossless.read_image(tmp_path / "x.png").profile == raw.profile
    cold = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    Image.new("LAB", (4, 4), (128, 128, 128)).save(tmp_path / "lab.tif", icc_profile=cold.tobytes())
    assert lossless.read_image(tmp_path / "lab.tif").values.shape == (4, 4, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", b"<html>", b"\x89PNG\r\n\x1a\n", b"II*\0" + bytes(99)])
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    for look in (lossless.read_header, lossless.read_image):
        with pytest.raises(DataError, match=r"image '.*x.png': ") as said:
            look(tmp_path / "x.png")
        assert "\n" not in str(said.value)


def test_a_jpeg_without_its_end_is_read_as_in_training(tmp_path):
    picture(1).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[:-2])
    assert np.array_equal(
        lossless.read_image(tmp_path / "cut.jpg").values, lossless.read_image(tmp_path / "whole.jpg").values
    )
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut.jpg': cannot be read \(OSError"):
        lossless.read_image(tmp_path / "cut.jpg")


def test_a_picture_cut_off_is_refused_by_name(tmp_path):
    memory = io.BytesIO()
    picture(1).save(memory, "PNG")
    (tmp_path / "x.png").write_bytes(memory.getvalue()[:900])
    assert lossless.read_header(tmp_path / "x.png").size == "48x40"
    with pytest.raises(DataError, match=r"x.png': cannot be read \(OSError"):
        lossless.read_image(tmp_path / "x.png")
