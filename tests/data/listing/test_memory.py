"""Images in memory are listed and read like files."""

import pytest

from data.listing.files import find_storage, is_folder, is_image, list_files, list_folders, open_binary, size_and_mtime
from data.listing.memory import memory_folder


def test_a_folder_in_memory_holds_files_until_its_block_ends():
    with memory_folder({"b.png": b"bb", "A1/a.png": b"a"}) as folder, memory_folder({"b.png": b"other"}) as second:
        assert [str(path) for path in list_files(folder)] == [f"{folder}/A1/a.png", f"{folder}/b.png"]
        assert list_folders(folder) == ["A1"] and is_folder(f"{folder}/A1") and is_image(f"{folder}/b.png")
        assert find_storage(folder).list_names(folder) == ["b.png"]
        assert open_binary(f"{folder}/A1/a.png").read() == b"a" and open_binary(f"{second}/b.png").read() == b"other"
        assert size_and_mtime(f"{folder}/b.png") == (2, 0)
        assert list(list_files(f"{folder}/b.png")) == [f"{folder}/b.png"]
    assert not is_folder(folder) and not is_image(f"{folder}/b.png") and not len(list_files(folder))
    with pytest.raises(FileNotFoundError):
        open_binary(f"{folder}/b.png")
