"""Find and read picture files: upright, 8 bits a channel, grey or RGB."""

import os
import stat
from array import array
from operator import itemgetter

import numpy as np
from PIL import Image, ImageOps

from data import demo
from util.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pbm", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# recognised by content; others (EPS!) are never opened; JPEG includes MPO
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP")


def is_readable(name: str) -> bool:
    """Whether a file name is that of a picture, by its extension."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def list_images(folder: str) -> list[str]:
    """Return the paths of all pictures under a folder: see list_files."""
    return list_files(folder)[0]


def list_files(folder: str) -> tuple[list[str], array]:
    """Return the paths of all pictures under a folder, sorted, sub-folders included, each real file once; their sizes.

    Links are followed once; pipes and devices are left out. Empty if the folder does not exist. The folders of `demo`
    exist without files, unless there is a real one of that name.
    """
    if demo.is_demo(folder):
        names = demo.names(folder)
        return names, array("q", [0] * len(names))
    found: dict[tuple, str] = {}  # each real file once, by its own name where it is among them; keys end in the size
    seen = set()
    for root, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        here = os.stat(root)
        if (here.st_dev, here.st_ino) in seen:  # a link back up: not again
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(is_readable, names)):  # which link of several is kept is no matter of chance
            path = os.path.join(root, name)
            try:
                state = os.stat(path)
            except OSError:  # a dangling link
                continue
            key = (state.st_dev, state.st_ino, state.st_size) if state.st_nlink == 1 else (path, state.st_size)
            if stat.S_ISREG(state.st_mode) and (key not in found or os.path.islink(found[key])):
                found[key] = path
    rows = sorted(found.items(), key=itemgetter(1))
    return [path for _, path in rows], array("q", (key[-1] for key, _ in rows))


def list_folders(folder: str) -> list[str]:
    """Return the names of the folders directly in a folder, sorted, hidden ones left out; [] if it does not exist."""
    if demo.is_demo(folder):
        return demo.folders(folder)
    if not os.path.isdir(folder):
        return []
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def _unreadable(problem: OSError) -> None:
    if not isinstance(problem, (FileNotFoundError, NotADirectoryError)):  # said better by who asked
        raise DataError("folder", problem.filename, f"cannot be read ({problem.strerror})", "check its permissions")


def open_image(path: str, channels: int) -> Image.Image:
    """Return the picture in a file, upright (EXIF), as mode L for 1 channel, else RGB.

    16-bit grey keeps its upper 8 bits. Raises DataError, naming the file, for whatever cannot be read so.
    """
    if demo.is_demo(path):
        return in_channels(demo.draw(path), channels, path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            return in_channels(_eight_bit(_upright(image), path, image.format), channels, path)
    except (DataError, MemoryError):
        raise
    except Exception as problem:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error and more
        raise DataError("image", path, _reason(path, problem), "delete or replace it") from problem


def in_channels(image: Image.Image, channels: int, path: str) -> Image.Image:
    """Return a picture as mode L for 1 channel, RGB for 3; DataError for other numbers."""
    if channels not in (1, 3):
        raise DataError("image", path, f"cannot become {channels} channels", "use --input_nc and --output_nc 1 or 3")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of going straight to RGB; the colours are the same
    image = image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF, in any of the ways Pillow meets it: the picture itself is fine as it lies
        return image


def _eight_bit(image: Image.Image, path: str, source_format: str | None) -> Image.Image:
    """Return an image whose values fit 8 bits; PIL's own conversion would clip 16-bit pictures to white."""
    if image.mode == "I" and source_format == "TIFF":
        raise DataError("image", path, "holds 32-bit numbers", "convert it to 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise DataError("image", path, "holds 32-bit floats", "convert it to 8 or 16 bits a channel")
    return image


def _reason(path: str, problem: Exception) -> str:
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as unreadable:
        return f"cannot be read ({unreadable.strerror})"
    if size == 0:
        return "not an image (empty file)"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself (git lfs pull fetches it)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "not an image (a web page)"
    return f"cannot be read ({type(problem).__name__}: {problem})"
