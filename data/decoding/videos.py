"""Read the frames and the sound of a video, with PyAV (which brings FFmpeg)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import numpy as np

from data.listing.files import is_image
from util.errors import DataError, EnvironmentFault

EXTENSIONS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts",
              ".3gp", ".ogv")  # fmt: skip
HD_LINES = 720  # videos of so many lines or more have the colours of BT.709 if they do not say which, others of BT.601
UNSPECIFIED = 2  # the number of a colour space that is not stated
REMEDY = "play it to see whether it is complete, or convert it with ffmpeg"


@dataclass(frozen=True)
class Frame:
    """A frame of a video: (H, W, 3) uint8 as it is shown, its time and its length in units of the video's time base."""

    pixels: np.ndarray
    time: int
    length: int


def is_video(path: str) -> bool:
    """Return whether a path is a file with the extension of a video, which is not the wrong one of an image."""
    name = path.lower()
    is_named = name.endswith(EXTENSIONS) and os.path.isfile(path)
    return is_named and (name.endswith(".avi") or not is_image(path))  # .avi begins as .webp does


def import_av() -> Any:
    """Return PyAV; raise EnvironmentFault if it is not installed."""
    try:
        import av  # an optional package, for videos alone
    except ImportError as problem:
        why = "is needed to read and write videos, and is not installed in this Python"
        raise EnvironmentFault("package", "av", why, "pip install av, or make extras") from problem
    return av


class Video:
    """A video's picture and sound: its first stream of pictures, and all streams of sound.

    rate: frames a second on average. time_base: seconds of a unit of time. Raises DataError for a file that holds no
    video, EnvironmentFault without PyAV.
    """

    def __init__(self, path: str):
        self.path, self.av = path, import_av()
        with self.open() as container:
            if not container.streams.video:
                raise DataError("video", path, "holds no pictures", "give a video, or a folder of images")
            stream = container.streams.video[0]
            self.time_base: Fraction = stream.time_base
            self.rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.pixel_shape: Fraction = stream.sample_aspect_ratio or Fraction(1)  # width over height
            self.count: int = stream.frames  # 0 if the file does not say it

    def open(self) -> Any:
        """Return the opened file, an input container of PyAV, for use in `with`."""
        try:
            return self.av.open(self.path)
        except self.av.FFmpegError as problem:
            raise DataError("video", self.path, f"cannot be read ({problem.strerror})", REMEDY) from problem

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in the order in which they are shown; raise DataError for one that cannot be decoded."""
        length = round(1 / (self.rate * self.time_base))
        number, end = 0, 0
        with self.open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            converter = self.av.video.reformatter.VideoReformatter()  # kept, because to set one up takes longer
            try:
                for frame in container.decode(stream):
                    time = end if frame.pts is None else frame.pts
                    found = Frame(_upright_pixels(frame, converter), time, frame.duration or length)
                    number, end = number + 1, time + found.length
                    yield found
            except self.av.FFmpegError as problem:
                why = f"cannot be decoded after frame {number} ({problem.strerror})"
                raise DataError("video", self.path, why, REMEDY) from problem
        if not number:
            raise DataError("video", self.path, "holds no frame", REMEDY)

    def sound(self, container: Any) -> Iterator[Any]:
        """Yield the packets of all sound of an opened video, as they are in the file."""
        streams = container.streams.audio
        return (packet for packet in container.demux(*streams) if packet.dts is not None) if streams else iter(())


def _upright_pixels(frame: Any, converter: Any) -> np.ndarray:
    """Return the pixels of PyAV's frame as it is shown; a telephone stores videos sideways."""
    unsaid = frame.colorspace == UNSPECIFIED and frame.height >= HD_LINES
    rgb = converter.reformat(frame, format="rgb24", **({"src_colorspace": "ITU709"} if unsaid else {}))
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), round(frame.rotation / 90) % 4))


def frame_name(video: str) -> str:
    """Return the name of a frame as an image file, below the name of the video's folder, which may state the side."""
    return f"{PurePath(os.path.abspath(video)).parent.name}/frame.ppm"
