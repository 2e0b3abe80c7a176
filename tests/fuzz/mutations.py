"""Picture files of twelve formats, made here, and what spoils them: a pure function of a number."""

import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

EXTREMES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
            2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
FIXED = (1980, 1, 1, 0, 0, 0)  # the time of zip members, so that equal numbers give equal files
Rng = random.Random


def mutated(number: int) -> tuple[str, str, bytes]:
    """Return (format, ending of its file name, bytes) of spoilt picture `number`; the same number gives the same."""
    rng = Rng(number)
    made = sources()
    kind = list(made)[number % len(made)]
    ending, data = rng.choice(made[kind])
    if kind in PACKED and rng.random() < 0.6:  # what is spoilt is inside, and the archive around it whole
        inner = [(e, d) for name, files in made.items() if name not in PACKED for e, d in files]
        inner = [(e, d) for e, d in inner if (e == ".npy") == (kind == "NPZ")]
        inside, data = rng.choice(inner)
        data = packed(("a.npy" if kind == "NPZ" else f"train/1{inside}", spoilt(rng, inside, data, inner)))
        return kind, ending, data
    others = [(e, d) for files in made.values() for e, d in files]
    return kind, ending, spoilt(rng, ending, data, others)


def spoilt(rng: Rng, ending: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """Return a file after one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        known = STRUCTURED.get(ending)
        if known and rng.random() < (0.8 if "png" in ending else 0.5):
            try:
                data = known(rng, data)
            except (struct.error, IndexError, ValueError, zlib.error):  # its structure is spoilt already
                data = flipped(rng, data)
        else:
            data = rng.choice(PLAIN)(rng, data) if rng.random() < 0.9 else spliced(rng, data, rng.choice(others)[1])
    return mended(data) if "png" in ending and rng.random() < 0.8 else data


# --- changes of bytes -----------------------------------------------------------------------------------------------


def place(rng: Rng, data: bytes) -> int:
    """Return a place in a file, more often near its start."""
    return int(len(data) * rng.random() ** rng.choice((1, 1, 4)))


def flipped(rng: Rng, data: bytes) -> bytes:
    """Return a file with some bytes changed."""
    changed = bytearray(data)
    for _ in range(min(len(data), rng.choice((1, 1, 2, 4, 16)))):
        changed[place(rng, data)] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256), 0xFF))
    return bytes(changed)


def filled(rng: Rng, data: bytes) -> bytes:
    """Return a file with a range of zeros, ones or noise."""
    start, length = place(rng, data), rng.choice((2, 8, 64, 512))
    fill = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:start] + fill[: max(0, len(data) - start)] + data[start + length :]


def cut(rng: Rng, data: bytes) -> bytes:
    """Return the first part of a file."""
    return data[: rng.choice((place(rng, data), len(data) - rng.randrange(1, 9)))]


def removed(rng: Rng, data: bytes) -> bytes:
    """Return a file without a range."""
    start = place(rng, data)
    return data[:start] + data[start + rng.choice((1, 2, 4, 32, 256)) :]


def repeated(rng: Rng, data: bytes) -> bytes:
    """Return a file with a range twice."""
    start = place(rng, data)
    return data[: start + rng.choice((1, 4, 64, 1024))] + data[start:]


def extreme(rng: Rng, data: bytes) -> bytes:
    """Return a file with a whole number of 1 to 8 bytes set to an extreme, most often in its header."""
    size, order = rng.choice((1, 2, 4, 4, 8)), rng.choice(("little", "big"))
    start = rng.randrange(min(len(data), 128)) if data and rng.random() < 0.7 else place(rng, data)
    value = (rng.choice(EXTREMES) % 256**size).to_bytes(size, order)
    return data[:start] + value + data[start + size :]


def spliced(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Return the start of one file and the end of another."""
    return data[: place(rng, data)] + other[place(rng, other) :]


PLAIN = (flipped, flipped, filled, cut, removed, repeated, extreme, extreme)


# --- changes that know the format -----------------------------------------------------------------------------------


def png(rng: Rng, data: bytes) -> bytes:
    """Return a PNG with one chunk changed, all checksums right."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    i = rng.randrange(len(chunks))
    name, body = chunks[i]
    how = rng.randrange(7)
    if how == 0:
        width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1][:13])
        fields = [width, height, *rest]
        which = rng.randrange(7)
        fields[which] = rng.choice((1, 2, 3, 4, 6, 8, 16, 31, 255)) if which > 1 else rng.choice(EXTREMES[:14])
        chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *fields)
    elif how == 1:
        chunks[i] = name, flipped(rng, body)
    elif how == 2:
        chunks[i] = name, extreme(rng, body)
    elif how == 3:
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(i))
    elif how == 4:
        chunks.insert(i, chunks[rng.randrange(len(chunks))])
    elif how == 5:
        known = (b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"IDAT", b"pHYs")
        chunks[i] = rng.choice(known), body
    else:  # pixels that are packed well, and wrong
        packed_pixels = b"".join(b for n, b in chunks if n == b"IDAT")
        pixels = rng.choice(PLAIN)(rng, zlib.decompress(packed_pixels))
        first = next(k for k, (n, _) in enumerate(chunks) if n == b"IDAT")
        chunks = [c for c in chunks if c[0] != b"IDAT"]
        chunks.insert(first, (b"IDAT", zlib.compress(pixels)))
    return joined_png(chunks)


def joined_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return chunks as a PNG, with their checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def tiff(rng: Rng, data: bytes) -> bytes:
    """Return a TIFF with one entry of its first directory changed: tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    start = struct.unpack(order + ("Q" if big else "I"), data[8:16] if big else data[4:8])[0]
    head, size, wide = (8, 20, "Q") if big else (2, 12, "I")
    count = struct.unpack(order + ("Q" if big else "H"), data[start : start + head])[0]
    at = start + head + size * rng.randrange(count)
    tag, kind, number, value = struct.unpack(order + "HH" + wide * 2, data[at : at + size])
    limit = 2**64 if big else 2**32
    what = rng.randrange(5)
    if what == 0:
        tag = rng.choice((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 330, 338, 339,
                          347, 530, 700, 34665, 34675))  # fmt: skip
    elif what == 1:
        kind = rng.choice((*range(14), 16, 17, 18, 255, 65535))
    elif what == 2:
        number = rng.choice((*EXTREMES, number + 1, number * 2)) % limit
    else:
        near = (value + 1, value * 2, value // 2, len(data) - 1, len(data), start, 3, 4, 5, 8, 32773, 34712, 50000)
        value = rng.choice((*EXTREMES, *near)) % limit
    return data[:at] + struct.pack(order + "HH" + wide * 2, tag, kind, number, value) + data[at + size :]


def npy(rng: Rng, data: bytes) -> bytes:
    """Return a .npy file with another header."""
    length = struct.unpack("<H", data[8:10])[0]
    text, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    what = rng.randrange(5)
    if what == 0:
        shape = tuple(rng.choice((*EXTREMES, -1, -(2**63), 2**70, 3, 12)) for _ in range(rng.randrange(5)))
        text = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", text)
    elif what == 1:
        kinds = ("|O", "<f2", "<f16", "<c8", "|V9", "<U3", "|S5", "<M8[s]", "?", "<u8", ">i8", "x", "<i3", "|u0", "<f8",
                 "|V99999999999")  # fmt: skip
        text = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(kinds)!r}", text)
    elif what == 2:
        text = rng.choice(("(" * 3000, "{'descr': [('a', '<f4')] * 9", "[" * 60000, "9" * 9999, "{}", "1e999",
                           "{**{}}", "-" * 20000 + "1", "{'descr': '<f4', 'fortran_order': 7, 'shape': (2, 2)}",
                           "{'descr': ('<f4', (3000, 3000)), 'fortran_order': False, 'shape': (64, 64)}"))  # fmt: skip
    elif what == 3:
        text = flipped(rng, text.encode("latin-1")).decode("latin-1")
    else:
        text = text.replace("False", "True")
    body = rng.choice((body, body, flipped(rng, body) if body else body))
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    head = text.encode("latin-1")
    size = struct.pack("<H" if version == (1, 0) else "<I", min(len(head), 65535))
    return b"\x93NUMPY" + bytes(version) + size + head + body


def jpeg(rng: Rng, data: bytes) -> bytes:
    """Return a JPEG with one marker's segment changed: its length, its size of picture, its tables."""
    marks = [m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    at = rng.choice(marks)
    what = rng.randrange(4)
    if what == 0:
        return data[: at + 2] + struct.pack(">H", rng.choice(EXTREMES[:10])) + data[at + 4 :]
    if what == 1:
        return data[: at + 1] + bytes([rng.randrange(0xC0, 0xFF)]) + data[at + 2 :]
    frame = next((m for m in marks if data[m + 1] in (0xC0, 0xC2)), at)
    if what == 2:
        where = frame + rng.choice((5, 7))
        return data[:where] + struct.pack(">H", rng.choice(EXTREMES[:10])) + data[where + 2 :]
    where = min(len(data) - 1, frame + rng.randrange(4, 20))
    return data[:where] + bytes([rng.choice((0, 1, 2, 3, 4, 8, 12, 0x11, 0x44, 255))]) + data[where + 1 :]


def ppm(rng: Rng, data: bytes) -> bytes:
    """Return a PPM with another header."""
    what = rng.choice((b"0", b"-1", b"1", b"65535", b"65536", b"99999999999999999999", b"1e3", b"#\n", b"\xff", b""))
    words = re.split(rb"(\s+)", data, maxsplit=4)
    words[rng.choice((2, 4, 6, 0))] = what if rng.random() < 0.7 else b"P" + str(rng.randrange(9)).encode()
    return b"".join(words)


def mended(data: bytes) -> bytes:
    """Return a PNG with the right checksums, as far as its chunks can be told apart."""
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack(">I", data[at : at + 4])[0]
        if end + 4 > len(data):
            break
        parts.append(data[at:end] + struct.pack(">I", zlib.crc32(data[at + 4 : end])))
        at = end + 4
    return b"".join(parts) + data[at:]


STRUCTURED: dict[str, Callable[[Rng, bytes], bytes]] = {
    ".png": png, ".apng.png": png, ".tif": tiff, ".npy": npy, ".jpg": jpeg, ".mpo.jpg": jpeg, ".ppm": ppm,
}  # fmt: skip
PACKED = ("NPZ", "zip")


# --- sound files ----------------------------------------------------------------------------------------------------


def scene(width: int = 37, height: int = 23, channels: int = 3, kind: Any = np.uint8) -> np.ndarray:
    """Return smooth colours with noise, (H, W, C)."""
    rng = np.random.default_rng(width * height * channels)
    y, x = np.mgrid[:height, :width]
    planes = [(np.sin(x / 5 + c) + np.cos(y / 4 - c) + 2) / 4 for c in range(channels)]
    share = np.stack(planes, axis=2) * 0.9 + rng.random((height, width, channels)) * 0.1
    return (share * np.iinfo(kind).max).astype(kind) if np.dtype(kind).kind in "iu" else share.astype(kind)


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    """Return a Pillow image as a file of some format."""
    file = BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def packed(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return named files as a zip file."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name, FIXED), data, how)
    return file.getvalue()


def interlaced() -> bytes:
    """Return a PNG by Adam7, which Pillow does not write."""
    pixels, rows = scene(), b""
    for top, left, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
                                   (1, 0, 2, 1)):  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
    head = struct.pack(">IIBBBBB", 37, 23, 8, 2, 0, 0, 1)
    return joined_png([(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def arrays() -> list[bytes]:
    """Return .npy files of several kinds and shapes."""
    files = []
    for array in (scene(kind=np.uint16), scene(kind=np.float32), scene(channels=1)[..., 0], scene(channels=5),
                  np.asfortranarray(scene(kind=np.float64)), scene().transpose(2, 0, 1), scene() > 99):  # fmt: skip
        file = BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return files


def tiffs(colour: Image.Image) -> list[bytes]:
    """Return TIFF files of many compressions, layouts and kinds of numbers."""
    files = [saved(colour, "TIFF", compression=c) for c in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "lzma")]
    files += [saved(colour, "TIFF", compression="jpeg", quality=80), saved(colour.convert("LAB"), "TIFF")]
    files += [saved(colour.convert("1"), "TIFF", compression=c) for c in ("group3", "group4", "tiff_ccitt")]
    files += [saved(colour.convert(mode), "TIFF", compression="tiff_lzw") for mode in ("CMYK", "P", "RGBA")]
    files.append(saved(colour, "TIFF", save_all=True, append_images=[colour], exif=turned(6)))
    more: list[tuple[np.ndarray, dict[str, Any]]] = [
        (scene(kind=np.uint16), {"compression": "zlib", "photometric": "rgb"}),
        (scene(kind=np.uint16), {"compression": "lzw", "photometric": "rgb", "predictor": True}),
        (scene(kind=np.float32), {"compression": "zstd", "photometric": "rgb"}),
        (scene(channels=6), {"photometric": "minisblack", "planarconfig": "contig"}),
        (scene(channels=5).transpose(2, 0, 1), {"photometric": "minisblack", "planarconfig": "separate"}),
        (scene(70, 50, kind=np.uint16), {"tile": (16, 32), "compression": "zlib", "photometric": "rgb"}),
        (scene(70, 50), {"tile": (32, 16), "compression": "jpeg", "photometric": "rgb"}),
        (scene(kind=np.int32, channels=1)[..., 0], {"bigtiff": True, "photometric": "minisblack"}),
        (scene(), {"bigtiff": True, "compression": "lzw", "photometric": "rgb"}),
        (scene(channels=4, kind=np.uint8).transpose(2, 0, 1), {"photometric": "minisblack", "compression": "packbits"}),
        (scene(kind=np.float64, channels=1)[..., 0], {"byteorder": ">", "photometric": "minisblack"}),
        (scene(kind=np.uint16, channels=1)[..., 0], {"compression": "jpeg2000"}),
    ]
    for array, how in more:
        file = BytesIO()
        tifffile.imwrite(file, array, metadata=None, **how)
        files.append(file.getvalue())
    return files


def turned(orientation: int) -> Image.Exif:
    """Return EXIF with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@cache
def sources() -> dict[str, list[tuple[str, bytes]]]:
    """Return {format: [(ending of the file name, bytes)]} of sound files."""
    colour = Image.fromarray(scene())
    frames = [Image.fromarray(255 - scene()), Image.fromarray(scene()[::-1].copy())]
    several: dict[str, Any] = {"save_all": True, "append_images": frames, "duration": 50}
    alpha = Image.fromarray(scene(channels=4))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    deep = [imagecodecs.png_encode(scene(channels=n, kind=np.uint16)) for n in (3, 4)]
    grey16 = saved(Image.fromarray(scene(channels=1, kind=np.uint16)[..., 0]), "PNG")
    files: dict[str, list[Any]] = {
        "JPEG": [saved(colour, "JPEG"), saved(colour, "JPEG", progressive=True, exif=turned(6)),
                 saved(colour.convert("CMYK"), "JPEG"), saved(colour.convert("L"), "JPEG", icc_profile=profile),
                 saved(colour, "JPEG", quality=100, subsampling=0)],
        "PNG": [saved(colour, "PNG", exif=turned(5)), *deep, grey16, saved(colour.convert("P"), "PNG", transparency=3),
                interlaced(), saved(alpha, "PNG", icc_profile=profile), saved(colour.convert("1"), "PNG"),
                saved(colour.convert("LA"), "PNG")],
        "APNG": [saved(colour, "PNG", **several), saved(alpha, "PNG", default_image=True, **several)],
        "GIF": [saved(colour.convert("P"), "GIF"), saved(colour, "GIF", **several), saved(alpha, "GIF", **several)],
        "WebP": [saved(colour, "WEBP", exif=turned(8)), saved(alpha, "WEBP", lossless=True),
                 saved(colour, "WEBP", **several)],
        "BMP": [saved(colour.convert(mode), "BMP") for mode in ("RGB", "P", "1", "L", "RGBA")],
        "PPM": [saved(colour, "PPM"), saved(colour.convert("L"), "PPM"), saved(colour.convert("1"), "PPM"),
                b"P5\n37 23\n65535\n" + scene(channels=1, kind=">u2").tobytes(), b"P3\n2 2\n255\n" + b"9 8 7 " * 4],
        "TIFF": tiffs(colour),
        "MPO": [saved(colour, "MPO", save_all=True, append_images=frames)],
        "NPY": arrays(),
        "NPZ": [packed(("a.npy", data), how=how) for data, how in zip(arrays(), (0, 8, 8, 12, 14, 8, 0), strict=True)],
        "zip": [packed((f"train/1{end}", saved(colour, kind)), how=how)
                for end, kind, how in ((".png", "PNG", 0), (".jpg", "JPEG", 8), (".tif", "TIFF", 12))],
    }  # fmt: skip
    ends = {"JPEG": ".jpg", "APNG": ".apng.png", "WebP": ".webp", "TIFF": ".tif", "MPO": ".mpo.jpg"}
    return {kind: [(ends.get(kind, "." + kind.lower()), data) for data in each] for kind, each in files.items()}
