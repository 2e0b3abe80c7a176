"""Image files of every format are read upright in 8 bits or refused in one line, and written without loss."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from data.decoding.images import ReadOptions, open_image, parse_colour
from data.listing.files import list_files
from data.listing.paths import has_image_extension
from data.transforms import Preprocess, to_tensor
from tests.support.images import picture, refused
from util import image_io
from util.errors import DataError
from util.image_io import array_to_pil, save_image, save_png, to_pixels


def scene(width=11, height=7):
    """Noise, so that no two places and no two ways of turning it are alike."""
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(path, channels=3):
    image = open_image(str(path), channels)
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    return np.asarray(image)


# --- orientation ----------------------------------------------------------------------------------------------------

# how a camera that writes this orientation stores an upright picture: what a viewer undoes (EXIF 2.3, tag 0x0112)
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_loads_to_the_same_pixels(orientation, kind, tmp_path):
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](scene())))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x.{kind}", exif=exif, **({"lossless": True} if kind == "webp" else {}))
    assert (read(tmp_path / f"x.{kind}") == scene()).all()


@pytest.mark.parametrize("orientation", STORED)
def test_jpegs_are_turned_too(orientation, tmp_path):
    """Lossy, so compared with what turning the decoded pixels back gives."""
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(picture(0, 48, 32)))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    got = read(tmp_path / "x.jpg")
    assert got.shape == (32, 48, 3)
    assert np.abs(got.astype(int) - np.asarray(picture(0, 48, 32))).mean() < 4
    decoded = np.asarray(Image.open(tmp_path / "x.jpg"))
    assert (STORED[orientation](got) == decoded).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "x.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff broken")
    assert (read(tmp_path / "x.png") == scene()).all()


# --- kinds of pixels ------------------------------------------------------------------------------------------------

DEEP = np.array([[0, 1, 255, 256, 257], [4660, 32767, 32768, 65279, 65535]], dtype=np.uint16)


def pgm(path, values, order=">"):
    height, width = values.shape
    path.write_bytes(b"P5\n%d %d\n65535\n" % (width, height) + values.astype(order + "u2").tobytes())


def tiff(path, values, order):
    """A minimal uncompressed 16-bit grey TIFF in either byte order."""
    height, width = values.shape
    data = values.astype(order + "u2").tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, height), (279, 4, len(data))]  # fmt: skip
    body = struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        packed = struct.pack(order + ("HH" if kind == 3 else "I"), *((value, 0) if kind == 3 else (value,)))
        body += struct.pack(order + "HHI", tag, kind, 1) + packed
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(order + "I", 8 + len(data))
    path.write_bytes(head + data + body + b"\0\0\0\0")


WRITERS = {
    "x.png": lambda path, values: Image.fromarray(values).save(path),
    "x.tif": lambda path, values: tiff(path, values, "<"),
    "big_endian.tif": lambda path, values: tiff(path, values, ">"),
    "x.pgm": pgm,
}


@pytest.mark.parametrize("values", [DEEP, DEEP // 300], ids=["bright", "dark"])
@pytest.mark.parametrize("name", WRITERS)
def test_16_bit_grey_keeps_its_numbers(name, values, tmp_path):
    """In any format and byte order, and also where no value is above 255: such a picture is black, not bright."""
    WRITERS[name](tmp_path / name, values)
    for channels in (1, 3):
        raster = open_image(str(tmp_path / name), channels)
        assert raster.array.dtype == np.uint16
        assert (raster.array == np.repeat(values[..., None], channels, axis=2)).all()


def test_16_bit_colour_keeps_its_numbers(tmp_path):
    rgb = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    head = struct.pack(">IIBBBBB", 5, 2, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    raster = open_image(str(tmp_path / "x.png"), 3)
    assert raster.array.dtype == np.uint16
    assert (raster.array == rgb).all()


def test_palettes_are_looked_up(tmp_path):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.putpalette([n for i in range(256) for n in (i, 255 - i, 7 * i % 256)])
    for name, extra in (("x.png", {}), ("x.gif", {}), ("x.bmp", {}), ("transparent.png", {"transparency": 3})):
        image.save(tmp_path / name, **extra)
        assert read(tmp_path / name)[2, 1].tolist() == [9, 246, 63]


@pytest.mark.parametrize("background", ["white", "#102030", "none"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_what_is_behind_them(mode, background, tmp_path):
    """Without a background the colours stay as they are stored, also where nothing of them would show."""
    alpha = scene()[:, :, 1]
    image = Image.fromarray(scene()).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "x.png")
    opaque = np.asarray(Image.fromarray(scene()).convert("L" if mode == "LA" else "RGB").convert("RGB"))
    share = alpha[..., None] / 255
    behind = np.array(parse_colour(background) or (0, 0, 0))
    expected = opaque if background == "none" else opaque * share + behind * (1 - share)
    got = np.asarray(open_image(str(tmp_path / "x.png"), 3, ReadOptions(parse_colour(background))))
    assert np.abs(got - expected).max() <= 1
    assert (got == opaque)[alpha == 255].all()


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_a_transparent_colour_shows_the_background(mode, tmp_path):
    image = Image.fromarray(scene()).convert(mode)
    key = image.getpixel((3, 2))
    image.save(tmp_path / "x.png", transparency=key)
    with Image.open(tmp_path / "x.png") as stored:
        alpha = np.asarray(stored.convert("RGBA"))[:, :, 3]
    assert 0 < np.count_nonzero(alpha == 0) < alpha.size
    assert (read(tmp_path / "x.png")[alpha == 0] == 255).all()
    plain = np.asarray(image.convert("RGB"))
    assert (read(tmp_path / "x.png")[alpha == 255] == plain[alpha == 255]).all()


def test_one_bit_becomes_black_and_white(tmp_path):
    bits = scene()[:, :, 0] > 127
    for name in ("x.png", "x.pbm", "x.tif", "x.bmp"):
        Image.fromarray(bits).save(tmp_path / name)
        assert (read(tmp_path / name, 1) == bits * 255).all(), name
        assert (read(tmp_path / name, 3) == bits[..., None] * 255).all(), name


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.fromarray(scene()).convert("CMYK")
    image.save(tmp_path / "x.tif")
    assert (read(tmp_path / "x.tif") == scene()).all()
    image.save(tmp_path / "x.jpg", quality=100, subsampling=0)
    assert np.abs(read(tmp_path / "x.jpg").astype(int) - scene()).mean() < 12


def test_grey_is_pillows_luminance_and_fills_three_channels(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "rgb.png")
    grey = np.asarray(Image.fromarray(scene()).convert("L"))
    assert (read(tmp_path / "rgb.png", 1) == grey).all()
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (read(tmp_path / "grey.png", 1) == grey).all()
    assert (read(tmp_path / "grey.png", 3) == grey[..., None]).all()


def test_animations_and_pages_give_their_first_picture(tmp_path):
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    for name, extra in (("x.webp", {"lossless": True}), ("x.tif", {}), ("x.png", {})):
        first.save(tmp_path / name, save_all=True, append_images=[second], **extra)
        assert (read(tmp_path / name) == scene()).all(), name


@pytest.mark.parametrize("name", ["x.jpg", "x.jpeg", "x.png", "x.ppm", "x.bmp", "x.tif", "x.tiff", "x.webp", "x.gif"])
def test_every_extension_is_found_in_any_case_and_opened(name, tmp_path):
    for path in (tmp_path / name, tmp_path / "UPPER" / name.upper(), tmp_path / name.replace(".", ".b.").title()):
        path.parent.mkdir(exist_ok=True)
        picture(0).save(path, format=Image.registered_extensions()["." + name.partition(".")[2]])
        assert has_image_extension(path.name)
        assert read(path).shape == (40, 48, 3)
    assert len(list_files(str(tmp_path))) == 3


def test_the_content_counts_not_the_extension(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "really_a_png.jpg", format="PNG")
    assert (read(tmp_path / "really_a_png.jpg") == scene()).all()


# --- the way through the code ---------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def sideways_jpeg(path, array):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(path, exif=exif)


KINDS = {
    "8 bits.png": lambda path, array: Image.fromarray(array).save(path),
    "sideways.jpg": sideways_jpeg,
    "16 bits.png": lambda path, array: path.write_bytes(imagecodecs.png_encode(array.astype(np.uint16) * 257)),
    "16-bit grey.png": lambda path, array: Image.fromarray(array[:, :, 0].astype(np.uint16)).save(path),
    "8 bits.tif": lambda path, array: Image.fromarray(array).save(path),
    "16 bits.tif": lambda path, array: tifffile.imwrite(path, array.astype(np.uint16), photometric="rgb"),
    "floats.npy": lambda path, array: np.save(path, array.astype(np.float32)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_few_functions_are_called_to_read_an_image(kind, tmp_path):
    """Our functions, from open_image to its end: opening, recognising, decoding, turning and converting; each once."""
    path = tmp_path / kind
    KINDS[kind](path, scene())
    open_image(str(path), 3)  # imports what is needed
    calls = []

    def note(frame, event, _):
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(ROOT) and "site-packages" not in file.parts:
            calls.append(f"{file.name}:{frame.f_code.co_name}")

    sys.setprofile(note)
    try:
        open_image(str(path), 3)
    finally:
        sys.setprofile(None)
    assert calls[0] == "images.py:open_image"
    assert len(calls) <= 12, "\n".join(calls)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert "--max_image_pixels" in refused(tmp_path / "x.png")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in refused(tmp_path / "x.png")
    (tmp_path / "folder.png").mkdir()
    assert "directory" in refused(tmp_path / "folder.png")


@pytest.mark.parametrize("channels", [0, 2, 4, 5])
def test_other_channel_counts_are_refused_naming_the_flags(channels, tmp_path):
    Image.fromarray(scene()).save(tmp_path / "x.png")
    text = refused(tmp_path / "x.png", channels)
    assert f"has 3 channels and cannot be converted to {channels}" in text
    assert "--input_nc" in text


def test_names_with_control_characters_stay_on_one_line(tmp_path):
    path = tmp_path / "a\nb\x1b[31m.png"
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        open_image(str(path), 3)
    assert "a\\nb\\x1b[31m.png" in str(caught.value)
    assert str(caught.value).isprintable()


ASKED = dict(
    preprocess="native",
    load_size=9,
    crop_size=9,
    no_flip=True,
    range="",
    range_A="",
    range_B="",
    isTrain=False,
    augment="",
    augment_A="",
    augment_B="",
)

# --- real oddities --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_odd_but_sound_files_load(shared):
    """All of a collection of real oddities."""
    folder = shared / "data" / "odd_images"
    rows = [line.split("\t") for line in (folder / "MANIFEST.tsv").read_text().splitlines()[1:]]
    sound = [row for row in rows if not row[0].startswith("unreadable/")]
    assert len(sound) > 70
    for name, _, kind, _, size, _, orientation, *_ in sound:
        width, height = map(int, size.split("x"))
        turned = orientation in tuple("5678") and kind != "TIFF"  # Pillow says of those what they are when turned
        for channels in (1, 3):
            image = open_image(str(folder / name), channels)
            assert image.size == ((height, width) if turned else (width, height)), name
            preprocess = Preprocess(SimpleNamespace(**ASKED))
            assert preprocess(image, name, preprocess.draw()).abs().max() <= 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_odd_and_broken_files_are_refused(shared):
    folder = shared / "data" / "odd_images" / "unreadable"
    broken = sorted(folder.iterdir())
    assert len(broken) > 15
    for path in broken:
        if path.name != "truncated_jpeg.jpg":  # which lacks one byte, of the marker after its last pixel
            refused(path)


def test_the_same_picture_in_all_orientations_is_the_same(shared):
    """Eight real files of one picture, of which only the stored orientation differs."""
    folder = shared / "data" / "odd_images" / "readable"
    upright = [read(folder / f"hopper_orientation_{n}.jpg").astype(int) for n in range(2, 9)]
    assert max(np.abs(other - upright[0]).mean() for other in upright[1:]) < 6
    assert np.abs(upright[0][:, ::-1] - upright[0]).mean() > 30, "turned otherwise it is another"


# --- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_every_8_bit_value_survives_writing_and_reading(channels, tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    array = np.stack([values, values[::-1], values[:, ::-1]][:channels], axis=2)
    tensor = to_tensor(Image.fromarray(array[:, :, 0] if channels == 1 else array))
    assert tensor.shape == (channels, 8, 32)
    back = to_pixels(tensor)
    assert back.dtype == np.uint8
    assert (back == array).all()
    save_image(back, tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == ("L" if channels == 1 else "RGB")
    assert torch.equal(to_tensor(open_image(str(tmp_path / "x.png"), channels)), tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_values_beyond_the_range_are_clamped_others_rounded():
    """-1.2 would wrap around to 230, 1.2 to 25."""
    values = torch.tensor([-1e9, -1.2, -1.0, -0.998, -0.994, 0.0, 0.5, 1.0, 1.2, 1e9]).view(1, 1, -1)
    assert to_pixels(values)[0, :, 0].tolist() == [0, 0, 0, 0, 1, 128, 191, 255, 255, 255]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert to_pixels(torch.ones(3, 2, 2, dtype=dtype)).min() == 255
    assert to_pixels(torch.zeros(3, 2, 2, requires_grad=True)).shape == (2, 2, 3)


@pytest.mark.parametrize(("ratio", "size"), [(1, (20, 10)), (2, (40, 10)), (1.5, (30, 10)), (0.5, (20, 20)),
                                             (0.7, (20, 14))])  # fmt: skip
def test_aspect_ratio_stretches_width_over_height(ratio, size, tmp_path):
    """Widened above 1, heightened below, never shrunk; bicubic."""
    array = np.asarray(picture(0, 20, 10))
    save_png(array_to_pil(array), tmp_path / "x.png", ratio)
    image = Image.open(tmp_path / "x.png")
    assert image.size == size
    expected = Image.fromarray(array).resize(size, Image.Resampling.BICUBIC) if ratio != 1 else array
    assert (np.asarray(image) == np.asarray(expected)).all()


@pytest.mark.parametrize("at_once", [0, 1 << 22], ids=["by strips", "at once"])
@pytest.mark.parametrize(("mode", "sides"), [("RGB", (20, 10)), ("L", (20, 10)), ("RGB", (1, 1)), ("L", (1, 7))])
def test_a_picture_is_written_as_it_is(mode, sides, at_once, tmp_path, monkeypatch):
    """Small ones by a coder in memory, larger ones as they are coded."""
    monkeypatch.setattr(image_io, "MAX_FAST_PNG_PIXELS", at_once)
    image = picture(3, *sides, mode=mode)
    assert save_png(image, tmp_path / "x.png") == sides
    with Image.open(tmp_path / "x.png") as found:
        assert (found.format, found.mode, found.size) == ("PNG", mode, sides)
        assert (np.asarray(found) == np.asarray(image)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_picture_is_replaced_in_one_step(tmp_path):
    save_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.png")
    before = os.stat(tmp_path / "x.png").st_ino
    with open(tmp_path / "x.png", "rb") as reader:
        save_image(np.full((4, 4, 3), 255, np.uint8), tmp_path / "x.png")
        assert (np.asarray(Image.open(io.BytesIO(reader.read()))) == 0).all(), "a reader keeps the whole old one"
    assert os.stat(tmp_path / "x.png").st_ino != before
    assert (np.asarray(Image.open(tmp_path / "x.png")) == 255).all()
