"""Write what a model makes of a video as a video: the same rate, times and size, and the same sound."""

import contextlib
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch import Tensor

from data.decoding.videos import Frame, Video
from pages.names import safe_file_name
from pages.result_images import ResultImages
from pages.results_folder import ResultsFolder, results_path
from util.errors import DataError, print_line
from util.image_io import tensor_to_pil

# containers that are kept, each with an encoder and its options; other videos become .mkv, which holds all sound
ENCODERS = {".mp4": "libx264", ".m4v": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
OPTIONS = {"libx264": {"crf": "16"}, "libvpx-vp9": {"crf": "20", "b": "0", "row-mt": "1"}}  # hardly a visible loss
BT709 = 1  # the number of these colours


class VideoResults:
    """The folder of test.py's results with one video for each generated image, or those of --results_only.

    Use it in `with`; a video gets its name when it is complete. Raises what ResultsFolder raises.
    """

    def __init__(self, o: Any, video: Video):
        self.video, self.is_whole = video, o.num_test is None
        self.files = ResultsFolder(results_path(o, o.input), Path(o.checkpoints_dir, o.name), video.path)
        self.writers: dict[str, VideoWriter] = {}

    def __enter__(self) -> "VideoResults":
        return self

    def __exit__(self, *problem: object) -> None:
        for writer in self.writers.values():
            writer.discard()
        self.files.release()

    def add(self, o: Any, images: dict[str, Tensor], frame: Frame) -> None:
        """Append the images made of a frame, {label: (1, C, H, W)}; o: the options that the frame was read with."""
        if not self.writers:
            self._open(o, images)
        for label, writer in self.writers.items():
            writer.write(np.asarray(tensor_to_pil(images[label][0].cpu()).convert("RGB")), frame)

    def close(self) -> list[Path]:
        """Complete the videos, remove those of an earlier test, and return their paths."""
        paths = [writer.close(self.is_whole) for writer in self.writers.values()]
        self.files.finish({})
        return paths

    def _open(self, o: Any, images: dict[str, Tensor]) -> None:
        self.files.open()
        names = ResultImages(o)
        if note := names.begin_generated(images, o.num_results):
            print_line(note)
        path = PurePath(self.video.path)
        suffix = path.suffix.lower() if path.suffix.lower() in ENCODERS else ".mkv"
        for label in names.labels:
            file = self.files.claim(f"images/{safe_file_name(path.stem)}{names.tails[label]}{suffix}")
            self.writers[label] = VideoWriter(file, self.video)


class VideoWriter:
    """Encodes frames to a video, and copies the sound of the video they are made from."""

    def __init__(self, path: Path, video: Video):
        self.path, self.video, self.beside = path, video, path.with_name(path.name + ".tmp")
        self.stack = contextlib.ExitStack()
        source = self.stack.enter_context(video.open())
        self.output = self.stack.enter_context(video.av.open(str(self.beside), "w", format=CONTAINERS[path.suffix]))
        self.stream: Any = None
        self.converter = video.av.video.reformatter.VideoReformatter()
        self.streams = {stream.index: self.output.add_stream_from_template(stream) for stream in source.streams.audio}
        self.sound: Iterator[Any] = video.sound(source)
        self.packet = next(self.sound, None)

    def write(self, pixels: np.ndarray, frame: Frame) -> None:
        """Append (H, W, 3) uint8 at the time of a frame; raise DataError if its size differs from earlier ones."""
        height, width, _ = pixels.shape
        self.stream = self.stream or self._add_stream(width, height)
        if (width, height) != (self.stream.width, self.stream.height):
            why = f"has frames of {self.stream.width}x{self.stream.height} and of {width}x{height}"
            raise DataError("video", self.video.path, why, "cut it where its size changes")
        coloured = self.video.av.VideoFrame.from_ndarray(pixels, "rgb24")
        encoded = self.converter.reformat(coloured, format=self.stream.pix_fmt, dst_colorspace="ITU709")
        encoded.pts, encoded.time_base, encoded.duration = frame.time, self.video.time_base, frame.length
        self._copy_sound((frame.time + frame.length) * self.video.time_base)
        self.output.mux(self.stream.encode(encoded))

    def close(self, is_whole: bool) -> Path:
        """Complete the video and give it its name; is_whole: copy the rest of the sound too."""
        if is_whole:
            self._copy_sound(math.inf)
        self.output.mux(self.stream.encode())
        self.stack.close()
        os.replace(self.beside, self.path)
        return self.path

    def discard(self) -> None:
        """Delete a video that is not complete."""
        with contextlib.suppress(self.video.av.FFmpegError):
            self.stack.close()
        self.beside.unlink(missing_ok=True)

    def _add_stream(self, width: int, height: int) -> Any:
        codec = ENCODERS[self.path.suffix]
        stream = self.output.add_stream(codec, rate=self.video.rate, options=OPTIONS[codec])
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"  # half the colours need even sides
        stream.bit_rate = 0
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = self.video.time_base, self.video.pixel_shape
        context.colorspace = context.color_primaries = context.color_trc = BT709
        return stream

    def _copy_sound(self, end: Fraction | float) -> None:
        """Copy the packets of sound that begin before a time in seconds."""
        while self.packet is not None and self.packet.dts * self.packet.time_base < end:
            self.packet.stream = self.streams[self.packet.stream.index]
            self.output.mux(self.packet)
            self.packet = next(self.sound, None)
