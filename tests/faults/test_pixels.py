"""Bombs, cut files, colour modes, orientation and metadata in image files are handled safely."""

import io
import itertools
import struct
import subprocess
import sys
import zlib
from functools import partial

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile, PngImagePlugin

from data.decoding.header_check import read_header
from data.decoding.images import ReadOptions, open_image
from data.decoding.raster import Raster, to_array
from data.prepare import lossless
from tests.support.fault_injection import small_shared_memory
from tests.support.images import picture
from tests.support.runs import ROOT, SMALL
from util.errors import DataError

TRAIN = [*SMALL, "--model", "pix2pix", "--netG", "resnet_4blocks", "--netD", "pixel", "--n_epochs", 1,
         "--n_epochs_decay", 0, "--no_html"]  # fmt: skip
RNG = np.random.default_rng(38)
COLOURS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)


# --- F34, F35 -------------------------------------------------------------------------------------------------------


@pytest.mark.fault(34)
def test_a_jpeg_that_lacks_its_last_bytes_is_taken(tmp_path):
    """A JPEG lacks its end but decodes: it is accepted; a JPEG that lacks pixels is refused."""
    for size, progressive in itertools.product(((64, 48), (320, 200)), (False, True)):
        stored = io.BytesIO()
        picture(0, *size).save(stored, "JPEG", progressive=progressive)
        data = stored.getvalue()
        for lacking in (1, 2):  # of the marker of its end
            (tmp_path / "x.jpg").write_bytes(data[:-lacking])
            assert (np.asarray(open_image(str(tmp_path / "x.jpg"), 3)) == np.asarray(Image.open(stored))).all()
        for lacking in (20, 60, len(data) // 2):
            (tmp_path / "x.jpg").write_bytes(data[:-lacking])
            with pytest.raises(DataError, match=r"x\.jpg.*[Tt]runcated"):
                open_image(str(tmp_path / "x.jpg"), 3)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def png(width, height, *chunks):
    """Return a PNG that claims a size, with hardly any pixels."""
    every = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks, (b"IDAT", zlib.compress(b"\0")),
             (b"IEND", b""))  # fmt: skip
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in every)
    return b"\x89PNG\r\n\x1a\n" + body


def gif_with_a_large_frame():
    """Return a GIF of 2x2 pixels whose frame is 60,000 x 60,000."""
    stored = io.BytesIO()
    Image.new("P", (2, 2)).save(stored, "GIF")
    data = bytearray(stored.getvalue())
    place = data.index(b"\x2c", 13)
    data[place + 5 : place + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(data)


BOMBS = {
    "60000x60000.png": png(60_000, 60_000),
    "10000x10000.png": png(10_000, 10_000),  # of which Pillow itself only warns
    "frame.gif": gif_with_a_large_frame(),
    "text.png": png(4, 4, (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 200_000_000, 9))),
    "profile.png": png(4, 4, (b"iCCP", b"x\0\0" + zlib.compress(b"x" * 200_000_000, 9))),
}


@pytest.mark.fault(35)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_in_one_line_and_little_memory(name, process, paired, record_property):
    """Images have billions of pixels, or GIF frames, texts or profiles that decompress to huge sizes: exit 3 with
    little memory.
    """
    for path in (paired / "train").iterdir():
        path.unlink()
    (paired / "train" / name).write_bytes(BOMBS[name])
    ended = process("train", *TRAIN, "--dataroot", paired, "--name", "x", PEAK="1")
    assert ended.code == 3, ended.err
    assert name in ended.last
    if name.startswith(("6", "1")):
        assert "--max_image_pixels" in ended.last


@pytest.mark.fault(35)
def test_an_option_limits_the_pixels_of_a_picture(tmp_path):
    """An image with more pixels than --max_image_pixels is refused with the option's name; one with exactly as many is
    read.
    """
    picture(0, 20, 20).save(tmp_path / "x.png")
    assert open_image(str(tmp_path / "x.png"), 3, ReadOptions(max_pixels=400)).size == (20, 20)
    for most in (399, 100):
        with pytest.raises(DataError, match=rf"more pixels than --max_image_pixels {most};"):
            open_image(str(tmp_path / "x.png"), 3, ReadOptions(max_pixels=most))


