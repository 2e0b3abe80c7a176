"""List a folder's images once each, in a fixed order, with little memory."""

import os
import pickle

import pytest

from data.listing import disk
from data.listing.files import list_files, list_folders
from data.listing.paths import Paths
from tests.support.data_folders import names, save
from tests.support.images import picture

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


# --- the progress bar and folders ------------------------------------------------------------------------------------


def test_a_long_listing_shows_how_far_it_is_on_a_terminal_alone(folder, monkeypatch):
    """It appears after some seconds: here at once."""
    shown = []
    bar = disk.tqdm
    monkeypatch.setattr(disk, "tqdm", lambda **how: (shown.append(how), bar(**how))[1])
    list_files(str(folder))
    assert shown == [{"desc": f"listing {folder}", "unit": " files", "delay": 3, "disable": None, "leave": False}]


def test_folders_are_named_in_order(folder):
    (folder / ".hidden").mkdir()
    assert list_folders(str(folder)) == ["folder.png", "sub"]
    assert list_folders(str(folder / "nowhere")) == []


def test_every_listing_sees_what_is_there_now(folder):
    """No listing is kept: a change is seen, also of a file's size alone."""
    assert list_files(str(folder)).sizes.tolist() == [1, 1, 1]
    (folder / "b.png").write_bytes(b"longer")
    (folder / "sub" / "deep" / "z.png").write_bytes(b"x")
    assert list_files(str(folder)).sizes.tolist() == [1, 6, 1, 1]


def test_folders_of_thumbnails_are_not_searched(tmp_path):
    """Synology keeps @eaDir beside images, and an unpacked zip file of Apple's has __MACOSX."""
    for name in ("cat/1.png", "cat/@eaDir/1.png/thumb.png", "@eaDir/2.png", "__MACOSX/cat/1.png"):
        save(picture(1), tmp_path / name)
    assert names(tmp_path) == ["cat/1.png"] and list_folders(str(tmp_path)) == ["cat"]
