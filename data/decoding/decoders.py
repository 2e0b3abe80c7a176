"""Recognise the kind of an image file, and decode each kind by the decoder that a table names."""

import logging
import math
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from itertools import islice
from typing import IO, Any, NamedTuple

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from data.decoding.orientation import UPRIGHT, read_orientation
from data.decoding.raster import Picture, Raster, unpremultiply_alpha
from data.listing.files import read_first_bytes
from util.errors import DataError

# recognised by content; other formats, such as EPS, are never opened; JPEG includes MPO
PILLOW_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")
NUMPY_EXTENSIONS = (".npy", ".npz")
NUMPY_SIGNATURES = (b"\x93NUMPY", b"PK\3\4")  # of .npy, and of .npz, which is a zip file
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS_PER_SAMPLE_TAG, ORIENTATION_TAG, SAMPLE_FORMAT_TAG, SIGNED_INTEGERS = 258, 274, 339, 2  # of TIFF
COMPRESSION_TAG, WEBP_COMPRESSION = 259, 50001
ASSOCIATED_ALPHA, ALPHA = 1, (1, 2)  # TIFF 6.0, ExtraSamples: with 1, colours are premultiplied by alpha
MAX_EXACT_INTEGER = 1 << 53  # float64 holds every integer up to this one
JPEG_END_MARKER = b"\xff\xd9"
PNG_METADATA_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # chunks that may state the orientation
MAX_GUESSED_CHANNELS = 4  # most channels assumed for an array of unknown axis order, unless more are wanted

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # --max_image_pixels refuses large images
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged metadata is harmless
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it also raises what it logs


class ImageSource(NamedTuple):
    """An open file and its kind, a key of DECODERS; image: what Pillow has read of it, its header, if Pillow can."""

    path: str
    file: IO[bytes]
    max_pixels: int
    kind: str
    image: Any = None


