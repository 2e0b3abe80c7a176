"""Make image files of twelve formats and damage them as a pure function of a number."""

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
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # a fixed time of zip members, so that equal numbers give equal files
Rng = random.Random


def mutated_file(number: int) -> tuple[str, str, bytes]:
    """Return (format, ending of the file name, bytes) of damaged image `number`, always the same for a number."""
    rng = Rng(number)
    files_by_format = sound_files()
    kind = list(files_by_format)[number % len(files_by_format)]
    ending, data = rng.choice(files_by_format[kind])
    if kind in ARCHIVE_FORMATS and rng.random() < 0.6:  # damage a member inside an intact archive
        inner = [(e, d) for name, files in files_by_format.items() if name not in ARCHIVE_FORMATS for e, d in files]
        inner = [(e, d) for e, d in inner if (e == ".npy") == (kind == "NPZ")]
        inside, data = rng.choice(inner)
        data = make_zip(("a.npy" if kind == "NPZ" else f"train/1{inside}", mutate(rng, inside, data, inner)))
        return kind, ending, data
    others = [(e, d) for files in files_by_format.values() for e, d in files]
    return kind, ending, mutate(rng, ending, data, others)


def mutate(rng: Rng, ending: str, data: bytes, others: list[tuple[str, bytes]]) -> bytes:
    """Return a file after 1 to 4 random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        format_mutation = FORMAT_MUTATIONS.get(ending)
        if format_mutation and rng.random() < (0.8 if "png" in ending else 0.5):
            try:
                data = format_mutation(rng, data)
            except (struct.error, IndexError, ValueError, zlib.error):  # an earlier change broke its structure
                data = flip_bytes(rng, data)
        else:
            is_plain = rng.random() < 0.9
            data = rng.choice(BYTE_MUTATIONS)(rng, data) if is_plain else splice(rng, data, rng.choice(others)[1])
    return fix_png_checksums(data) if "png" in ending and rng.random() < 0.8 else data


# --- mutations of bytes ---------------------------------------------------------------------------------------------


def random_offset(rng: Rng, data: bytes) -> int:
    """Return a random offset in a file; offsets near the start are more likely."""
    return int(len(data) * rng.random() ** rng.choice((1, 1, 4)))


def flip_bytes(rng: Rng, data: bytes) -> bytes:
    """Return a file with 1 to 16 bytes changed."""
    changed = bytearray(data)
    for _ in range(min(len(data), rng.choice((1, 1, 2, 4, 16)))):
        changed[random_offset(rng, data)] ^= rng.choice((1 << rng.randrange(8), rng.randrange(1, 256), 0xFF))
    return bytes(changed)


def overwrite_range(rng: Rng, data: bytes) -> bytes:
    """Return a file with a range overwritten by 0x00, 0xFF or noise."""
    start, length = random_offset(rng, data), rng.choice((2, 8, 64, 512))
    fill = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:start] + fill[: max(0, len(data) - start)] + data[start + length :]


def truncate(rng: Rng, data: bytes) -> bytes:
    """Return a file without its end."""
    return data[: rng.choice((random_offset(rng, data), len(data) - rng.randrange(1, 9)))]


def remove_range(rng: Rng, data: bytes) -> bytes:
    """Return a file with a range removed."""
    start = random_offset(rng, data)
    return data[:start] + data[start + rng.choice((1, 2, 4, 32, 256)) :]


def repeat_range(rng: Rng, data: bytes) -> bytes:
    """Return a file with a range repeated."""
    start = random_offset(rng, data)
    return data[: start + rng.choice((1, 4, 64, 1024))] + data[start:]


def set_extreme(rng: Rng, data: bytes) -> bytes:
    """Return a file with an integer of 1 to 8 bytes set to an extreme value, mostly in its header."""
    size, order = rng.choice((1, 2, 4, 4, 8)), rng.choice(("little", "big"))
    start = rng.randrange(min(len(data), 128)) if data and rng.random() < 0.7 else random_offset(rng, data)
    value = (rng.choice(EXTREMES) % 256**size).to_bytes(size, order)
    return data[:start] + value + data[start + size :]


def splice(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Return the start of one file followed by the end of another."""
    return data[: random_offset(rng, data)] + other[random_offset(rng, other) :]


BYTE_MUTATIONS = (flip_bytes, flip_bytes, overwrite_range, truncate, remove_range, repeat_range, set_extreme,
                  set_extreme)  # fmt: skip


# --- mutations of one format ----------------------------------------------------------------------------------------