@pytest.mark.fault(35)
@pytest.mark.parametrize("shape", [(-(2**63), 128), (-1, 5), (4, -3), (-2, -3), (2**40, 2**40)])
def test_arrays_that_lie_about_their_shape_are_refused(shape, tmp_path):
    """The shape in a .npy file is negative or overflows when multiplied: one line names the file."""
    header_text = repr({"descr": "<u2", "fortran_order": False, "shape": shape}).encode()
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header_text)) + header_text + bytes(60)
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.npy': (holds an array of shape|is .* more pixels)"):
        open_image(str(tmp_path / "x.npy"), 1)


@pytest.mark.fault(35)
def test_no_more_pages_than_channels_are_looked_for(tmp_path, monkeypatch):
    """A TIFF has 40 pages (a damaged one can have millions): five are parsed, enough to see that they are not 4
    channels.
    """
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for _ in range(40):
            file.write(DEEP, metadata=None)
    parsed, parse = [], tifffile.TiffPage.__init__
    monkeypatch.setattr(
        tifffile.TiffPage, "__init__", lambda *args, **more: (parsed.append(1), parse(*args, **more))[1]
    )
    with pytest.raises(DataError, match="has 1 channel and cannot be converted to 4"):
        open_image(str(tmp_path / "x.tif"), 4)
    assert len(parsed) <= 5


# --- F38, F39 -------------------------------------------------------------------------------------------------------


def cmyk(rgb):
    return Image.fromarray(255 - np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]), "CMYK")


def with_alpha(colours, alpha):
    image = Image.fromarray(colours)
    image.putalpha(Image.fromarray(alpha))
    return image