def identify(file: IO[bytes], path: str, max_pixels: int) -> ImageSource:
    """Return the kind of an image after reading only its header.

    Raises DataError if the image is too large or has a compression that is not read, else what Pillow raises.
    """
    if path.lower().endswith(NUMPY_EXTENSIONS) and _starts_with(file, NUMPY_SIGNATURES):
        return ImageSource(path, file, max_pixels, "NumPy")
    Image.MAX_IMAGE_PIXELS = max(1, max_pixels // 2)  # Pillow refuses twice as many, also in later frames
    try:
        # Without a file name Pillow does not map the file into memory: a rotated TIFF would be decoded wrongly, and a
        # file that is truncated while it is read would kill the process.
        image: Any = Image.open(file, formats=PILLOW_FORMATS)
    except Image.DecompressionBombError as problem:
        raise too_many_pixels_error(path, max_pixels) from problem  # the error states no size
    except UnidentifiedImageError as problem:
        # tifffile may know a kind of TIFF that Pillow does not
        for kind, signatures in (("TIFF", TIFF_SIGNATURES), ("NumPy", NUMPY_SIGNATURES)):
            if _starts_with(file, signatures):
                return ImageSource(path, file, max_pixels, kind)
        raise UnidentifiedImageError(f"cannot identify image file {path!r}") from problem
    if image.width * image.height > max_pixels:
        raise too_many_pixels_error(path, max_pixels, image.size)
    kind = "8 bits"
    if image.format == "TIFF":
        tags = image.tag_v2
        if tags.get(COMPRESSION_TAG) == WEBP_COMPRESSION:
            why = "is a TIFF with WebP compression, which is read once it is saved as PNG"
            raise DataError("image", path, why, "convert it to PNG")
        is_signed = SIGNED_INTEGERS in tags.get(SAMPLE_FORMAT_TAG, ())
        kind = "TIFF" if is_signed or max(tags.get(BITS_PER_SAMPLE_TAG, (1,))) > 8 else kind
    elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
        kind = "deep grey"
    elif image.format == "PNG" and image.tile and str(image.tile[0][3]).endswith(";16B"):
        kind = "deep PNG"
    return ImageSource(path, file, max_pixels, kind, image)


def _starts_with(file: IO[bytes], signatures: tuple[bytes, ...]) -> bool:
    """Return whether a file starts with one of these; the file is then at its start."""
    file.seek(0)
    start = file.read(8)
    file.seek(0)
    return start.startswith(signatures)


def decode_8_bits(source: ImageSource, channels: int) -> tuple[Picture, int]:
    """Return the image of any format as Pillow decodes it; `orient` reads its orientation.

    A TIFF of which other channels than grey, colours and alpha are wanted is read by decode_tiff.
    """
    if source.image.format == "TIFF" and channels not in (1, 3) and not source.image.has_transparency_data:
        return decode_tiff(source, channels)
    try:
        source.image.load()
    except OSError as problem:
        if source.image.format not in ("JPEG", "MPO"):
            raise
        return _read_truncated_jpeg(source.file, problem), UPRIGHT
    return source.image, UPRIGHT


def _read_truncated_jpeg(file: IO[bytes], problem: OSError) -> Image.Image:
    """Return the image of a JPEG that lacks only bytes after its last pixel; raise OSError if pixels are missing.

    The file is decoded with two different endings. If pixels are missing, they take their values from the ending, so
    that the two images differ.
    """
    file.seek(0)
    data = file.read().removesuffix(JPEG_END_MARKER[:1])
    if data.endswith(JPEG_END_MARKER):
        raise problem
    candidates = [Image.open(BytesIO(data + end + JPEG_END_MARKER), formats=("JPEG",)) for end in (b"", b"\xaa" * 512)]
    plain, padded = (np.asarray(image) for image in candidates)
    if not np.array_equal(plain, padded):
        raise OSError("image file is truncated")
    return candidates[0]


def decode_deep_grey(source: ImageSource, channels: int) -> tuple[Raster, int]:
    """Return 16 bits or floats; Pillow scales PGM to 0..65535, in 32 bits."""
    array = np.asarray(source.image)
    return Raster(array if array.dtype.kind == "f" else array.astype(np.uint16)), read_orientation(source.image)


def decode_deep_png(source: ImageSource, channels: int) -> tuple[Raster, int]:
    """Return a PNG with colours or alpha in 16 bits, which Pillow would cut to 8."""
    source.file.seek(0)
    data = source.file.read()
    # an orientation after the pixels is known only once Pillow has decoded them
    metadata = [name for name in PNG_METADATA_CHUNKS if name in data]
    return Raster(imagecodecs.png_decode(data)), read_orientation(source.image, decode_all=bool(metadata))


def decode_tiff(source: ImageSource, channels: int) -> tuple[Raster, int]:
    """Return the first image of a TIFF. Pages of one channel become channels if there are `channels` of them.

    Bands after the three colours of an RGB image are dropped for 1 or 3 channels, unless they are its transparency.
    """
    import tifffile  # takes 60 ms, and few data sets need it

    source.file.seek(0)
    with tifffile.TiffFile(source.file) as file:
        # Read the array, without axes of length 1.
        page: Any = file.pages.first
        pages, shape, axes = [page], page.shape, page.axes
        if channels > 1 and len(shape) - shape.count(1) == 2:
            pages = list(islice(file.pages, channels + 1))  # not all, because a damaged file may list millions
        is_stack = len(pages) == channels > 1 and len({(each.shape, each.axes, each.dtype) for each in pages}) == 1
        if is_stack:
            shape, axes = (channels, *shape), "C" + axes
        for i in reversed(range(len(shape))):
            if shape[i] == 1 and axes[i] not in "YX":
                shape, axes = shape[:i] + shape[i + 1 :], axes[:i] + axes[i + 1 :]
        channels_first = _check_shape(source, shape, channels, axes)
        array = np.stack([each.asarray() for each in pages]) if is_stack else page.asarray()
        array = array.reshape(shape)
        tag = page.tags.get(ORIENTATION_TAG)
    # Undo inversion (MINISWHITE) and premultiplication.
    array = _to_supported_array(array, source.path, channels_first)
    if array.dtype.kind == "u" and getattr(page.photometric, "name", "") == "MINISWHITE":
        array = np.iinfo(array.dtype).max - array
    extra = page.extrasamples[0] if page.extrasamples and not is_stack else None
    has_alpha = extra in ALPHA
    if extra == ASSOCIATED_ALPHA and array.shape[2:] in ((2,), (4,)):
        array = unpremultiply_alpha(array)
    is_rgb = getattr(page.photometric, "name", "") == "RGB" and array.ndim == 3 and not is_stack
    if is_rgb and not has_alpha and channels in (1, 3):
        array = array[:, :, :3]
    return Raster(array, has_alpha), tag.value if tag else UPRIGHT


def decode_numpy(source: ImageSource, channels: int, true: int = 255) -> tuple[Raster, int]:
    """Return the array (H, W), (H, W, C) or (C, H, W) in a .npy file, or the only one in a .npz file.

    Of arrays, only uint8 with four channels is taken for colours with transparency; others may hold any bands. true:
    the value of True.
    """
    file: Any = source.file
    is_archive = file.read(2) == b"PK"
    file.seek(0)
    if is_archive:
        archive = zipfile.ZipFile(file)
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if len(names) != 1:
            why = f"holds {len(names)} arrays ({', '.join(names[:5])})"
            raise DataError("image", source.path, why, "save one image per file")
        file = archive.open(names[0])
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran_order, dtype = read_header[version](file)
    channels_first = _check_shape(source, shape, channels)
    if dtype.hasobject:
        raise DataError("image", source.path, "holds Python objects", "save plain numbers")
    expected_bytes = math.prod(shape) * dtype.itemsize
    data = file.read(expected_bytes)
    if len(data) < expected_bytes:
        raise ValueError(f"it ends after {len(data)} of {expected_bytes} bytes")
    array = np.frombuffer(data, dtype)
    array = array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)
    array = _to_supported_array(array, source.path, channels_first, true)
    return Raster(array, has_alpha=dtype == np.uint8 and array.shape[2:] == (4,)), UPRIGHT


