"""Resolve the module names that plug-ins import: the installed package holds our modules below one name.

There `from models.base import BaseModel` in a plug-in means `ganvas._rooms.models.base`, while the user's own models.py
stays the user's. In a clone names mean what they say, and nothing here has an effect.
"""

import ast
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from registry import moved
from registry.loaded import PREFIX, ROOT, SITE_FOLDERS

_installed: set[str] = set()  # modules of installed plug-ins that are being imported, and the packages that hold them


def own_module(name: str) -> str:
    """Return the name by which a module of ours is imported; other names as they are."""
    return PREFIX + name if PREFIX and _file(name) is not None else name


def load_plugin(name: str, path: Path) -> ModuleType:
    """Import the file of a plug-in as the module `name`."""
    loader = PluginLoader(name, str(path), path.parent) if PREFIX else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _add_finder()
    spec.loader.exec_module(module)
    return module


@contextmanager
def compiled_as_plugin(module: str) -> Iterator[None]:
    """In the block, compile an installed module, and the packages that hold it, as plug-ins when they are imported."""
    parts = module.split(".")
    _installed.update(".".join(parts[: n + 1]) for n in range(len(parts)))
    _add_finder()
    try:
        yield
    finally:
        _installed.clear()


class PluginLoader(SourceFileLoader):
    """Compiles the source of a plug-in so that names of ours are found in the installed package.

    home: the plug-in's folder, whose modules are compiled alike where the plug-in imports them.
    """

    def __init__(self, name: str, path: str, home: Path):
        super().__init__(name, path)
        self.home = home

    def get_code(self, fullname: str) -> CodeType:
        """Return the code; it is not cached, because other programs read the cache of the same file."""
        tree = ast.parse(self.get_data(self.path), self.path)
        return compile(ast.fix_missing_locations(_OwnNames().visit(tree)), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules beside a plug-in that the plug-in imports, to compile them alike; it touches no others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec with a PluginLoader for a module that belongs to a plug-in, else None."""
        importer = _importing_loader()
        if name not in _installed and importer is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        file = Path(spec.loader.path)
        home = importer.home if importer is not None else file.parent
        inside = file.relative_to(home).parts if file.is_relative_to(home) else SITE_FOLDERS
        if name not in _installed and set(inside) & set(SITE_FOLDERS):
            return None
        spec.loader = PluginLoader(name, str(file), home)
        return spec


def _importing_loader() -> PluginLoader | None:
    """Return the loader of the module whose code imports something now, if it is a plug-in."""
    frame: Any = sys._getframe(2)
    while frame is not None and "importlib" in frame.f_code.co_filename:
        frame = frame.f_back
    loader = frame.f_globals.get("__loader__") if frame is not None else None
    return loader if isinstance(loader, PluginLoader) else None


def _add_finder() -> None:
    if PREFIX and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _OwnNames(ast.NodeTransformer):
    """Replaces the names of our modules in import statements."""

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """Return `import models.base` as an import that binds `models`, or with `as` its name."""
        made: list[ast.stmt] = []
        for alias in node.names:
            if not _is_ours(alias.name):
                made.append(ast.Import([alias]))
            elif alias.asname:
                made.append(ast.Import([ast.alias(PREFIX + alias.name, alias.asname)]))
            else:
                top = alias.name.partition(".")[0]
                made.append(ast.Import([ast.alias(PREFIX + alias.name, f"_ganvas_{alias.name.replace('.', '_')}")]))
                made.append(ast.ImportFrom(PREFIX.rstrip("."), [ast.alias(top)], 0))
        return [ast.copy_location(statement, node) for statement in made]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        """Return `from models.base import Phase` with the names of ours apart from others."""
        module = node.module or ""
        if node.level or not _is_ours(module):
            return [node]
        theirs = [alias for alias in node.names if not _is_ours(module, alias.name)]
        ours = [alias for alias in node.names if alias not in theirs]
        parts = [(PREFIX + module, ours), (module, theirs)]
        return [ast.copy_location(ast.ImportFrom(name, names, 0), node) for name, names in parts if names]


def _is_ours(module: str, name: str = "") -> bool:
    """Whether a module, or a name in it, is ours: our sources have it, or no other module has its name."""
    known = _names(module)
    if known is not None and (not name or name in known or name == "*"):
        return True
    top = module.partition(".")[0]
    return _file(top) is not None and PathFinder.find_spec(top) is None


@cache
def _file(module: str) -> Path | None:
    """Return the file of a module of ours; None if there is none."""
    if module.partition(".")[0] == "ganvas":
        return None  # has one name everywhere
    base = ROOT.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if module and file.is_file()), None)


@cache
def _names(module: str) -> frozenset[str] | None:
    """Return the names that can be imported from a module of ours, also by its former path; None if there is none."""
    if module in moved.MOVED:
        former = {new: old for old, new in moved.RENAMED.get(module, {}).items()}
        names = {name for home in moved.MOVED[module].split() for name in _names(home) or ()}
        return frozenset(names | {former[name] for name in names & former.keys()})
    file = _file(module)
    if file is None:
        return None
    beside = file.parent.iterdir() if file.name == "__init__.py" else ()
    inner = {path.stem for path in beside if path.suffix == ".py" or (path / "__init__.py").is_file()}
    inner |= {name.rpartition(".")[2] for name in moved.MOVED if name.rpartition(".")[0] == module}
    return frozenset(inner | set(_bound(ast.parse(file.read_bytes()).body)))


def _bound(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements bind, those inside `if` and `try` too."""
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.If | ast.Try):
            yield from _bound([*node.body, *node.orelse])
        else:
            yield from (name.id for name in ast.walk(node) if isinstance(name, ast.Name))
