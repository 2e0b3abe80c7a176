"""Test reading hundreds of damaged images (`make fuzz`: thousands), and that fuzz.py detects a broken reader."""

import faulthandler
import os
import signal
import sys

import numpy as np
import pytest

from data.decoding.images import open_image
from tests.fuzz import fuzz
from tests.fuzz.mutations import mutated_file, sound_files
from util.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPU time and memory are read from Linux' /proc")
FEW = 480  # 40 of each of the 12 formats
ZERO = 24  # the first number in the tests of broken readers


def found(tmp_path, reader=fuzz.read_image, count=12, **more):
    return fuzz.fuzz(ZERO, count, 1, tmp_path / "kept", reader, **more)


def test_spoilt_pictures_never_crash_hang_or_fill_memory(tmp_path, full):
    seen = fuzz.fuzz(0, FEW * 20 if full else FEW, 2, tmp_path / "kept")
    assert seen.bad == []
    assert seen.peak_mb <= fuzz.MAX_MEMORY_MB and seen.growth_mb < 100
    for kind in sound_files():
        assert seen.outcomes[kind, "refused"] > 5, f"no {kind} file was damaged"
    assert sum(n for (_, what), n in seen.outcomes.items() if what == "read") > FEW / 10, "all files were damaged"


def test_a_number_always_gives_the_same_file():
    assert len(sound_files()) == 12
    assert [mutated_file(n) for n in range(60)] == [mutated_file(n) for n in range(60)]
    assert len({mutated_file(n)[2] for n in range(600)}) > 590


@pytest.mark.parametrize("kind", sound_files())
def test_what_is_spoilt_was_sound(kind, tmp_path):
    """Every source file can be read in its own number of channels."""
    for ending, data in sound_files()[kind]:
        path = tmp_path / f"x{ending}"
        path.write_bytes(data)
        kinds = [as_read(path, channels) for channels in (3, 1, 4, 5, 6)]
        assert any(size in ((37, 23), (23, 37), (70, 50), (2, 2)) for size in kinds), ending


def as_read(path, channels):
    """Return the size of an image, None if it cannot be read in so many channels."""
    try:
        return open_image(fuzz.image_path(path), channels).size
    except DataError as problem:
        if "channels" not in str(problem):
            raise
        return None


def escapes(path, channels):
    raise IndexError("list index out of range")


def two_lines(path, channels):
    problem = DataError("image", path, "cannot be read", "delete it")
    problem.__class__ = type("Careless", (DataError,), {"__str__": lambda self: f"{path}: it\nbroke; sorry"})
    fuzz.check_error_line(problem, path)


def unnamed(path, channels):
    fuzz.check_error_line(DataError("image", "somewhere", "cannot be read", "delete it"), path)


def crashes(path, channels):
    faulthandler.disable()  # pytest's handler would print a stack
    os.kill(os.getpid(), signal.SIGSEGV)


def spins(path, channels):
    while True:
        pass


def exits(path, channels):
    os._exit(7)


def fills(path, channels):
    return "read" if np.ones((fuzz.MAX_MEMORY_MB + 50) << 17).all() else "refused"


BROKEN = [(escapes, "IndexError: list index out of range"), (two_lines, "AssertionError: the error is: "),
          (unnamed, "AssertionError: the error is: "), (crashes, "killed by SIGSEGV"),
          (exits, "ended the process with 7"), (spins, "took more than 0.1 s of CPU time"),
          (fills, "took ")]  # fmt: skip


@pytest.mark.parametrize(("reader", "said"), BROKEN, ids=lambda case: getattr(case, "__name__", ""))
def test_a_broken_reader_is_found_out_and_the_file_kept(reader, said, tmp_path, capsys):
    """A reader is broken for one image; the others are still read, and its number makes the same file again."""

    def broken(path, channels):
        return reader(path, channels) if f"/{ZERO + 5}." in path else fuzz.read_image(path, channels)

    seen = found(tmp_path, broken, seconds=0.1 if reader is spins else fuzz.CPU_LIMIT_S)
    assert [number for number, _ in seen.bad] == [ZERO + 5]
    assert seen.bad[0][1].startswith(said)
    assert sum(seen.outcomes.values()) == 12
    _, ending, data = mutated_file(ZERO + 5)
    assert (tmp_path / "kept" / f"{ZERO + 5}{ending}").read_bytes() == data
    assert f"python tests/fuzz/fuzz.py --only {ZERO + 5}" in capsys.readouterr().out


def test_memory_that_is_never_given_back_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "WARMUP_IMAGES", 6)
    kept = []

    def leaky(path, channels):
        kept.append(np.ones(10 << 17))
        return "read"

    assert 40 <= found(tmp_path, leaky).growth_mb <= 80
    assert found(tmp_path, lambda path, channels: "read").growth_mb < 10


def test_the_command_says_what_it_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--number", "24", "--workers", "1", "--keep", str(tmp_path / "kept")])
    assert fuzz.main() == 0
    out = capsys.readouterr().out
    assert "24 images from 0 on: 0 bad" in out and not (tmp_path / "kept").exists()
    monkeypatch.setattr(fuzz, "read_image", escapes)
    monkeypatch.setattr(fuzz.fuzz, "__defaults__", (escapes, fuzz.CPU_LIMIT_S))
    assert fuzz.main() == 1
    assert "24 bad" in capsys.readouterr().out