def over_white(colours, alpha):
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def palette(transparent=False):
    image = Image.fromarray(GREY // 16, "P")
    image.putpalette([int(n) for i in range(16) for n in (i * 15, 255 - i * 15, i * 37 % 256)])
    return image


def looked_up(indices):
    return np.stack([indices * 15, 255 - indices * 15, indices * 37 % 256], axis=2)


def three(grey):
    return np.repeat(grey[..., None], 3, axis=2)


KEY = int(GREY[2, 3]) // 16
MODES = {  # how a file is made, and the RGB that it is
    "1.png": (lambda: Image.fromarray(GREY > 127), three((GREY > 127) * 255)),
    "L.png": (lambda: Image.fromarray(GREY), three(GREY)),
    "LA.png": (lambda: with_alpha(GREY, ALPHA), over_white(three(GREY), ALPHA)),
    "P.png": (palette, looked_up(GREY.astype(int) // 16)),
    "P.gif": (palette, looked_up(GREY.astype(int) // 16)),
    "P+tRNS.png": (palette, np.where((GREY // 16 == KEY)[..., None], 255, looked_up(GREY.astype(int) // 16))),
    "RGB.png": (lambda: Image.fromarray(COLOURS), COLOURS),
    "RGBA.png": (lambda: with_alpha(COLOURS, GREY), over_white(COLOURS, GREY)),
    "CMYK.tif": (lambda: cmyk(COLOURS), COLOURS),
    "I;16.png": (lambda: Image.fromarray(DEEP), three(DEEP)),
    "I;16.tif": (lambda: Image.fromarray(DEEP), three(DEEP)),
    "I;16B.tif": (lambda: Image.frombytes("I;16B", DEEP.shape[::-1], DEEP.astype(">u2").tobytes()), three(DEEP)),
    "I.tif": (lambda: Image.fromarray(DEEP.astype(np.int32) * 1000), three(DEEP.astype(np.int32) * 1000)),
    "F.tif": (lambda: Image.fromarray(DEEP.astype(np.float32) / 7), three(DEEP.astype(np.float32) / 7)),
}


@pytest.mark.fault(38)
@pytest.mark.parametrize("name", MODES)
def test_each_mode_gives_its_pixels(name, tmp_path):
    """Images have mode 1, L, LA, P, P+tRNS, RGB, RGBA, CMYK, I;16, I;16B, I or F: pixels are right, alpha is shown on
    white, and high bit depths are kept.
    """
    make, expected = MODES[name]
    make().save(tmp_path / name.replace(";", ""), **({"transparency": KEY} if "tRNS" in name else {}))
    got = open_image(str(tmp_path / name.replace(";", "")), 3)
    array = got.array if isinstance(got, Raster) else np.asarray(got)
    assert array.shape == expected.shape
    assert np.abs(array.astype(float) - expected).max() <= ("A" in name)


@pytest.mark.fault(38)
def test_jpegs_in_cmyk_give_their_colours(tmp_path):
    """A JPEG is in Adobe's inverted CMYK: its colours are right, not negative."""
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    cmyk(flat).save(tmp_path / "x.jpg", quality=100)
    assert b"Adobe" in (tmp_path / "x.jpg").read_bytes()
    got = np.asarray(open_image(str(tmp_path / "x.jpg"), 3)).astype(int)
    assert np.abs(got - (200, 40, 90)).max() <= 4


@pytest.mark.fault(39)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_give_one_pair(orientation, tmp_path, command):
    """A pair's file has each of EXIF's eight orientations: both halves equal those of an upright file."""
    upright = RNG.integers(0, 256, (16, 40, 3), dtype=np.uint8)
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
              6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(tmp_path / "x.png", exif=exif)
    assert (np.asarray(open_image(str(tmp_path / "x.png"), 3)) == upright).all()


@pytest.mark.fault(39)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_pictures_of_16_bits_are_turned_alike(late, orientation, tmp_path):
    """A 16-bit PNG has each of EXIF's eight orientations, stored before or after its pixels: every reader returns the
    same image.
    """
    upright = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
              6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1), 8: np.rot90(upright, -1)}  # fmt: skip
    exif = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    for channels in (1, 3):
        data = imagecodecs.png_encode(np.ascontiguousarray(stored[orientation][:, :, :channels].squeeze()))
        chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
        place = len(data) - 12 if late else 33  # before IEND, or after IHDR
        (tmp_path / "x.png").write_bytes(data[:place] + chunk + data[place:])
        got = open_image(str(tmp_path / "x.png"), channels)
        assert isinstance(got, Raster) and (got.array == upright[:, :, :channels]).all()
        assert (lossless.read_image(tmp_path / "x.png").values == upright[:, :, :channels].squeeze()).all()
        assert read_header(str(tmp_path / "x.png"), whole=True).size == (9, 6)


@pytest.mark.fault(39)
def test_each_reader_turns_a_tiff_once(tmp_path):
    """A TIFF of 8 or 16 bits is stored sideways: it is upright and has the stated size, in training and in scripts."""
    for kind in (np.uint8, np.uint16):
        values = RNG.integers(0, 256, (6, 9), dtype=np.uint8).astype(kind)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(np.rot90(values))).save(tmp_path / "x.tif", exif=exif)
        got = open_image(str(tmp_path / "x.tif"), 1)
        assert got.size == read_header(str(tmp_path / "x.tif")).size == (9, 6)
        assert (to_array(got)[..., 0] == values).all() and (
            lossless.read_image(tmp_path / "x.tif").values == values
        ).all()
        assert (lossless.read_header(tmp_path / "x.tif").width, lossless.read_header(tmp_path / "x.tif").height) == (
            9,
            6,
        )


@pytest.mark.fault(39)
def test_pairs_that_tell_their_orientation_late_are_taken(tmp_path, command):
    """A is upright, and B is a sideways PNG that stores its orientation after its pixels: their sizes agree."""
    for number in range(2):
        for side, turn in (("A", 1), ("B", 6)):
            (tmp_path / "d" / f"train{side}").mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = turn
            file = io.BytesIO()
            image = picture(number, 40, 36)
            (image.transpose(Image.Transpose.ROTATE_90) if turn == 6 else image).save(file, "PNG")
            said = exif.tobytes().removeprefix(b"Exif\0\0")
            chunk = struct.pack(">I", len(said)) + b"eXIf" + said + struct.pack(">I", zlib.crc32(b"eXIf" + said))
            data = file.getvalue()
            (tmp_path / "d" / f"train{side}" / f"{number}.png").write_bytes(data[:-12] + chunk + data[-12:])
    ended = command("train", *TRAIN, "--dataroot", tmp_path / "d", "--name", "x")
    assert ended.code == 0, ended.err


# --- F37 ------------------------------------------------------------------------------------------------------------


def moving(folder, frames=3):
    """Write a GIF, WebP, APNG and TIFF of some frames, and a TIFF with a smaller copy; return the first frame."""
    folder.mkdir(parents=True, exist_ok=True)
    first = Image.fromarray(np.repeat(np.repeat(COLOURS // 64 * 64, 6, axis=0), 6, axis=1)).quantize(64).convert("RGB")
    others = [Image.eval(first, lambda v, n=n: (255 - v) // (n + 1)) for n in range(frames - 1)]
    for name, extra in (("a.gif", {}), ("b.webp", {"lossless": True}), ("c.png", {}), ("d.tif", {})):
        first.save(folder / name, save_all=True, append_images=others, **extra)
    with tifffile.TiffWriter(folder / "e.tif") as file:
        file.write(np.asarray(first), photometric="rgb", metadata=None)
        file.write(np.asarray(first)[::2, ::2].copy(), photometric="rgb", subfiletype=1, metadata=None)
    picture(3, 54, 36).save(folder / "f.mpo", save_all=True, append_images=[picture(4, 54, 36)])
    (folder / "f.mpo").rename(folder / "f.jpg")
    return np.asarray(first)


@pytest.mark.fault(37)
def test_the_first_frame_is_used_everywhere_and_said_once(tmp_path, command):
    """GIF, WebP, APNG and TIFF files have several frames: training, tests and scripts use the first; one line gives the
    count.
    """
    first = moving(tmp_path / "d" / "trainA")
    for name in ("a.gif", "b.webp", "c.png", "d.tif", "e.tif"):
        path = tmp_path / "d" / "trainA" / name
        assert (np.asarray(open_image(str(path), 3)) == first).all(), name
        assert (lossless.read_image(path).values == first).all(), name
        assert read_header(str(path)).frames == (1 if name == "e.tif" else 3), name
    assert read_header(str(tmp_path / "d" / "trainA" / "f.jpg")).frames == 1, "a preview is no frame"
    (tmp_path / "d" / "trainB").mkdir()
    for number in range(2):
        picture(number).save(tmp_path / "d" / "trainB" / f"{number}.png")
    argv = [*SMALL, "--model", "cycle_gan", "--netG", "resnet_4blocks", "--netD", "pixel", "--n_epochs", 1,
            "--n_epochs_decay", 0, "--no_html"]  # fmt: skip
    ended = command("train", *argv, "--dataroot", tmp_path / "d", "--name", "x")
    assert ended.code == 0, ended.err
    notes = [line for line in ended.out.splitlines() if "frames" in line]
    assert notes == [
        f"note: 4 of 8 images hold several frames, such as '{tmp_path}/d/trainA/a.gif' (3): the first is used"
    ]
    few = [*argv, "--dataroot", tmp_path / "d" / "trainB", "--dataset_mode", "single", "--model", "pix2pix"]
    assert "frames" not in command("train", *few, "--name", "y").out


@pytest.mark.fault(37)
@pytest.mark.parametrize("threads", [0, 2])
def test_a_test_tells_of_animations_once(threads, tmp_path, command):
    """test.py reads animations, with and without workers: it translates the first frames and prints one line."""
    argv = ["train", *TRAIN, "--dataroot", "demo", "--max_dataset_size", 2, "--name", "x", "--overwrite"]
    assert command(*argv).code == 0
    first = moving(tmp_path / "d")
    ended = command(
        "test",
        "--name",
        "x",
        "--gpu_ids",
        -1,
        "--model",
        "test",
        "--dataset_mode",
        "single",
        "--dataroot",
        tmp_path / "d",
        "--native",
        "--num_threads",
        threads,
    )
    assert ended.code == 0, ended.err
    notes = [line for line in (ended.out + ended.err).splitlines() if "frames" in line]
    assert notes == [f"note: '{tmp_path}/d/a.gif' holds 3 frames; only the first is used, here and in similar files"]
    for name in "abcd":
        assert (np.asarray(Image.open(next((tmp_path / "results").rglob(f"{name}_real.png")))) == first).all()


# --- F49 ------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(49)
def test_large_pictures_in_small_shared_memory_get_a_remedy(process, tmp_path, full):
    """8 workers load images of 8000x8000 with a container's 64 MB of /dev/shm: exit 5 with --shm-size or --num_threads
    0.
    """
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a /dev/shm of its own needs root's rights")
    side = 8000 if full else 3000  # as floats 768 MB or 108 MB
    (tmp_path / "d").mkdir()
    for number in range(2):
        Image.new("RGB", (side, side), (9 * number, 90, 200)).save(tmp_path / "d" / f"{number}.png", compress_level=1)
    assert process("train", *TRAIN, "--dataroot", "demo", "--max_dataset_size", 2, "--name", "x").code == 0
    ended = process(
        "test",
        "--name",
        "x",
        "--gpu_ids",
        -1,
        "--model",
        "test",
        "--dataset_mode",
        "single",
        "--dataroot",
        tmp_path / "d",
        "--native",
        "--num_threads",
        8,
        before=partial(small_shared_memory, "64m"),
    )
    assert ended.code == 5, ended.err
    assert ended.last.startswith("error: shared memory '/dev/shm': is too small"), ended.err
    assert "--shm-size" in ended.last and "--num_threads 0" in ended.last


@pytest.mark.fault(49)
def test_a_picture_that_does_not_fit_into_memory_is_named(tmp_path):
    """Memory is too small for an image of 8000x8000: the error names the file, --num_threads and --max_image_pixels."""
    Image.new("RGB", (8000, 8000)).save(tmp_path / "x.png", compress_level=1)
    code = (
        "import sys\n"  # a new process: this one may have kept enough freed memory
        "from data.decoding.images import open_image\n"
        "from tests.support.fault_injection import limit\n"
        "from util.errors import EnvironmentFault\n"
        "limit('RLIMIT_AS', 100 << 20, beyond=True)\n"
        "try:\n"
        "    open_image(sys.argv[1], 3)\n"
        "except EnvironmentFault as problem:\n"
        "    print(problem)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "x.png")]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.stdout.strip() == (
        f"image '{tmp_path}/x.png': needs more memory than is available; lower --num_threads, --batch_size or "
        "--max_image_pixels"
    )


# --- F50 ------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(50)
def test_metadata_of_pictures_does_not_reach_results(command, paired):
    """Images have GPS positions and texts in their metadata: neither the results nor their pages contain them."""
    exif = Image.Exif()
    exif[0x010E] = "secret <script>alert(1)</script>"
    exif.get_ifd(0x8825)[1] = "N"
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "secret person")
    for path in (paired / "test").iterdir():
        with Image.open(path) as image:
            image.load()
            image.save(path, exif=exif, pnginfo=text)
    assert command("train", *TRAIN, "--dataroot", paired, "--name", "x").code == 0
    assert command("test", "--dataroot", paired, "--name", "x", "--gpu_ids", -1).code == 0
    made = [path for path in (paired.parent / "results").rglob("*") if path.is_file()]
    assert len([path for path in made if path.suffix == ".png"]) > 2
    assert not [path for path in made if b"secret" in path.read_bytes()]
    for path in made:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert not image.getexif()
                assert not image.info.keys() & {"Author", "exif", "icc_profile"}
