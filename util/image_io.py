"""Convert network outputs to pixels and write image files."""

import base64
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor


GRID_PADDING = 2  # pixels between images of a grid
STRIP_PIXELS = 1 << 18  # pixels converted at a time
# run-length coding (zlib's Z_RLE): several times as fast as Pillow's default level 6, hardly larger files
PNG_COMPRESSION = {"compress_level": 1, "compress_type": 3}
_JPEG: tuple[str, dict[str, Any]] = ("JPEG", {"quality": 95, "subsampling": 0})
_TIFF: tuple[str, dict[str, Any]] = ("TIFF", {"compression": "tiff_adobe_deflate"})
# formats of 8-bit images by suffix, with Pillow's options; JPEG alone loses anything, as little as it can
PICTURE_FORMATS = {".png": ("PNG", PNG_COMPRESSION), ".jpg": _JPEG, ".jpeg": _JPEG, ".bmp": ("BMP", {}),
                   ".webp": ("WEBP", {"lossless": True}), ".tif": _TIFF, ".tiff": _TIFF,
                   ".ppm": ("PPM", {})}  # fmt: skip
# up to this size a PNG is encoded in memory by a faster encoder, with the Paeth filter in all rows
MAX_FAST_PNG_PIXELS = 1 << 22
FAST_PNG = {"level": 1, "strategy": 3, "filter": 0x80}
SHEET_COLUMNS = 10  # images in a row of a sheet on the training page


def to_pixels(image: "Tensor") -> np.ndarray:
    """Return a tensor (C, H, W) in [-1, 1] as uint8 (H, W, 1 or 3); values are clamped and rounded.

    More than three channels are cut to the first three, two to the first.
    """
    image = image[:3] if len(image) > 2 else image[:1]
    scaled = image.detach().float().cpu().numpy().clip(-1, 1)
    scaled += 1  # in place and without torch, because this may run in a thread: torch would start more threads
    scaled /= 2
    scaled *= 255
    with np.errstate(invalid="ignore"):  # NaN
        return np.dstack(list(np.rint(scaled, out=scaled).astype(np.uint8)))


def tensor_to_pil(image: "Tensor") -> Image.Image:
    """Return a tensor's pixels as a Pillow image, converted in strips to save memory with huge images."""
    _, height, width = image.shape
    whole = Image.new("RGB" if len(image) > 2 else "L", (width, height))
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        whole.paste(array_to_pil(to_pixels(image[:, top : top + rows])), (0, top))
    return whole


def first_pixels(images: "dict[str, Tensor]") -> dict[str, np.ndarray]:
    """Return the first image of each batch (N, C, H, W) as uint8 (H, W, C)."""
    return {name: to_pixels(batch[0]) for name, batch in images.items()}


def first_thumbnails(batch: "dict[str, Any]", side: int) -> dict[str, np.ndarray]:
    """Return the first image of each (N, C, H, W) in a batch as uint8 (H, W, C); skip 2 channels (Lab's colours).

    Images with a side longer than `side` are subsampled to every second pixel, or fewer.
    """
    pictures = {name: value for name, value in batch.items() if getattr(value, "ndim", 0) == 4}
    thin = {name: -(-max(value.shape[2:]) // side) for name, value in pictures.items()}
    return first_pixels(
        {name: value[:1, :, :: thin[name], :: thin[name]] for name, value in pictures.items() if value.shape[1] != 2}
    )


def make_grid(arrays: list[np.ndarray], ncols: int) -> np.ndarray:
    """Return images in rows of ncols on white; each cell has the size of the largest image."""
    height = max(a.shape[0] for a in arrays) + GRID_PADDING
    width = max(a.shape[1] for a in arrays) + GRID_PADDING
    rows = -(-len(arrays) // ncols)
    sheet = np.full((rows * height, min(ncols, len(arrays)) * width, 3), 255, np.uint8)
    for number, array in enumerate(arrays):
        top, left = number // ncols * height, number % ncols * width
        sheet[top : top + array.shape[0], left : left + array.shape[1]] = array
    return sheet


def save_image(array: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) or (H, W, 1) uint8 atomically as a PNG file."""
    save_png(array_to_pil(array), path)


def array_to_pil(array: np.ndarray) -> Image.Image:
    """Return (H, W, 3) or (H, W, 1) uint8 as a Pillow image."""
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def png_base64(array: np.ndarray) -> str:
    """Return (H, W, 3) or (H, W, 1) uint8 as a PNG in base64."""
    file = io.BytesIO()
    array_to_pil(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def save_png(image: Image.Image, path: Path, aspect_ratio: float = 1.0) -> tuple[int, int]:
    """Write an image atomically as a PNG file; return its width and height.

    aspect_ratio multiplies the ratio of width to height, by enlarging one side.
    """
    return save_picture(image, path, aspect_ratio, ".png")


def save_picture(image: Image.Image, path: Path, aspect_ratio: float, suffix: str) -> tuple[int, int]:
    """Write an image (L or RGB) atomically in a format of PICTURE_FORMATS; its name does not matter. See save_png."""
    kind, options = PICTURE_FORMATS[suffix]
    size = round(image.width * max(1, aspect_ratio)), round(image.height / min(1, aspect_ratio))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    beside = path.with_name(path.name + ".tmp")
    if kind == "PNG" and image.width * image.height <= MAX_FAST_PNG_PIXELS:
        beside.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image), **FAST_PNG))
    else:
        image.save(beside, format=kind, **options)
    os.replace(beside, path)
    return image.size


def fits_png(kind: str, channels: int) -> bool:
    """Whether a PNG can hold images of this dtype and number of channels."""
    return kind in ("uint8", "uint16") and channels <= 4


def save_array(array: np.ndarray, path: Path) -> None:
    """Write (H, W, C) of any dtype losslessly to a .png (see fits_png), .npy, .tif or .tiff file."""
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "wb") as file:
        kind = {".png": "PNG", ".npy": "NPY"}.get(path.suffix, "TIFF")
        write_array(array[:, :, 0] if array.shape[2] == 1 else array, file, kind)
    os.replace(beside, path)


def write_array(array: np.ndarray, file: IO[bytes], kind: str, has_alpha: bool = False) -> None:
    """Write (H, W) or (H, W, C) of any dtype losslessly as "PNG" (see fits_png), "NPY" or "TIFF", maybe with alpha."""
    if kind == "PNG":
        file.write(imagecodecs.png_encode(array))  # Pillow cannot write 16-bit colour
    elif kind == "NPY":
        np.save(file, array)
    else:
        import tifffile  # takes 60 ms, and only results of other dtypes than images need it

        colour = "rgb" if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype.kind == "u" else "minisblack"
        more = (array.shape[2] if array.ndim == 3 else 1) - (3 if colour == "rgb" else 1)
        extra: Any = ["UNASSALPHA" if has_alpha else "UNSPECIFIED"] * more or None
        form = {"photometric": colour, "extrasamples": extra, "planarconfig": "contig" if array.ndim == 3 else None}
        tifffile.imwrite(file, array, compression="zlib", metadata=None, **form)
