"""An image that arrives in a folder is found once two looks have seen it unchanged."""

import itertools
import os

import pytest

from inference.streams.arrivals import INCOMPLETE_S, Arrivals


@pytest.fixture
def arrivals(tmp_path):
    ticks = itertools.count()
    return Arrivals(str(tmp_path), {}, lambda: next(ticks))


def test_a_file_is_found_at_the_second_look(arrivals, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.png").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"1")
    assert arrivals.look() == []
    (tmp_path / "a.png").write_bytes(b"1")
    assert arrivals.look() == ["sub/b.png"]
    assert arrivals.look() == ["a.png", "sub/b.png"]


def test_a_file_that_grows_is_left_alone(arrivals, tmp_path):
    for size in range(4):
        (tmp_path / "a.png").write_bytes(b"1" * size)
        assert arrivals.look() == []
    assert arrivals.look() == ["a.png"]


def test_a_settled_file_returns_when_it_changes(arrivals, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"1")
    arrivals.settled["a.png"] = arrivals.version("a.png")
    assert [arrivals.look(), arrivals.look()] == [[], []]
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert [arrivals.look(), arrivals.look()] == [[], ["a.png"]]
    file.unlink()
    assert arrivals.look() == [] and arrivals.version("a.png") is None


def test_what_has_just_changed_may_be_incomplete(tmp_path):
    now = 0.0
    arrivals = Arrivals(str(tmp_path), {}, lambda: now)
    (tmp_path / "a.png").write_bytes(b"1")
    arrivals.look()
    now = INCOMPLETE_S - 0.1
    assert arrivals.look() == ["a.png"] and arrivals.may_be_incomplete("a.png")
    now = INCOMPLETE_S
    assert not arrivals.may_be_incomplete("a.png")


def test_other_files_are_named_once_for_each_extension(arrivals, tmp_path, capsys):
    for name in ("a.heic", "b.heic", "c.mp4", ".hidden.heic", "list.txt"):
        (tmp_path / name).write_bytes(b"1")
    assert [arrivals.look(), arrivals.look()] == [[], []]
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said] == ["a.heic", "c.mp4"]
