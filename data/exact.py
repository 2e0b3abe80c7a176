"""Read, join, scale and write picture files with every bit of them: 8 or 16 bits a channel, whole numbers or floats."""

import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.images import FORMATS, open_image
from data.profiles import to_srgb
from util.errors import DataError

ORIENTATION = 0x0112  # the EXIF tag
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "PPM": ".ppm", "BMP": ".bmp", "WEBP": ".webp", "GIF": ".gif"}
GREY, COLOUR, ANY = (1,), (1, 3), (1, 2, 3, 4)  # numbers of channels
HOLDS: dict[str, dict[str, tuple[int, ...]]] = {  # which values a file of a format gives back as they were
    "JPEG": {"uint8": COLOUR},
    "PNG": {"uint8": ANY, "uint16": ANY},
    "TIFF": {"uint8": ANY, "uint16": GREY, "int32": GREY, "float32": GREY},
    "PPM": {"uint8": COLOUR, "uint16": GREY},
    "BMP": {"uint8": COLOUR},
    "WEBP": {"uint8": (3, 4)},
    "GIF": {"uint8": GREY},
}
SAVED: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
FILTERS = {name: Image.Resampling[name.upper()] for name in ("bicubic", "lanczos", "bilinear", "box", "nearest")}


@dataclass(frozen=True)
class Head:
    """What a file says of its picture before its pixels are read; width and height are those of the upright picture."""

    width: int
    height: int
    mode: str  # Pillow's, and "RGB;16" and the like for colours of 16 bits
    format: str
    frames: int

    @property
    def size(self) -> str:
        """Width and height as people read them."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Exact:
    """A picture as it is in its file, upright: (H, W) or (H, W, C) of uint8, uint16, int32 or float32.

    C is 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha). With a palette, values are the numbers of its colours.
    """

    values: np.ndarray
    format: str
    profile: bytes | None = None  # its ICC colour profile
    palette: tuple[str, bytes] | None = None

    @property
    def channels(self) -> int:
        """The number of channels."""
        return 1 if self.values.ndim == 2 else self.values.shape[2]


def head(path: str | Path) -> Head:
    """Return what a file says of its picture; DataError, naming it, if it is none."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            deep = ";16" if _is_deep_colour(image) else ""  # asked first: a PNG's orientation may stand at its end
            width, height = image.size
            if _orientation(image) >= 5:
                width, height = height, width
            kind = _format(image)
            frames = 1 if kind == "JPEG" else getattr(image, "n_frames", 1)  # MPO: a preview, not another picture
            return Head(width, height, image.mode + deep, kind, frames)
    except MemoryError:
        raise
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise refusal(path, problem) from problem


def read(path: str | Path, indexed: bool = False, srgb: bool = False) -> Exact:
    """Return a file's picture, the first of several; DataError, naming the file, if it cannot be had without loss.

    indexed: a palette stays one; otherwise its colours are looked up. srgb: 8-bit colours of any profile become sRGB,
    and bear none. CMYK, Lab and YCbCr always become RGB, and 1 bit becomes 8.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            deep = _is_deep_colour(image)
            turn, kind, profile = _orientation(image), _format(image), image.info.get("icc_profile")
            if deep:
                if kind != "PNG":
                    why = f"is a {kind} file with 16 bits a colour, of which 8 would be lost"
                    raise DataError("image", path, why, "convert it to a PNG file of 16 bits")
                return Exact(_upright(_deep_png(path), turn), kind, profile)
            image.load()
            if image.mode == "P" and indexed and image.palette is not None and "transparency" not in image.info:
                palette = image.palette.mode, image.palette.tobytes()
                return Exact(_upright(np.asarray(image), turn), kind, profile, palette)
            if srgb or image.mode in ("CMYK", "LAB"):
                return Exact(_upright(_values(to_srgb(image), kind), turn), kind)
            return Exact(_upright(_values(image, kind), turn), kind, profile)
    except (DataError, MemoryError):
        raise
    except Exception as problem:  # as above
        raise refusal(path, problem) from problem


def refusal(path: str | Path, problem: Exception) -> DataError:
    """Return the error for a file that cannot be read: what training would say of it."""
    try:
        open_image(str(path), 3)
    except DataError as said:
        return said
    return DataError("image", path, f"cannot be read ({type(problem).__name__}: {problem})", "delete or replace it")


def side_by_side(left: Exact, right: Exact, name: str) -> Exact:
    """Return two pictures of one height as one; DataError if a whole number would have to become a float.

    Grey beside colour becomes colour, without alpha beside with it becomes opaque, 8 bits beside 16 become 16: v * 257.
    """
    kinds = {str(side.values.dtype) for side in (left, right)}
    if len(kinds) > 1 and kinds != {"uint8", "uint16"}:
        why = f"A holds {left.values.dtype} and B {right.values.dtype}, which one file cannot hold both"
        raise DataError("pair", name, why, "convert one, or train on folders of A and of B")
    colour, alpha = max(left.channels, right.channels) > 2, 0 in (left.channels % 2, right.channels % 2)
    sides = [_widened(side.values, "uint16" in kinds, colour, alpha) for side in (left, right)]
    profile = left.profile if left.profile == right.profile else None
    return Exact(np.concatenate(sides, axis=1), left.format, profile)


def eight_bits(picture: Exact, name: str | Path) -> np.ndarray:
    """Return a picture as RGB of 8 bits, uint8 (H, W, 3), without alpha; DataError for 32-bit numbers."""
    values = picture.values
    if values.dtype not in (np.uint8, np.uint16):
        raise DataError("image", name, f"holds {values.dtype}", "convert it to 8 or 16 bits a channel")
    values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    return np.asarray(Image.fromarray(values).convert("RGBA").convert("RGB"))


def scaled(picture: Exact, size: tuple[int, int], resample: str) -> Exact:
    """Return a picture of (width, height); "nearest" makes no new values, as label maps need it.

    8 bits as Pillow scales them, alpha weighted; all else channel by channel in floats, rounded, cut to its range.
    """
    if picture.values.shape[1::-1] == size:
        return picture
    if picture.palette is not None and resample != "nearest":
        raise ValueError("colours of a palette have numbers that cannot be mixed")
    values = picture.values
    if values.dtype == np.uint8:
        return replace(picture, values=np.asarray(Image.fromarray(values).resize(size, FILTERS[resample])))
    planes = values[..., None] if values.ndim == 2 else values
    made = np.stack([_plane(planes[..., c], size, resample) for c in range(planes.shape[2])], axis=2)
    return replace(picture, values=made[..., 0] if values.ndim == 2 else made)


def write(picture: Exact, path: Path, kind: str, quality: int | None = None) -> None:
    """Write a picture in a format; DataError, naming the path, if that format could not give its values back."""
    values = picture.values
    if not holds(kind, picture):
        what = f"{picture.channels} channel{'s' * (picture.channels > 1)} of {values.dtype}"
        raise DataError("image", path, f"{what} cannot be kept in a {kind} file", "write another --format")
    more: dict[str, Any] = {**SAVED.get(kind, {}), **({"icc_profile": picture.profile} if picture.profile else {})}
    if quality is not None and kind == "JPEG":
        more["quality"] = quality
    if kind == "PNG" and values.dtype == np.uint16 and values.ndim == 3:
        path.write_bytes(_deep_png_bytes(values, picture.profile))
        return
    image = Image.fromarray(np.ascontiguousarray(values))
    if picture.palette is not None:
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(picture.palette[1], picture.palette[0])
    image.save(path, format=kind, **more)


def holds(kind: str, picture: Exact) -> bool:
    """Whether a format can hold a picture's channels and kind of numbers; JPEG holds 8 bits nearly."""
    if picture.palette is not None:
        return kind in ("PNG", "GIF", "TIFF", "BMP")
    return picture.channels in HOLDS[kind].get(str(picture.values.dtype), ())