def _check_shape(source: ImageSource, shape: tuple[int, ...], channels: int, axes: str = "QQQ") -> bool:
    """Return whether the first of three axes is that of the channels; DataError if this is no image, or too large.

    axes: a letter for each axis, S or C for channels and Q for an unknown one. If none is S or C, the channels are the
    axis of length `channels`, or else the last if it is at most MAX_GUESSED_CHANNELS long, or else the shorter one.
    """
    if len(shape) not in (2, 3) or min(shape) < 1:
        why = f"holds an array of shape {tuple(shape)}"
        raise DataError("image", source.path, why, "give (height, width, channels)")
    first, last = (1, 1, *shape)[-3], shape[-1] if len(shape) == 3 else 1
    first_fits = last != channels and (first == channels or (last > MAX_GUESSED_CHANNELS and first < last))
    channels_first = len(shape) == 3 and (axes[0] in "SC" or (axes[2] not in "SC" and first_fits))
    bands = first if channels_first else last
    too_many_values = math.prod(shape) > source.max_pixels * max(channels, MAX_GUESSED_CHANNELS)
    if too_many_values or math.prod(shape) // bands > source.max_pixels:
        raise too_many_pixels_error(source.path, source.max_pixels, tuple(shape))
    return channels_first


def _to_supported_array(array: np.ndarray, path: str, channels_first: bool, true: int = 255) -> np.ndarray:
    """Return an array (H, W) or (H, W, C) in a supported dtype; raise DataError for others and for NaN or Inf."""
    if channels_first:
        array = np.moveaxis(array, 0, 2)
    kind = array.dtype.kind
    if kind == "b":
        return array.astype(np.uint8) * true
    if kind == "f":
        if not np.isfinite(array).all():
            raise DataError("image", path, "holds numbers that are not finite (NaN or Inf)", "replace them")
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    if kind not in "iu":
        raise DataError("image", path, f"holds {array.dtype}", "give integers or floats")
    if array.dtype.itemsize < 8:
        return array.astype(array.dtype.newbyteorder("="))
    if array.min() < -MAX_EXACT_INTEGER or array.max() > MAX_EXACT_INTEGER:
        raise DataError("image", path, "holds integers beyond 2**53", "divide them, or store them as floats")
    return array.astype(np.float64)


# kind: function that returns the picture as it is stored, and its orientation; TIFF: what has more than 8 bits
DECODERS: dict[str, Callable[[ImageSource, int], tuple[Picture, int]]] = {
    "8 bits": decode_8_bits,
    "deep grey": decode_deep_grey,
    "deep PNG": decode_deep_png,
    "TIFF": decode_tiff,
    "NumPy": decode_numpy,
}


def too_many_pixels_error(path: str, max_pixels: int, size: tuple[int, ...] = ()) -> DataError:
    """Return the error for an image with more pixels than --max_image_pixels."""
    why = f"is {'x'.join(map(str, size))}, " if size else "has "
    why += f"more pixels than --max_image_pixels {max_pixels}"
    return DataError("image", path, why, "scale it down or crop it")


def unreadable_reason(path: str, problem: Exception) -> str:
    """Return why a file cannot be read: what it is instead of an image, or else the decoder's message."""
    try:
        first_bytes = read_first_bytes(path, 64)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not first_bytes:
        return "not an image (empty file)"
    if first_bytes.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself (git lfs pull fetches it)"
    if first_bytes.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "not an image (a web page)"
    return f"cannot be read ({type(problem).__name__}: {problem})"