def mutate_png(rng: Rng, data: bytes) -> bytes:
    """Return a PNG with one chunk changed and correct checksums."""
    chunks, offset = [], 8
    while offset + 8 <= len(data):
        length = struct.unpack(">I", data[offset : offset + 4])[0]
        chunks.append((data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]))
        offset += 12 + length
    i = rng.randrange(len(chunks))
    name, body = chunks[i]
    change = rng.randrange(7)
    if change == 0:
        width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1][:13])
        fields = [width, height, *rest]
        which = rng.randrange(7)
        fields[which] = rng.choice((1, 2, 3, 4, 6, 8, 16, 31, 255)) if which > 1 else rng.choice(EXTREMES[:14])
        chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *fields)
    elif change == 1:
        chunks[i] = name, flip_bytes(rng, body)
    elif change == 2:
        chunks[i] = name, set_extreme(rng, body)
    elif change == 3:
        chunks.insert(rng.randrange(len(chunks)), chunks.pop(i))
    elif change == 4:
        chunks.insert(i, chunks[rng.randrange(len(chunks))])
    elif change == 5:
        known = (b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"IDAT", b"pHYs")
        chunks[i] = rng.choice(known), body
    else:  # valid compression of damaged pixels
        packed_pixels = b"".join(b for n, b in chunks if n == b"IDAT")
        pixels = rng.choice(BYTE_MUTATIONS)(rng, zlib.decompress(packed_pixels))
        first = next(k for k, (n, _) in enumerate(chunks) if n == b"IDAT")
        chunks = [c for c in chunks if c[0] != b"IDAT"]
        chunks.insert(first, (b"IDAT", zlib.compress(pixels)))
    return encode_png(chunks)


