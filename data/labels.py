"""Read label and instance maps as the ids of their files, and turn ids into what networks take."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.decoding.decoders import DECODERS, ImageSource, decode_numpy, identify
from data.decoding.images import DEFAULT_READ_OPTIONS, reading_error
from data.decoding.orientation import orient
from data.decoding.raster import Raster
from data.listing.files import open_binary
from util.errors import DataError

MAX_PIXELS = DEFAULT_READ_OPTIONS.max_pixels  # of a label map, by default
MAX_COLOURS = 256  # of a label map that is stored in colours; an image with more is taken for a photograph
LOSSY_FORMATS = ("JPEG", "MPO")
GREY_UNITS = {"L;2": 85, "L;4": 17}  # Pillow multiplies grey values of 2 and 4 bits by these
ONE_CHANNEL_MODES = ("1", "L", "P", "I", "F")  # of Pillow; also all that start with I;16


def read_labels(source: Any, path: str = "", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the ids in a file, image, array or tensor as int64 (H, W): palette indices, or the values of one channel.

    Files are turned upright (EXIF). Raises DataError for colours, JPEG, numbers that are no integers, and files that
    cannot be read or have more than `max_pixels`; path: the name for this error of what is no file.
    """
    if not isinstance(source, str | Path):
        return _to_ids(source, path or "label map")
    path = str(source)
    try:
        with open_binary(path) as file:
            return _decode(identify(file, path, max_pixels))
    except DataError:
        raise
    except Exception as problem:  # decoders raise many types
        raise reading_error(path, problem) from problem


def _decode(source: ImageSource) -> np.ndarray:
    if source.kind == "NumPy":
        return _to_ids(decode_numpy(source, 1, true=1)[0], source.path)
    if source.image is not None and source.image.format in LOSSY_FORMATS:
        why = "is a JPEG, whose compression changes the ids of a label map"
        raise DataError("image", source.path, why, "save it as PNG, from the original ids")
    unit = _grey_unit(source)
    picture, orientation = DECODERS[source.kind](source, 1)
    return _to_ids(orient(picture, orientation), source.path) // unit


def _grey_unit(source: ImageSource) -> int:
    """Return by how much the decoder multiplies the values of a file."""
    tile = source.image.tile if source.image is not None else ()
    return GREY_UNITS.get(str(tile[0][3])[:3], 1) if tile else 1


def _to_ids(picture: Any, path: str) -> np.ndarray:
    """Return the integers of one channel as int64 (H, W); raise DataError for anything else."""
    if isinstance(picture, Image.Image):
        one = picture.mode in ONE_CHANNEL_MODES or picture.mode.startswith("I;16")
        array = np.asarray(picture) if one else np.empty((0, 0, len(picture.getbands())))
    else:
        array = picture.array if isinstance(picture, Raster) else np.asarray(picture)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 and array.shape[2] != 1 else array[:, :, 0]
    if array.ndim != 2:
        raise _not_a_map(picture, array, path)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array % 1 == 0).all()):
        raise DataError("image", path, "holds numbers that are no integers, so they are no ids", "save integers")
    if array.dtype.kind not in "biuf" or not -(2**63) <= int(array.min()) <= int(array.max()) < 2**63:
        raise DataError("image", path, f"holds {array.dtype}, not ids of at most 63 bits", "save integers")
    return array.astype(np.int64)


def _not_a_map(picture: Any, array: np.ndarray, path: str) -> DataError:
    """Return the error for what has several numbers for each pixel: colours of classes, or a photograph."""
    why = f"has {array.shape[2]} channels" if array.ndim == 3 else f"holds an array of shape {array.shape}"
    remedy = "save the ids as a grey image or as indices of a palette"
    pixels = np.asarray(picture.array if isinstance(picture, Raster) else picture)
    if array.ndim == 3 and pixels.dtype == np.uint8:
        is_photograph = (count := len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0))) > MAX_COLOURS
        why += f", {'like a photograph, ' * is_photograph}of {count:,} colours"
        remedy = remedy if is_photograph else "make ids of its colours (docs/pix2pixhd.md, Colours instead of ids)"
        remedy += "; or take pictures as they are: --label_nc 0, train_A, train_B"
    return DataError("image", path, f"{why}, but a label map has one number for each pixel", remedy)


def one_hot(
    labels: torch.Tensor, n_classes: int, ignore: int | None = None, unknown: int | None = None
) -> torch.Tensor:
    """Return the ids of label maps, (N, H, W) or (N, 1, H, W), as float (N, n_classes, H, W) with one 1 for each pixel.

    ignore: an id, such as 255, whose pixels are 0 in all channels. unknown: an id that has one more channel, the last.
    Raises DataError for other ids outside 0 to n_classes - 1.
    """
    ids = labels[:, 0] if labels.dim() == 4 else labels
    planes, special = n_classes + (unknown is not None), torch.zeros_like(ids, dtype=torch.bool)
    if unknown is not None:
        ids, special = torch.where(ids == unknown, n_classes, ids), ids == unknown
    ignored = ids == ignore if ignore is not None else torch.zeros_like(special)
    outside = ((ids < 0) | (ids >= n_classes)) & ~special & ~ignored
    is_recorded = torch.jit.is_tracing() or torch.compiler.is_exporting()  # scatter_ refuses such ids there
    if not (ids.is_meta or is_recorded) and bool(outside.any()):
        found = sorted({int(value) for value in ids[outside].unique()[:3]})
        why = f"are not among the {n_classes} classes 0 to {n_classes - 1}"
        remedy = f"raise the number of classes, or give one_hot(ignore={found[-1]}) or unknown={found[-1]}"
        raise DataError("labels", ", ".join(map(str, found)), why, remedy)
    if is_recorded:  # ONNX counts negative numbers from the end
        ids = torch.where((ids < 0) & ~ignored, planes, ids)
    number, *size = ids.shape
    made = torch.zeros(number, planes, *size, device=ids.device)
    return made.scatter_(1, ids.masked_fill(ignored, 0)[:, None].long(), (~ignored)[:, None].to(made.dtype))


def instance_edges(instance: torch.Tensor) -> torch.Tensor:
    """Return where objects end, as float (N, 1, H, W): 1 where a pixel's id differs from one of its 4 neighbours'.

    instance: ids (N, H, W) or (N, 1, H, W). Source: pix2pixHD (Wang et al. 2018), section 3.3.
    """
    ids = instance if instance.dim() == 4 else instance[:, None]
    across, down = ids[:, :, :, 1:] != ids[:, :, :, :-1], ids[:, :, 1:] != ids[:, :, :-1]
    edges = torch.zeros_like(ids, dtype=torch.bool)
    edges[:, :, :, 1:] |= across
    edges[:, :, :, :-1] |= across
    edges[:, :, 1:] |= down
    edges[:, :, :-1] |= down
    return edges.float()


def label_colours(classes: torch.Tensor) -> torch.Tensor:
    """Return (N, 3, H, W) in [-1, 1]: a colour for the class of each pixel, which is the largest of (N, classes, H, W).

    The bits of a class, from the lowest, are in turn the highest bits of red, green and blue, as in PASCAL VOC's maps.
    """
    ids = classes.argmax(1)
    bits = [(ids >> n & 1) << 7 - n // 3 for n in range(24)]
    return torch.stack([sum(bits[channel::3], torch.zeros_like(ids)) for channel in range(3)], 1) / 127.5 - 1
