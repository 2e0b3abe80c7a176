"""Which files a folder has: each picture once, in one order, at once and in little room however many they are."""

import os

import pytest

from data.files import list_files

# --- what lies in a folder ------------------------------------------------------------------------------------------


def names(folder):
    return [os.path.relpath(path, folder) for path in list_files(str(folder))]


@pytest.fixture
def folder(tmp_path):
    """A folder with pictures at two depths, among other things."""
    for name in ("b.png", "a.JPG", "sub/deep/c.tif"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"x")
    for name in (".hidden.png", "._b.png", "notes.txt", "png", "d.png.txt", "Thumbs.db"):
        (tmp_path / "data" / name).write_bytes(b"x")
    (tmp_path / "data" / "folder.png").mkdir()
    return tmp_path / "data"


def test_pictures_are_found_in_order_and_nothing_else_is(folder):
    assert names(folder) == ["a.JPG", "b.png", "sub/deep/c.tif"]
    assert list(list_files(str(folder / "nowhere"))) == []


def test_pipes_and_dangling_links_are_left_out_without_waiting(folder):
    """Opening a pipe that nobody writes to would hang."""
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    assert names(folder) == ["a.JPG", "b.png", "sub/deep/c.tif"]


def test_links_that_lead_back_up_or_across_give_each_folder_once(folder, tmp_path):
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "sub" / "deep" / "here").symlink_to(folder / "sub" / "deep")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "d.png").write_bytes(b"x")
    (folder / "one").symlink_to(tmp_path / "outside")
    (folder / "two").symlink_to(tmp_path / "outside")
    found = list_files(str(folder))
    assert sorted(os.path.basename(path) for path in found) == ["a.JPG", "b.png", "c.tif", "d.png"]
    assert len({os.path.realpath(path) for path in found}) == 4


def test_many_links_back_up_are_not_followed_round_and_round(folder, monkeypatch):
    """Three of them, each followed 40 times before the system gives up, would be 3^40 folders."""
    looked, scandir = [], os.scandir
    for n in range(3):
        (folder / "sub" / f"up{n}").symlink_to(folder)

    def counted(path):
        looked.append(path)
        assert len(looked) < 100
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert names(folder) == ["a.JPG", "b.png", "sub/deep/c.tif"]
    assert len(looked) <= 4 + 3, "each folder, and each link once"


def test_a_file_that_is_linked_beside_itself_is_found_once(folder):
    (folder / "again.png").symlink_to(folder / "b.png")
    assert len({os.path.realpath(path) for path in list_files(str(folder))}) == len(list_files(str(folder))) == 3


def test_a_link_to_a_picture_and_to_a_folder_of_pictures_are_followed(folder, tmp_path):
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
