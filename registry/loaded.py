"""Record imported plug-ins, and find the plug-in that a source file belongs to."""

import importlib
import importlib.util
import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

from registry.kinds import PART_TABLES

ROOT = Path(__file__).resolve().parents[1]
PREFIX = __name__.removesuffix("registry.loaded")  # of our modules' names: "ganvas._rooms." in the installed package
SITE_FOLDERS = ("site-packages", "dist-packages")

# module: (name of the plug-in, its file), for every requested plug-in
imported_plugins: dict[str, tuple[str, Path]] = {}
import_stack: list[str] = []  # origins of the plug-ins being imported, innermost last
# origin of a plug-in: {(kind, name): (table, thing)}, what it has added to tables
table_entries: dict[str, dict[tuple[str, str], tuple[Any, Any]]] = {}
_real_path = lru_cache(maxsize=None)(os.path.realpath)  # of thousands of modules, each time that images are translated


def our_folders() -> list[str]:
    """Return the names of GANvas's own packages: the folders beside train.py with an __init__.py, except tests.

    A folder that holds an imported plug-in is the user's, unless it also holds one of our tables, as models/ does.
    """
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"}
    plugin_files = [file.relative_to(ROOT) for _, file in imported_plugins.values() if file.is_relative_to(ROOT)]
    with_tables = {module.partition(".")[0] for module, _, _ in PART_TABLES.values()}
    return sorted(packages - ({file.parts[0] for file in plugin_files} - with_tables))


def plugin_of_module(module: str) -> str | None:
    """Return the display name of the plug-in imported as this module; None if the module is not a plug-in."""
    return imported_plugins[module][0] if module in imported_plugins else None


def display_name(origin: str) -> str:
    """Return the display name for an origin: a file's name without .py, or the text of an entry point."""
    return Path(origin).stem if origin.endswith(".py") else origin


def plugin_names() -> list[str]:
    """Return the names of the imported plug-ins."""
    return [name for name, _ in imported_plugins.values()]


def plugin_of_file(source: str) -> str | None:
    """Return the name of the plug-in that a source file belongs to: its own file, or a file in or below its folder.

    None for files of GANvas, of Python and of other installed packages.
    """
    path = Path(source)
    if not path.is_absolute():  # <string>, <frozen importlib._bootstrap>
        return None
    path = path.resolve()
    files = {file: name for name, file in imported_plugins.values()}
    if path in files:
        return files[path]
    homes = {file.parent: name for file, name in files.items() if file.parent.name not in SITE_FOLDERS}
    home = next((folder for folder in path.parents if folder in homes), None)
    if home is None or _is_ours(path) or path.is_relative_to(sysconfig.get_paths()["stdlib"]):
        return None
    return None if set(path.relative_to(home).parts) & set(SITE_FOLDERS) else homes[home]


def _is_ours(path: Path) -> bool:
    if PREFIX:
        return path.is_relative_to(ROOT.parent)
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in (*our_folders(), "train.py", "test.py")


def is_importable(module: str) -> bool:
    """Whether a module of this name can be found."""
    return importlib.util.find_spec(module) is not None


def current_origin() -> str:
    """Return the origin of the plug-in being imported now, or "" outside an import."""
    return import_stack[-1] if import_stack else ""


def plugin_modules() -> dict[str, Path]:
    """Return {module: file} of all imported modules that belong to plug-ins, those beside a plug-in's file too."""
    folders = tuple({str(file.parent) for _, file in imported_plugins.values()})
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())} if folders else {}
    real = {name: _real_path(file) for name, file in files.items() if isinstance(file, str)}
    return {name: Path(file) for name, file in real.items() if file.startswith(folders) and plugin_of_file(file)}
