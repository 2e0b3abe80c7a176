"""List a folder's images once each, in a fixed order, with little memory."""

import os
import pickle

import numpy as np
import pytest

from data.listing import files, index
from data.listing.files import list_files, list_folders
from data.listing.paths import Paths
from tests.support.data_folders import names

# --- what lies in a folder ------------------------------------------------------------------------------------------


def test_pictures_are_found_in_order_and_nothing_else_is(folder):
    assert names(folder) == ["a.JPG", "b.png", "sub/deep/c.tif"]
    assert list(list_files(str(folder / "nowhere"))) == []


def test_links_to_pictures_and_to_folders_are_followed(folder, tmp_path):
    (tmp_path / "linked").symlink_to(folder)
    assert names(tmp_path / "linked") == ["a.JPG", "b.png", "sub/deep/c.tif"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").symlink_to(folder / "b.png")
    assert names(tmp_path / "other") == ["x.png"]


def test_hidden_folders_are_not_searched(tmp_path):
    for folder in (".ipynb_checkpoints", "seen"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"x")
    assert list(list_files(str(tmp_path))) == [str(tmp_path / "seen" / "a.png")]


# --- links to files -------------------------------------------------------------------------------------------------


def test_many_links_to_one_file_leave_the_first_or_the_file(folder, tmp_path):
    (tmp_path / "else.png").write_bytes(b"xy")
    for name in ("c_first.png", "d_second.png"):
        (folder / name).symlink_to(tmp_path / "else.png")
    (folder / "a_link.png").symlink_to(folder / "b.png")
    os.link(folder / "b.png", folder / "hard.png")
    assert names(folder) == ["a.JPG", "a_link.png", "b.png", "c_first.png", "hard.png", "sub/deep/c.tif"]
    os.unlink(folder / "hard.png")
    assert names(folder) == ["a.JPG", "b.png", "c_first.png", "sub/deep/c.tif"]
    assert list_files(str(folder)).sizes.tolist() == [1, 1, 2, 1]


# --- paths ----------------------------------------------------------------------------------------------------------

NAMES = ["a.png", "b/é.png", "b/\U0001f600 \u202e.png", "c\n.png", os.fsdecode(b"\xff\xfe.png"), "-x.png", "d.tar.png"]


@pytest.fixture
def paths():
    return Paths.from_names(NAMES, range(len(NAMES)), "top")


def test_paths_are_a_sequence_of_texts(paths):
    whole = [f"top/{name}" for name in NAMES]
    assert list(paths) == whole and len(paths) == 7 and paths[-1] == whole[-1] and whole[3] in paths
    assert paths.index(whole[2]) == 2
    for cut in (slice(2, 5), slice(None, -2), slice(5, 2), slice(None, None, -1), slice(1, None, 2), slice(0, 0)):
        assert list(paths[cut]) == whole[cut]
        assert paths[cut].sizes.tolist() == list(range(7))[cut]
    assert list(paths.take([4, 0, 4])) == [whole[4], whole[0], whole[4]]
    for wrong in (7, -8):
        with pytest.raises(IndexError):
            paths[wrong]
    assert not Paths.from_names([], []) and list(Paths.from_names([], [])) == []


def test_a_slice_travels_with_its_own_names_alone(paths):
    again = pickle.loads(pickle.dumps(paths[2:4]))  # noqa: S301 - our own
    assert list(again) == list(paths)[2:4] and again.sizes.tolist() == [2, 3]
    assert len(again.names) < len(paths.names)


def test_keys_are_names_without_extension(paths):
    others = Paths.from_names([os.path.splitext(name)[0] + ".TIFF" for name in NAMES], [0] * 7, "elsewhere")
    assert (paths.keys() == others.keys()).all() and len(set(paths.keys().tolist())) == 7
    assert Paths.from_names(["A.png"], [0]).keys() != Paths.from_names(["a.png"], [0]).keys()
    assert Paths.from_names(["A.png"], [0]).keys(fold=True) == Paths.from_names(["a.png"], [0]).keys(fold=True)


def test_all_names_are_found_by_the_names_they_have(tmp_path):
    """NFC and NFD, right-to-left marks, bytes that are no UTF-8, line breaks, backslashes, 255 bytes."""
    for name in (*NAMES, "e\u0301.png", "é.png", "a\\b.png", "n" * 251 + ".png", "CON.png", "%20#?&.png", " .png"):
        place = os.path.join(tmp_path, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        open(place, "wb").close()
    found = list(list_files(str(tmp_path)))
    assert len(found) == 14 and all(os.path.isfile(path) for path in found)
    assert [os.fsencode(path) for path in found] == sorted(map(os.fsencode, found))


# --- the index ------------------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(folder, tmp_path, monkeypatch):
    """The folder, worth an index, changed long ago; with a counter of the folders that are looked into."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "MIN_INDEXED_FILES", 2)
    settle(folder)
    return folder


def settle(folder):
    """Make a folder's changes a minute old."""
    for place, _, _ in os.walk(folder):
        old = os.stat(place).st_mtime_ns - 60_000_000_000
        os.utime(place, ns=(old, old))


@pytest.fixture
def looks(monkeypatch):
    seen, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": (seen.append(path), scandir(path))[1])
    return seen


def test_an_index_is_used_while_no_folder_has_changed(indexed, looks):
    first = list_files(str(indexed))
    assert looks
    looks.clear()
    again = list_files(str(indexed))
    assert not looks
    assert list(again) == list(first) and again.sizes.tolist() == first.sizes.tolist()
    assert list(list_files(os.path.relpath(indexed))) == [os.path.relpath(path) for path in first]
    list_files(str(indexed), refresh=True)
    assert looks


@pytest.mark.parametrize("change", ["added", "removed", "deep", "folder", "renamed"])
def test_an_index_is_out_of_date_when_any_folder_has_changed(change, indexed):
    list_files(str(indexed))
    if change == "added":
        (indexed / "z.png").write_bytes(b"x")
    elif change == "removed":
        (indexed / "b.png").unlink()
    elif change == "deep":
        (indexed / "sub" / "deep" / "z.png").write_bytes(b"x")
    elif change == "folder":
        (indexed / "new").mkdir()
        (indexed / "new" / "z.png").write_bytes(b"x")
    else:
        (indexed / "sub").rename(indexed / "subs")
    assert names(indexed) == sorted(
        str(p.relative_to(indexed)) for p in indexed.rglob("*")
        if p.is_file() and p.suffix.lower() in (".png", ".jpg", ".tif") and not p.name.startswith(".")
    )  # fmt: skip


def test_a_folder_that_has_just_changed_is_not_remembered(indexed, tmp_path):
    """What is written within the same tick of its clock would not be noticed."""
    (indexed / "z.png").write_bytes(b"x")
    list_files(str(indexed))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["cut", "garbage", "flipped", "empty", "another folder's", "other numbers"])
def test_a_damaged_index_is_as_if_there_were_none(damage, indexed, tmp_path):
    expected = list(list_files(str(indexed)))
    [file] = (tmp_path / "cache" / "ganvas" / "files").iterdir()
    whole = file.read_bytes()
    if damage == "another folder's":
        held = dict(np.load(file))
        np.savez(file, **held | {"root": np.frombuffer(b"/elsewhere", dtype=np.uint8)})
    elif damage == "other numbers":
        held = dict(np.load(file))
        np.savez(file, **held | {"offsets": held["offsets"][::-1].copy()})
    else:
        spoilt = {"cut": whole[: len(whole) // 2], "garbage": bytes(500), "empty": b"",
                  "flipped": whole.replace(b"b.png", b"x.png")}  # fmt: skip
        file.write_bytes(spoilt[damage])
        assert file.read_bytes() != whole
    assert list(list_files(str(indexed))) == expected


def test_every_cut_of_an_index_is_survived(indexed, tmp_path):
    expected = list(list_files(str(indexed)))
    [file] = (tmp_path / "cache" / "ganvas" / "files").iterdir()
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        known = index.load(str(indexed))
        assert known is None or list(known) == expected


def test_a_cache_that_cannot_be_written_is_no_error(indexed, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        assert len(list_files(str(indexed))) == 3


def test_old_indexes_and_leftovers_of_kills_are_removed(indexed, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "MAX_INDEX_FILES", 3)
    place = tmp_path / "cache" / "ganvas" / "files"
    place.mkdir(parents=True)
    (place / ".left.tmp").write_bytes(b"half")
    os.utime(place / ".left.tmp", (1, 1))
    for number in range(5):
        other = tmp_path / f"data{number}"
        os.rename(indexed if number == 0 else tmp_path / f"data{number - 1}", other)
        list_files(str(other))
    assert len(list(place.iterdir())) == 3 and not (place / ".left.tmp").exists()


def test_few_files_leave_no_index(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settle(folder)
    list_files(str(folder))
    assert not (tmp_path / "cache").exists()


def test_a_long_listing_shows_how_far_it_is_on_a_terminal_alone(folder, monkeypatch):
    """It appears after some seconds: here at once."""
    shown = []
    bar = files.tqdm
    monkeypatch.setattr(files, "tqdm", lambda **how: (shown.append(how), bar(**how))[1])
    list_files(str(folder))
    assert shown == [{"desc": f"listing {folder}", "unit": " files", "delay": 3, "disable": None, "leave": False}]


def test_folders_are_named_in_order(folder):
    (folder / ".hidden").mkdir()
    assert list_folders(str(folder)) == ["folder.png", "sub"]
    assert list_folders(str(folder / "nowhere")) == []
