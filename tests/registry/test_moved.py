"""Plug-ins with old import paths work, and a note gives the new paths."""

import importlib
import re
import sys

import pytest

from registry import moved

PRINTED = [  # what earlier documents and examples print
    "util.pool.ImagePool", "util.schedule.LR_POLICIES", "util.pixels.save_image", "util.metrics.METRICS",
    "util.display.DISPLAYS", "util.display.Sink", "networks.objectives.Objective", "networks.dcgan.doublings",
    "networks.sizes.any_size", "util.registry.find", "util.errors.OptionError",
]  # fmt: skip


@pytest.mark.parametrize("old", PRINTED)
def test_a_plug_in_with_an_old_import_runs_with_a_note(process, write, old):
    module, _, name = old.rpartition(".")
    source = f"from {module} import {name}\nfrom models.pix2pix import Pix2Pix\n\n\nclass Mine(Pix2Pix):\n    pass\n"
    write("mine.py", source)
    ended = process("train", "--plugin", "mine.py", "--list")
    assert ended.code == 0, ended.err
    assert "\n  mine " in ended.out
    notes = [line for line in ended.out.splitlines() if line.startswith("note: ")]
    if module == "util.errors":  # it has not moved
        assert notes == []
        return
    (note,) = notes
    match = re.search(rf"mine\.py imports {re.escape(old)}, which is ([\w.]+) now", note)
    home, _, new = match[1].rpartition(".")
    assert hasattr(importlib.import_module(home), new)


def test_every_old_module_has_a_home(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if not isinstance(finder, moved.Finder)])
    for old, new in moved.MOVED.items():
        monkeypatch.delitem(sys.modules, old, raising=False)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(old)
        for home in new.split():
            importlib.import_module(home)
    for old, names in moved.RENAMED.items():
        homes = [importlib.import_module(home) for home in moved.MOVED[old].split()]
        for name, new in names.items():
            assert any(hasattr(home, new) for home in homes), f"{old}.{name}"


def test_an_unknown_name_of_an_old_module_is_refused(process, write):
    write("mine.py", "from util.pool import Nothing\n")
    ended = process("train", "--plugin", "mine.py", "--model", "mine")
    assert ended.code == 2
    assert ended.last.startswith("error: plug-in ")
    assert "cannot import name 'Nothing' from 'util.pool' (moved to util.image_pool)" in ended.last


def test_a_table_is_the_same_under_both_paths(process, write):
    write(
        "mine.py",
        "import util.metrics\nimport metrics\nfrom models.pix2pix import Pix2Pix\n\n"
        "util.metrics.METRICS['mine'] = lambda fake, real: 0.0\nassert 'mine' in metrics.METRICS\n\n\n"
        "class Mine(Pix2Pix):\n    pass\n",
    )
    ended = process("train", "--plugin", "mine.py", "--list")
    assert ended.code == 0 and "\n  mine " in ended.out


def test_an_error_of_ours_beside_train_py_blames_no_plug_in():
    """A plug-in may stand beside train.py; what stands in our folders there is ours."""
    from registry import loaded

    try:
        loaded.imported_plugins["ganvas_plugin_mine"] = ("mine", loaded.ROOT / "mine.py")
        for room in loaded.our_folders():
            assert loaded.plugin_of_file(str(loaded.ROOT / room / "any.py")) is None, room
        assert loaded.plugin_of_file(str(loaded.ROOT / "train.py")) is None
        assert loaded.plugin_of_file(str(loaded.ROOT / "mine.py")) == "mine"
        assert loaded.plugin_of_file(str(loaded.ROOT / "mine_helper.py")) == "mine"
    finally:
        loaded.imported_plugins.pop("ganvas_plugin_mine", None)
    assert {"pages", "displays", "scripts", "util", "training"} <= set(loaded.our_folders())


def test_a_users_package_beside_train_py_is_not_ours(monkeypatch, tmp_path):
    """Its files belong to the plug-in in it; a plug-in inside models/ does not take that folder from us."""
    from registry import loaded

    for folder in ("mine", "models", "pages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    monkeypatch.setattr(loaded, "imported_plugins", {"a": ("gan", tmp_path / "mine" / "gan.py")})
    assert loaded.our_folders() == ["models", "pages"]
    assert loaded.plugin_of_file(str(tmp_path / "mine" / "layers.py")) == "gan"
    assert loaded.plugin_of_file(str(tmp_path / "pages" / "rows.py")) is None
    monkeypatch.setattr(loaded, "imported_plugins", {"a": ("gan", tmp_path / "models" / "gan.py")})
    assert loaded.plugin_of_file(str(tmp_path / "models" / "gan.py")) == "gan"
    assert loaded.plugin_of_file(str(tmp_path / "models" / "pix2pix.py")) is None