def encode_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG of (name, body) chunks with their checksums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def mutate_tiff(rng: Rng, data: bytes) -> bytes:
    """Return a TIFF with one entry of its first directory changed: tag, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    start = struct.unpack(order + ("Q" if big else "I"), data[8:16] if big else data[4:8])[0]
    head, size, wide = (8, 20, "Q") if big else (2, 12, "I")
    count = struct.unpack(order + ("Q" if big else "H"), data[start : start + head])[0]
    entry = start + head + size * rng.randrange(count)
    tag, kind, number, value = struct.unpack(order + "HH" + wide * 2, data[entry : entry + size])
    limit = 2**64 if big else 2**32
    change = rng.randrange(5)
    if change == 0:
        tag = rng.choice((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 330, 338, 339,
                          347, 530, 700, 34665, 34675))  # fmt: skip
    elif change == 1:
        kind = rng.choice((*range(14), 16, 17, 18, 255, 65535))
    elif change == 2:
        number = rng.choice((*EXTREMES, number + 1, number * 2)) % limit
    else:
        near = (value + 1, value * 2, value // 2, len(data) - 1, len(data), start, 3, 4, 5, 8, 32773, 34712, 50000)
        value = rng.choice((*EXTREMES, *near)) % limit
    return data[:entry] + struct.pack(order + "HH" + wide * 2, tag, kind, number, value) + data[entry + size :]


def mutate_npy(rng: Rng, data: bytes) -> bytes:
    """Return a .npy file with a changed header."""
    length = struct.unpack("<H", data[8:10])[0]
    text, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    change = rng.randrange(5)
    if change == 0:
        shape = tuple(rng.choice((*EXTREMES, -1, -(2**63), 2**70, 3, 12)) for _ in range(rng.randrange(5)))
        text = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", text)
    elif change == 1:
        kinds = ("|O", "<f2", "<f16", "<c8", "|V9", "<U3", "|S5", "<M8[s]", "?", "<u8", ">i8", "x", "<i3", "|u0", "<f8",
                 "|V99999999999")  # fmt: skip
        text = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(kinds)!r}", text)
    elif change == 2:
        text = rng.choice(
            (
                "(" * 3000,
                "{'descr': [('a', '<f4')] * 9",
                "[" * 60000,
                "9" * 9999,
                "{}",
                "1e999",
                "{**{}}",
                "-" * 20000 + "1",
                "{'descr': '<f4', 'fortran_order': 7, 'shape': (2, 2)}",
                "{'descr': ('<f4', (3000, 3000)), 'fortran_order': False, 'shape': (64, 64)}",
            )
        )
    elif change == 3:
        text = flip_bytes(rng, text.encode("latin-1")).decode("latin-1")
    else:
        text = text.replace("False", "True")
    body = rng.choice((body, body, flip_bytes(rng, body) if body else body))
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    head = text.encode("latin-1")
    size = struct.pack("<H" if version == (1, 0) else "<I", min(len(head), 65535))
    return b"\x93NUMPY" + bytes(version) + size + head + body


def mutate_jpeg(rng: Rng, data: bytes) -> bytes:
    """Return a JPEG with one marker changed: its length, its type, the image size or another byte of the frame."""
    markers = [m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    marker = rng.choice(markers)
    change = rng.randrange(4)
    if change == 0:
        return data[: marker + 2] + struct.pack(">H", rng.choice(EXTREMES[:10])) + data[marker + 4 :]
    if change == 1:
        return data[: marker + 1] + bytes([rng.randrange(0xC0, 0xFF)]) + data[marker + 2 :]
    frame = next((m for m in markers if data[m + 1] in (0xC0, 0xC2)), marker)
    if change == 2:
        offset = frame + rng.choice((5, 7))
        return data[:offset] + struct.pack(">H", rng.choice(EXTREMES[:10])) + data[offset + 2 :]
    offset = min(len(data) - 1, frame + rng.randrange(4, 20))
    return data[:offset] + bytes([rng.choice((0, 1, 2, 3, 4, 8, 12, 0x11, 0x44, 255))]) + data[offset + 1 :]


def mutate_ppm(rng: Rng, data: bytes) -> bytes:
    """Return a PPM with a changed header."""
    value = rng.choice((b"0", b"-1", b"1", b"65535", b"65536", b"99999999999999999999", b"1e3", b"#\n", b"\xff", b""))
    words = re.split(rb"(\s+)", data, maxsplit=4)
    words[rng.choice((2, 4, 6, 0))] = value if rng.random() < 0.7 else b"P" + str(rng.randrange(9)).encode()
    return b"".join(words)


def fix_png_checksums(data: bytes) -> bytes:
    """Return a PNG with corrected checksums, as far as its chunks can be found."""
    offset, parts = 8, [data[:8]]
    while offset + 12 <= len(data):
        end = offset + 8 + struct.unpack(">I", data[offset : offset + 4])[0]
        if end + 4 > len(data):
            break
        parts.append(data[offset:end] + struct.pack(">I", zlib.crc32(data[offset + 4 : end])))
        offset = end + 4
    return b"".join(parts) + data[offset:]


FORMAT_MUTATIONS: dict[str, Callable[[Rng, bytes], bytes]] = {
    ".png": mutate_png, ".apng.png": mutate_png, ".tif": mutate_tiff, ".npy": mutate_npy, ".jpg": mutate_jpeg,
    ".mpo.jpg": mutate_jpeg, ".ppm": mutate_ppm,
}  # fmt: skip
ARCHIVE_FORMATS = ("NPZ", "zip")


# --- valid files ----------------------------------------------------------------------------------------------------


def make_scene(width: int = 37, height: int = 23, channels: int = 3, kind: Any = np.uint8) -> np.ndarray:
    """Return an array (H, W, C) of smooth colours with noise, over the full range of integers or [0, 1] of floats."""
    rng = np.random.default_rng(width * height * channels)
    y, x = np.mgrid[:height, :width]
    planes = [(np.sin(x / 5 + c) + np.cos(y / 4 - c) + 2) / 4 for c in range(channels)]
    fraction = np.stack(planes, axis=2) * 0.9 + rng.random((height, width, channels)) * 0.1
    return (fraction * np.iinfo(kind).max).astype(kind) if np.dtype(kind).kind in "iu" else fraction.astype(kind)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a Pillow image in a file format."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_zip(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file of (name, bytes) members."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data, how)
    return file.getvalue()


def interlaced_png() -> bytes:
    """Return a PNG with Adam7 interlacing, which Pillow cannot write."""
    pixels, rows = make_scene(), b""
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
    head = struct.pack(">IIBBBBB", 37, 23, 8, 2, 0, 0, 1)
    return encode_png([(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def npy_files() -> list[bytes]:
    """Return .npy files of several dtypes and shapes."""
    files = []
    for array in (
        make_scene(kind=np.uint16),
        make_scene(kind=np.float32),
        make_scene(channels=1)[..., 0],
        make_scene(channels=5),
        np.asfortranarray(make_scene(kind=np.float64)),
        make_scene().transpose(2, 0, 1),
        make_scene() > 99,
    ):
        file = BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return files


def tiff_files(colour: Image.Image) -> list[bytes]:
    """Return TIFF files of many compressions, layouts and dtypes."""
    files = [encode(colour, "TIFF", compression=c) for c in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "lzma")]
    files += [encode(colour, "TIFF", compression="jpeg", quality=80), encode(colour.convert("LAB"), "TIFF")]
    files += [encode(colour.convert("1"), "TIFF", compression=c) for c in ("group3", "group4", "tiff_ccitt")]
    files += [encode(colour.convert(mode), "TIFF", compression="tiff_lzw") for mode in ("CMYK", "P", "RGBA")]
    files.append(encode(colour, "TIFF", save_all=True, append_images=[colour], exif=exif_orientation(6)))
    tifffile_cases: list[tuple[np.ndarray, dict[str, Any]]] = [
        (make_scene(kind=np.uint16), {"compression": "zlib", "photometric": "rgb"}),
        (make_scene(kind=np.uint16), {"compression": "lzw", "photometric": "rgb", "predictor": True}),
        (make_scene(kind=np.float32), {"compression": "zstd", "photometric": "rgb"}),
        (make_scene(channels=6), {"photometric": "minisblack", "planarconfig": "contig"}),
        (make_scene(channels=5).transpose(2, 0, 1), {"photometric": "minisblack", "planarconfig": "separate"}),
        (make_scene(70, 50, kind=np.uint16), {"tile": (16, 32), "compression": "zlib", "photometric": "rgb"}),
        (make_scene(70, 50), {"tile": (32, 16), "compression": "jpeg", "photometric": "rgb"}),
        (make_scene(kind=np.int32, channels=1)[..., 0], {"bigtiff": True, "photometric": "minisblack"}),
        (make_scene(), {"bigtiff": True, "compression": "lzw", "photometric": "rgb"}),
        (
            make_scene(channels=4, kind=np.uint8).transpose(2, 0, 1),
            {"photometric": "minisblack", "compression": "packbits"},
        ),
        (make_scene(kind=np.float64, channels=1)[..., 0], {"byteorder": ">", "photometric": "minisblack"}),
        (make_scene(kind=np.uint16, channels=1)[..., 0], {"compression": "jpeg2000"}),
    ]
    for array, how in tifffile_cases:
        file = BytesIO()
        tifffile.imwrite(file, array, metadata=None, **how)
        files.append(file.getvalue())
    return files


def exif_orientation(orientation: int) -> Image.Exif:
    """Return EXIF with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@cache
