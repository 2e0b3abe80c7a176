"""Translate the frames of a video as if each were an image file."""

from collections.abc import Callable
from itertools import islice
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from tqdm import tqdm

from data.decoding.videos import Frame, Video, frame_name
from data.listing.memory import memory_folder, replace_file
from util.errors import has_terminal


class Results(Protocol):
    """What writes the results of frames."""

    def add(self, o: Any, images: dict[str, Tensor], frame: Frame) -> None: ...


def translate_video(video: Video, translate: Callable[[str], Any], results: Results, limit: int | None) -> int:
    """Translate the frames of a video in order, at most `limit`, and return their number."""
    count, name = 0, frame_name(video.path)
    frames = islice(video.frames(), limit)
    with (
        memory_folder({name: b""}) as folder,  # of one file, so that what is found for the first frame holds for all
        tqdm(frames, unit="frame", total=video.count or None, disable=not has_terminal(), leave=False) as bar,
    ):
        for frame in bar:
            replace_file(f"{folder}/{name}", _as_file(frame.pixels))
            images, shown = translate(f"{folder}/{name}")
            results.add(images.given_options, images.rename(shown), frame)
            count += 1
    return count


def _as_file(pixels: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 as the content of a PPM file, which is not compressed."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