def _format(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow, having no modes of 16-bit colours, would read the upper 8 bits alone."""
    return not image.mode.startswith(("I", "F")) and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF, in any of the ways Pillow meets it: the picture itself is fine as it lies
        return 1


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture turned as its EXIF orientation, 2 to 8, says; any other leaves it."""
    if orientation in (5, 7):
        values = values.swapaxes(0, 1)
    turns = {3: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)
    values = np.rot90(values, turns)
    return values[:, ::-1] if orientation == 2 else values[::-1] if orientation == 4 else values


def _values(image: Image.Image, kind: str) -> np.ndarray:
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if image.mode == "I" and kind == "PPM":  # Pillow reads its 16 bits as 32
        return values.astype(np.uint16)
    return values.astype(values.dtype.newbyteorder("="))


def _deep_png(path: str | Path) -> np.ndarray:
    from torchvision.io import ImageReadMode, decode_image  # torch: only where Pillow cannot

    return decode_image(str(path), mode=ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()


def _deep_png_bytes(values: np.ndarray, profile: bytes | None) -> bytes:
    """Return a PNG file of (H, W, C) uint16, which neither Pillow nor torchvision writes (ISO/IEC 15948, filter Up)."""
    height, width, channels = values.shape
    rows = np.ascontiguousarray(values.reshape(height, -1), dtype=">u2").view(np.uint8).reshape(height, -1)
    differences = rows.copy()
    differences[1:] -= rows[:-1]
    filtered = np.pad(differences, ((0, 0), (1, 0)), constant_values=2)  # each row begins with its filter's number
    colour = {2: 4, 3: 2, 4: 6}[channels]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)), (b"IEND", b"")]
    parts.insert(1, (b"IDAT", zlib.compress(filtered.tobytes())))
    if profile:
        parts.insert(1, (b"iCCP", b"ICC\0\0" + zlib.compress(profile)))
    chunks = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _widened(values: np.ndarray, deep: bool, colour: bool, alpha: bool) -> np.ndarray:
    if deep and values.dtype == np.uint8:
        values = values.astype(np.uint16) * 257
    if not colour and not alpha:
        return values
    planes = [values] if values.ndim == 2 else list(np.moveaxis(values, 2, 0))
    opaque = np.full_like(planes[0], np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1)
    light, cover = (planes[:-1], planes[-1]) if len(planes) in (2, 4) else (planes, opaque)
    light = light * 3 if colour and len(light) == 1 else light
    return np.stack([*light, cover] if alpha else light, axis=2)


def _plane(values: np.ndarray, size: tuple[int, int], resample: str) -> np.ndarray:
    if resample == "nearest":
        return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, FILTERS[resample]))
    made = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, FILTERS[resample]))
    if values.dtype.kind == "f":
        return made
    limits = np.iinfo(values.dtype)
    return made.astype(np.float64).round().clip(limits.min, limits.max).astype(values.dtype)