def sound_files() -> dict[str, list[tuple[str, bytes]]]:
    """Return {format: [(ending of the file name, bytes)]} of valid files."""
    colour = Image.fromarray(make_scene())
    frames = [Image.fromarray(255 - make_scene()), Image.fromarray(make_scene()[::-1].copy())]
    animation: dict[str, Any] = {"save_all": True, "append_images": frames, "duration": 50}
    alpha = Image.fromarray(make_scene(channels=4))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    png16 = [imagecodecs.png_encode(make_scene(channels=n, kind=np.uint16)) for n in (3, 4)]
    grey16 = encode(Image.fromarray(make_scene(channels=1, kind=np.uint16)[..., 0]), "PNG")
    files: dict[str, list[Any]] = {
        "JPEG": [encode(colour, "JPEG"), encode(colour, "JPEG", progressive=True, exif=exif_orientation(6)),
                 encode(colour.convert("CMYK"), "JPEG"), encode(colour.convert("L"), "JPEG", icc_profile=profile),
                 encode(colour, "JPEG", quality=100, subsampling=0)],
        "PNG": [encode(colour, "PNG", exif=exif_orientation(5)), *png16, grey16,
                encode(colour.convert("P"), "PNG", transparency=3), interlaced_png(),
                encode(alpha, "PNG", icc_profile=profile), encode(colour.convert("1"), "PNG"),
                encode(colour.convert("LA"), "PNG")],
        "APNG": [encode(colour, "PNG", **animation), encode(alpha, "PNG", default_image=True, **animation)],
        "GIF": [encode(colour.convert("P"), "GIF"), encode(colour, "GIF", **animation),
                encode(alpha, "GIF", **animation)],
        "WebP": [encode(colour, "WEBP", exif=exif_orientation(8)), encode(alpha, "WEBP", lossless=True),
                 encode(colour, "WEBP", **animation)],
        "BMP": [encode(colour.convert(mode), "BMP") for mode in ("RGB", "P", "1", "L", "RGBA")],
        "PPM": [encode(colour, "PPM"), encode(colour.convert("L"), "PPM"), encode(colour.convert("1"), "PPM"),
                b"P5\n37 23\n65535\n" + make_scene(channels=1, kind=">u2").tobytes(),
                b"P3\n2 2\n255\n" + b"9 8 7 " * 4],
        "TIFF": tiff_files(colour),
        "MPO": [encode(colour, "MPO", save_all=True, append_images=frames)],
        "NPY": npy_files(),
        "NPZ": [make_zip(("a.npy", data), how=how)
                for data, how in zip(npy_files(), (0, 8, 8, 12, 14, 8, 0), strict=True)],
        "zip": [make_zip((f"train/1{end}", encode(colour, kind)), how=how)
                for end, kind, how in ((".png", "PNG", 0), (".jpg", "JPEG", 8), (".tif", "TIFF", 12))],
    }  # fmt: skip
    endings = {"JPEG": ".jpg", "APNG": ".apng.png", "WebP": ".webp", "TIFF": ".tif", "MPO": ".mpo.jpg"}
    return {kind: [(endings.get(kind, "." + kind.lower()), data) for data in each] for kind, each in files.items()}
