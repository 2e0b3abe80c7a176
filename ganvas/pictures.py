"""Turn what callers give (paths, Pillow images, arrays, tensors) into image files in memory, and results back."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import PurePath
from typing import Any

import imagecodecs
import numpy as np
import torch
from PIL import Image

from data.decoding.images import reading_error
from data.listing.files import is_folder, open_binary
from ganvas.notebook import pictures_html
from util.errors import DataError
from util.image_io import array_to_pil
from util.spelling import path_hint

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # Pillow's modes that a PNG holds as they are
TIFF_MODES = ("CMYK", "YCbCr", "LAB")
BYTES = bytes | bytearray | memoryview
MAX_CHANNELS_LAST = 4  # an array whose last axis is longer may have its channels first


class Pictures(list[Any]):
    """A list of images that a notebook shows; `labels` are their names or classes, "" without any."""

    def __init__(self, images: Iterable[Any], labels: Iterable[str] = ()):
        super().__init__(images)
        self.labels = list(labels) or [""] * len(self)

    def _repr_html_(self) -> str:
        return pictures_html(self, self.labels)


@dataclass(frozen=True)
class Source:
    """One image that a caller gives, as a file or one for each input, and what kind of image the result is to be."""

    files: dict[str, bytes]  # {name: content}; of several inputs {INPUT/name: content}
    name: str  # what errors call it
    kind: str  # "path", "pil", "array" or "tensor"
    has_channels: bool = True  # whether an array or tensor has an axis for its channels
    device: torch.device | None = None

    def result(self, values: np.ndarray) -> Any:
        """Return an image (H, W, C) as the kind that the caller gave: of a path, as a Pillow image."""
        if self.kind in ("path", "pil"):
            return to_pillow(values)
        if values.shape[2] == 1 and not self.has_channels:
            values = values[:, :, 0]
        if self.kind == "array":
            return np.array(values, order="C")
        axes = (2, 0, 1) if values.ndim == 3 else (0, 1)
        tensor = torch.from_numpy(np.array(values.transpose(axes), order="C"))
        return tensor if self.device is None else tensor.to(self.device)


def to_pillow(values: np.ndarray) -> Any:
    """Return an image (H, W, C) as a Pillow image, or as an array if Pillow has no mode for its values."""
    if values.dtype == np.uint8 and values.shape[2] in (1, 3):
        return array_to_pil(np.ascontiguousarray(values))
    if values.dtype in (np.uint16, np.float32) and values.shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(values[:, :, 0]))
    return values


def is_several(images: Any) -> bool:
    """Whether an array or tensor holds several images: (N, H, W, C) or (N, C, H, W)."""
    return isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4


def is_one(images: Any) -> bool:
    """Whether something stands for one image, and not for several that are iterated."""
    is_single = isinstance(images, str | os.PathLike | np.ndarray | torch.Tensor | Mapping | BYTES)
    return is_single or _is_file(images) or not isinstance(images, Iterable)


def _is_file(thing: Any) -> bool:
    return callable(getattr(thing, "read", None))


def read_source(image: Any, number: int = 0) -> Source:
    """Return one image as a Source; raise DataError if it cannot be read, TypeError for other objects."""
    if isinstance(image, str | os.PathLike):
        return _read_path(os.fspath(image))
    name = f"number {number + 1}"
    if isinstance(image, Mapping):
        parts = {key: read_source(value, number) for key, value in image.items()}
        files = {f"{key}/{file}": text for key, part in parts.items() for file, text in part.files.items()}
        return replace(next(iter(parts.values())), files=files, name=name)
    if isinstance(image, BYTES) or _is_file(image):
        content = image if isinstance(image, BYTES) else image.read()
        if not isinstance(content, BYTES):
            why = f"{type(image).__name__}.read() gives no bytes but {type(content).__name__}"
            raise TypeError(f"{why}: open files in binary mode, open(path, 'rb'), or give the bytes")
        return Source({"0.png": bytes(content)}, name, "path")  # its content says which format it has
    if isinstance(image, Image.Image):
        try:
            return Source(_encode_pillow(image), name, "pil")
        except Exception as problem:  # Pillow reads the file only now, and raises errors of many classes
            raise reading_error(getattr(image, "filename", "") or name, problem) from problem
    if isinstance(image, torch.Tensor):
        tensor = image.detach().cpu()
        array = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
        _check_axes(name, array, "(C, H, W) or (H, W)")
        if array.ndim == 3 and array.shape[0] > MAX_CHANNELS_LAST >= array.shape[2]:
            why = f"is a tensor {array.shape}, whose channels seem to come last"
            raise DataError("image", name, why, "give (C, H, W): tensor.permute(2, 0, 1), or an array (H, W, C)")
        moved = np.moveaxis(array, 0, 2) if array.ndim == 3 else array
        return Source(_encode_array(moved), name, "tensor", array.ndim == 3, image.device)
    if isinstance(image, np.ndarray):
        _check_axes(name, image, "(H, W, C) or (H, W)")
        if image.ndim == 3 and image.shape[2] > MAX_CHANNELS_LAST >= image.shape[0]:
            why = f"is an array {image.shape}, whose channels seem to come first"
            raise DataError("image", name, why, "give (H, W, C): array.transpose(1, 2, 0), or a tensor (C, H, W)")
        return Source(_encode_array(image), name, "array", image.ndim == 3)
    raise TypeError(
        f"an image is a path, a Pillow image, a NumPy array, a torch tensor or a file's bytes, not "
        f"{type(image).__name__}: several are given as a list or an iterator"
    )


def _read_path(path: str) -> Source:
    if is_folder(path):
        raise DataError("image", path, "is a folder", "give a list of its files, or use the command test")
    try:
        with open_binary(path) as file:
            return Source({"0" + (PurePath(path).suffix or ".png"): file.read()}, path, "path")
    except OSError as problem:
        remedy = path_hint(path) or "give the path of an image"
        raise DataError("image", path, problem.strerror or str(problem), remedy) from problem


def _check_axes(name: str, array: np.ndarray, wanted: str) -> None:
    if array.ndim not in (2, 3) or min(array.shape) < 1:
        raise DataError("image", name, f"has the shape {array.shape}", f"give {wanted}")


def _encode_array(array: np.ndarray) -> dict[str, bytes]:
    """Return an array (H, W) or (H, W, C) as a lossless file, {name: content}."""
    channels = array.shape[2] if array.ndim == 3 else 1
    array = array[:, :, 0] if array.ndim == 3 and channels == 1 else array
    file = BytesIO()
    if array.dtype == np.uint8 and channels in (1, 3):
        Image.fromarray(np.ascontiguousarray(array)).save(file, "PPM")
        return {"0.ppm": file.getvalue()}
    if array.dtype in (np.uint8, np.uint16) and channels in (2, 4):  # the last is transparency, as in a file
        return {"0.png": bytes(imagecodecs.png_encode(np.ascontiguousarray(array), level=0))}
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return {"0.npy": file.getvalue()}


def _encode_pillow(image: Image.Image) -> dict[str, bytes]:
    """Return a Pillow image as a lossless file with its orientation and colour profile, {name: content}."""
    if image.mode in ("I", "F"):
        array = np.asarray(image)
        is_pgm = image.mode == "I" and image.format == "PPM"  # Pillow scales 16 bits to 0..65535, in 32 bits
        return _encode_array(array.astype(np.uint16) if is_pgm else array)
    if image.mode.startswith("I;16"):
        return _encode_array(np.asarray(image).astype(np.uint16))
    known = image.mode in (*PNG_MODES, *TIFF_MODES)
    image = image if known else image.convert("RGBA" if image.has_transparency_data else "RGB")
    exif, file = image.getexif(), BytesIO()
    profile = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
    if image.mode in TIFF_MODES:
        image.save(file, "TIFF", exif=exif, **profile)
        return {"0.tif": file.getvalue()}
    if image.mode in ("L", "RGB") and not (len(exif) or profile or "transparency" in image.info):
        image.save(file, "PPM")
        return {"0.ppm": file.getvalue()}
    image.save(file, "PNG", compress_level=0, **({"exif": exif} if len(exif) else {}), **profile)
    return {"0.png": file.getvalue()}
