"""The dataset `demo`: generated images, the same on every machine, for every layout; no file is read.

Scenes show shaded balls on textured ground. A shows them as fruit on grass, B shows the same scenes as stone on sand.
Test images of the same number show the same scene, so the true translation is known; trainA and trainB share no scene.
Images of classes show one ball, box, cone or ring each.
"""

import re
from functools import lru_cache
from io import BytesIO
from pathlib import PurePath
from typing import IO, Literal

import numpy as np
from PIL import Image

from data.listing.paths import Paths

DEMO_ROOT = "demo"
IMAGE_SIZE = 128  # pixels of a side
IMAGES_PER_PHASE = {"train": 64, "val": 16, "test": 16}
FIRST_SCENE = {"train": 0, "val": 10_000, "test": 20_000}  # scene numbers, which seed the drawing
COLOURS_A = {"ground": (0.30, 0.62, 0.22), "ball": (0.95, 0.35, 0.12)}
COLOURS_B = {"ground": (0.86, 0.74, 0.52), "ball": (0.42, 0.50, 0.66)}
CLASSES = ("ball", "box", "cone", "ring")


class Demo:
    """The generated files: demo/trainA, demo/trainB, demo/train (pairs), demo/train/ball, ...; also val and test."""

    checks_late = True

    def entry_type(self, path: str) -> Literal["file", "folder", ""]:
        """Return "folder" for a folder of the dataset; images are not files that a manifest may name."""
        return "folder" if len(self.list_images(path)) or self.list_folders(path) else ""

    def list_images(self, folder: str) -> Paths:
        """Return the images of a folder without its sub-folders; those of demo/testA for `demo` itself."""
        inside = "/".join(PurePath(folder).parts[1:])
        match = re.fullmatch(rf"(train|val|test)([AB]?|/(?:{'|'.join(CLASSES)}))", inside or "testA")
        count = IMAGES_PER_PHASE[match[1]] if match else 0
        below = "" if inside else "testA/"
        return Paths.from_names([f"{below}{i:04d}.png" for i in range(count)], [0] * count, folder)

    def list_folders(self, folder: str) -> list[str]:
        """Return the names of a phase's class folders (demo/train/ball, ...); [] elsewhere."""
        return list(CLASSES) if "/".join(PurePath(folder).parts[1:]) in IMAGES_PER_PHASE else []

    def list_names(self, folder: str) -> list[str]:
        """Return the names of the images directly in a folder."""
        return [PurePath(path).name for path in self.list_images(folder)]

    def open(self, path: str) -> IO[bytes]:
        """Return an image as a PNG file in memory."""
        return BytesIO(_encode_image(path))

    def size_and_mtime(self, path: str) -> tuple[int, int]:
        """Return (0, 0), because there is no file."""
        return 0, 0


@lru_cache(maxsize=1024)
def _encode_image(path: str) -> bytes:
    draw_image(path).save(file := BytesIO(), "PNG", compress_level=1)
    return file.getvalue()


def draw_image(path: str) -> Image.Image:
    """Return the RGB image of a path in the dataset; a pair is A and B side by side."""
    folder, *inner, file = PurePath(path).parts[1:]
    phase, side = folder.rstrip("AB"), folder[-1]
    number = FIRST_SCENE[phase] + int(PurePath(file).stem)
    if inner:
        return Image.fromarray(_draw_object(number, CLASSES.index(inner[0])))
    if folder == "trainB":
        number += 5_000  # trainB shows other scenes than trainA
    sides = {"A": [COLOURS_A], "B": [COLOURS_B]}.get(side, [COLOURS_A, COLOURS_B])
    return Image.fromarray(np.concatenate([_draw_scene(number, colours) for colours in sides], axis=1))


def _draw_scene(number: int, colours: dict[str, tuple[float, float, float]]) -> np.ndarray:
    """Return (IMAGE_SIZE, IMAGE_SIZE, 3) uint8: one to four balls lit from the upper left."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[-1 : 1 : IMAGE_SIZE * 1j, -1 : 1 : IMAGE_SIZE * 1j]
    shade = 0.75 + 0.15 * y + 0.12 * _draw_texture(rng)
    is_ball = np.zeros_like(shade, dtype=bool)
    light = np.array([-0.5, -0.6, 0.62])
    for _ in range(rng.integers(1, 5)):
        cx, cy, radius = rng.uniform(-0.75, 0.75), rng.uniform(-0.6, 0.75), rng.uniform(0.2, 0.5)
        dx, dy = (x - cx) / radius, (y - cy) / radius
        shade[(dx - 0.35) ** 2 + ((dy - 0.75) / 0.45) ** 2 < 1] *= 0.6  # the ball's shadow on the ground
        inside = dx**2 + dy**2 < 1
        dz = np.sqrt(np.clip(1 - dx**2 - dy**2, 0, 1))
        lit = np.clip(dx * light[0] + dy * light[1] + dz * light[2], 0, 1)
        shade[inside] = (0.25 + 0.75 * lit)[inside]
        is_ball |= inside
    colour = np.where(is_ball[..., None], colours["ball"], colours["ground"])
    return (np.clip(shade[..., None] * colour, 0, 1) * 255).round().astype(np.uint8)


def _draw_object(number: int, kind: int) -> np.ndarray:
    """Return (IMAGE_SIZE, IMAGE_SIZE, 3) uint8: one shaded object of a class, randomly coloured, on texture."""
    rng = np.random.default_rng([number, kind])
    y, x = np.mgrid[-1 : 1 : IMAGE_SIZE * 1j, -1 : 1 : IMAGE_SIZE * 1j]
    cx, cy, radius = rng.uniform(-0.25, 0.25), rng.uniform(-0.2, 0.25), rng.uniform(0.45, 0.65)
    dx, dy = (x - cx) / radius, (y - cy) / radius
    distance = np.hypot(dx, dy)
    inside, lit = [
        lambda: (distance < 1, -0.5 * dx - 0.6 * dy + 0.62 * np.sqrt(np.clip(1 - distance**2, 0, 1))),
        lambda: (np.maximum(abs(dx), abs(dy)) < 0.85, np.where(dy < -0.35, 1.0, np.where(dx > 0.3, 0.25, 0.65))),
        lambda: (abs(dx) < (dy + 1) / 2, 0.75 - 0.6 * dx / np.maximum((dy + 1) / 2, 1e-6)),
        lambda: (abs(distance - 0.72) < 0.26, 0.9 - 2.2 * (distance - 0.72) * (dx + dy) / np.maximum(distance, 1e-6)),
    ][kind]()
    inside = inside & (abs(dy) < 1)
    shade = np.where(inside, 0.25 + 0.75 * lit.clip(0, 1), 0.75 + 0.12 * _draw_texture(rng))
    colour = np.where(inside[..., None], rng.uniform(0.3, 1.0, 3), COLOURS_B["ground"])
    return (np.clip(shade[..., None] * colour, 0, 1) * 255).round().astype(np.uint8)


def _draw_texture(rng: np.random.Generator) -> np.ndarray:
    """Return (IMAGE_SIZE, IMAGE_SIZE) smooth noise of three octaves, in about [-1, 1]."""
    total = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    for cells, weight in ((8, 0.5), (16, 0.3), (32, 0.2)):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        total += weight * np.asarray(Image.fromarray(coarse).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))
    return total
