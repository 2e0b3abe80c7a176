"""test.py turns a video into a video: the frames are those of test.py for images, with rate, times, size and sound."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from data.decoding.videos import Video
from pages import video_results

RATE, SAMPLES = Fraction(24000, 1001), 48000
CODECS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "aac"), ".webm": ("libvpx-vp9", "libopus"),
          ".avi": ("mpeg4", "mp3")}  # fmt: skip


@pytest.fixture
def av():
    return pytest.importorskip("av")


@pytest.fixture
def video(av, tmp_path):
    """video(name, width, height): write a video of 6 frames with half a second of sound."""

    def make(name, width=48, height=40):
        path = tmp_path / name
        codec, voice = CODECS[path.suffix]
        with av.open(str(path), "w") as container:
            stream, sound = container.add_stream(codec, rate=RATE), container.add_stream(voice, rate=SAMPLES)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p" if width % 2 == 0 else "yuv444p"
            for number in range(6):
                y, x = np.mgrid[:height, :width]
                pixels = np.dstack([x * 5, y * 6, x + y + 20 * number]).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            container.mux(stream.encode())
            wave = (np.sin(np.arange(SAMPLES // 2) / 20) * 8000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLES, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
        return path

    return make


@pytest.fixture
def translated(command, runs, tmp_path, monkeypatch):
    """translated(video, *flags): run test.py; return its file and the frames that it was given to encode."""

    def run(path, *flags, name="p2p"):
        frames: list[np.ndarray] = []
        write = video_results.VideoWriter.write
        with monkeypatch.context() as patch:
            patch.setattr(video_results.VideoWriter, "write", lambda w, p, f: (frames.append(p), write(w, p, f)))
            ended = command(
                "test", "--checkpoints_dir", runs / "checkpoints", "--name", name, "--dataroot", path, *flags
            )
        assert ended.code == 0, ended.err
        (file,) = (tmp_path / "results" / name / "test_latest" / "images").iterdir()
        return file, frames

    return run


def contents(av, path):
    """Return (size, average rate, times of the frames, packets of sound) of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.dts is not None]
        container.seek(0)
        times = [round(float(frame.time), 3) for frame in container.decode(video=0)]
        return (stream.width, stream.height), stream.average_rate, times, b"".join(sound)


@pytest.mark.extras
@pytest.mark.parametrize(("name", "size", "made"), [
    ("a.mp4", (48, 40), "a.mp4"), ("a.mkv", (51, 37), "a.mkv"), ("a.webm", (48, 40), "a.webm"),
    ("a.avi", (48, 40), "a.mkv"), ("a.mp4", (96, 40), "a.mp4"),  # the last as wide as a pair of the run
])  # fmt: skip
def test_rate_times_size_and_sound_are_kept(av, video, translated, name, size, made):
    path = video(name, *size)
    file, frames = translated(path)
    assert file.name == made and len(frames) == 6
    before, after = contents(av, path), contents(av, file)
    assert (before[0], before[3]) == (after[0], after[3]) and np.allclose(before[2], after[2], atol=2e-3)
    assert abs(before[1] - after[1]) < 0.01 and len(before[3]) > 500
    with av.open(str(file)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(shown.astype(int) - frames[0]).mean() < 6


@pytest.mark.extras
@pytest.mark.parametrize(("name", "flags"), [("p2p", ()), ("p2p", ("--crop_size", "32")), ("p2p", ("--no_eval",)),
                                             ("cyc", ("--direction", "BtoA"))])  # fmt: skip
def test_frames_are_those_of_test_for_images(video, translated, command, runs, tmp_path, name, flags):
    path = video("clip.mp4")
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(Video(str(path)).frames()):
        Image.fromarray(frame.pixels).save(tmp_path / "frames" / f"{number}.png")
    _, frames = translated(path, *flags, name=name)
    native = () if "--crop_size" in flags else ("--native",)
    only = ("--results_only", "fake_A" if name == "cyc" else "fake_B", "--checkpoints_dir", runs / "checkpoints")
    assert command("test", "--name", name, *only, tmp_path / "frames", *native, *flags).code == 0
    files = sorted((tmp_path / "results" / name / "frames_latest" / "images").iterdir())
    assert len(files) == 6 and all(np.array_equal(np.asarray(Image.open(f)), p) for f, p in zip(files, frames))


@pytest.mark.extras
def test_a_video_that_is_stored_sideways_becomes_upright(video, translated):
    path = video("clip.mp4")
    stored = next(Video(str(path)).frames()).pixels
    content = bytearray(path.read_bytes())
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, 40 << 16, 0, 1 << 30)  # a quarter turn, as telephones write it
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in matrix)
    path.write_bytes(content)
    assert np.array_equal(next(Video(str(path)).frames()).pixels, np.rot90(stored, -1))
    assert translated(path)[1][0].shape == (48, 40, 3)


@pytest.mark.extras
def test_num_test_ends_the_sound_too_and_flags_are_answered(av, video, translated, command, runs):
    path = video("clip.mp4")
    file, frames = translated(path, "--num_test", "2")
    whole, part = contents(av, path)[3], contents(av, file)[3]
    assert len(frames) == 2 and 0 < len(part) < len(whole) and whole.startswith(part)
    same = ("test", "--checkpoints_dir", runs / "checkpoints", "--name", "p2p", "--num_test", "1", path)
    assert "note: --format has no effect: of a video test.py makes a video" in command(*same, "--format", "jpg").out


@pytest.mark.extras
def test_damaged_videos_are_errors_that_leave_no_file(video, command, runs, tmp_path):
    path = video("clip.mkv")
    (tmp_path / "text.mp4").write_text("no video")
    ended = command("test", "--checkpoints_dir", runs / "checkpoints", "--name", "p2p", "text.mp4")
    assert ended.code == 3 and "error: video 'text.mp4': cannot be read" in ended.last
    ended = command("train", "--model", "gan", "--name", "x", "--dataroot", path)
    assert ended.code == 2 and "write its frames to a folder: ffmpeg -i" in ended.last
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.glob("results/**/*.m*"))


def test_without_pyav_one_line_says_what_to_install(command, runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 99)
    ended = command("test", "--checkpoints_dir", runs / "checkpoints", "--name", "p2p", "clip.mp4")
    assert ended.code == 5 and ended.last.endswith("is not installed in this Python; pip install av, or make extras")
